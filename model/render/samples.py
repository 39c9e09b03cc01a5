"""The sample set that simulated cameras play: whole camera frames with a face box."""

import json
import tempfile
from pathlib import Path

import cv2

from model.render.attacks import BONA_FIDE, OTHERS, PRINTS
from model.render.presentation import RenderedFrame, present

# Far above any data set's subjects: nobody in the sample set was trained or calibrated on.
_FIRST_SUBJECT = 900_000
_FRAMES = 3
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 90]


def render_samples(folder: Path, bona_fide: int = 30, of_each_attack: int = 4) -> Path:
    """Render the set, whole or not at all, and return its folder.

    Args:
        folder: must not exist.
        bona_fide: number of bona fide presentations, each of another subject.
        of_each_attack: presentations of each print; half as many of each other species.
    """
    attacks = [name for name in PRINTS for _ in range(of_each_attack)]
    attacks += [name for name in OTHERS for _ in range(of_each_attack // 2)]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        partial = Path(name) / folder.name
        partial.mkdir()
        rows = []
        for index, species in enumerate([BONA_FIDE] * bona_fide + attacks):
            subject = _FIRST_SUBJECT + index
            frames = present(
                species, subject, subject + 1000, subject, num_frames=_FRAMES, trouble="none"
            )
            rows.append(
                {
                    "id": f"p{index:03d}",
                    "subject": subject,
                    "species": species,
                    "label": int(species == BONA_FIDE),
                    "frames": [
                        _write(frame, partial, f"p{index:03d}_{number}")
                        for number, frame in enumerate(frames)
                    ],
                }
            )
        lines = ",\n".join(json.dumps(row) for row in rows)
        (partial / "samples.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        partial.rename(folder)
    return folder


def _write(frame: RenderedFrame, folder: Path, name: str) -> dict[str, object]:
    files = {"rgb": f"{name}_rgb.jpg", "depth": f"{name}_depth.png", "ir": f"{name}_ir.jpg"}
    cv2.imwrite(str(folder / files["rgb"]), cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR), _JPEG)
    cv2.imwrite(str(folder / files["depth"]), frame.depth, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    cv2.imwrite(str(folder / files["ir"]), frame.ir, _JPEG)
    return {**files, "face_box": list(frame.face_box)}
