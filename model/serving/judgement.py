"""A judgement: one set of pictures on disk, decided as a replica decides a frame."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.decoder import Picture, decode_planes
from model.data.planes import MODALITIES, Box, PlaneError, Planes, crop_planes, in_millimetres
from model.data.quality import faults, measure
from model.serving.predictor import Predictor


def judge(
    predictor: Predictor,
    files: Mapping[str, Path],
    face_box: Box | None = None,
    unit_mm: float = 1.0,
) -> dict[str, Any]:
    """Return the decision on a face, and all that it rests on, in a form that JSON can hold.

    Unlike a replica's, the score of a face that gets `no_decision` is there too, to look into it.

    Args:
        predictor: of the bundle.
        files: JPEG or PNG files by modality, at least one.
        face_box: (x, y, w, h) px of the first modality there is; None: the pictures are face crops.
        unit_mm: millimetres per count of 16-bit depth.

    Raises:
        model.data.planes.PlaneError: a file can't be read, a plane is not what it must be, or its
            depth is of another kind than the bundle's.
    """
    planes = _planes(predictor, files, face_box, unit_mm)
    found = faults(measure(planes), predictor.quality)
    threshold = predictor.threshold_for(planes.present)
    prediction = predictor.predict([planes])
    score = float(prediction.scores[0])
    decision, reason = "no_decision", None
    if found:
        reason = "low_quality"
    elif threshold is None:
        reason = "modality_missing"
    else:
        decision = "bona_fide" if score >= threshold else "attack"
    return {
        "decision": decision,
        "reason": reason,
        "score": round(score, 6),
        "threshold": threshold,
        "modalities": list(planes.present),
        "faults": found,
        "evidence": prediction.evidence_of(0),
        "model": predictor.model_id,
    }


def _planes(
    predictor: Predictor, files: Mapping[str, Path], face_box: Box | None, unit_mm: float
) -> Planes:
    pictures = {}
    for name, file in files.items():
        try:
            pictures[name] = Picture.of_file(file.read_bytes())
        except OSError as error:
            raise PlaneError(f"{name}: {file} can't be read: {error.strerror}") from error
    pixels = decode_planes(pictures)
    rgb, depth, ir = (pixels.get(name) for name in MODALITIES)
    planes = crop_planes(rgb, depth, ir, face_box, predictor.size, predictor.crop_margin)
    if planes.depth is not None and planes.depth_kind != predictor.depth_kind:
        raise PlaneError(
            f"depth is {planes.depth_kind}, {predictor.model_id} takes {predictor.depth_kind}"
        )
    return in_millimetres(planes, unit_mm)
