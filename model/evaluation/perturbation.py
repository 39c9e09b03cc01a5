"""Evaluation of a bundle on faces that were changed in a known way.

Two kinds of change. Some leave a presentation what it was: holes in depth filled or added, the face
box a little off. Error rates must not move by them. Others make an attack of a bona fide frame: a
plane that shows noise, another person, a picture, or the same scene shifted. Nearly none may pass.
Each face goes through the same crop, quality gates, network and threshold as a served frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.planes import MODALITIES, Planes, collate, crop_planes
from model.data.quality import faults, measure
from model.data.readers import Sample
from model.data.tampering import (
    Change,
    Face,
    blobs,
    box_moved,
    ellipsoid,
    face_of,
    grey_as_ir,
    holes_filled,
    noised,
    replaced,
    shaded_ellipse,
    shifted,
    with_holes,
)
from model.data.tensors import tensors
from model.evaluation.metrics import MetricError, Rate
from model.network.mmfcnn import BONA_FIDE
from model.serving.bundle import Bundle

# What an audit allows: how far rates may move by what changes nothing, which part of the refused
# attacks may pass by another box, and which part of what a change made an attack.
MAX_MOVED, MAX_TURNED, MAX_PASSED = 0.01, 0.01, 0.05
_BATCH = 64


@dataclass(frozen=True)
class Perturbation:
    """A change of faces.

    Attributes:
        name: what is done.
        change: does it.
        makes_attack: whether what was bona fide is an attack afterwards.
        moves_box: whether it moves the box alone: then `MAX_TURNED` counts, not `MAX_MOVED`.
        other: species of the face that `change` gets beside: None for bona fide.
        tries: how often an attack may try; it passes if it passes once.
    """

    name: str
    change: Change
    makes_attack: bool
    moves_box: bool = False
    other: tuple[str, ...] | None = None
    tries: int = 1


@dataclass(frozen=True)
class Outcome:
    """What became of faces.

    Attributes:
        bpcer: bona fide that were not accepted; None where the change made attacks of them.
        apcer_of: attacks that were accepted, per species.
        turned: attacks that were refused before the change and accepted after it.
    """

    bpcer: Rate | None
    apcer_of: dict[str, Rate]
    turned: Rate

    @property
    def apcer_pooled(self) -> Rate:
        """All species together."""
        rates = self.apcer_of.values()
        return Rate(sum(rate.count for rate in rates), sum(rate.trials for rate in rates))


def read_faces(samples: Sequence[Sample], limit: int, seed: int = 0) -> list[Face]:
    """Read at most `limit` bona fide samples, and as many attacks, in equal parts by species."""
    rng = np.random.default_rng(seed)
    by_species: dict[str, list[Sample]] = {}
    for row in rng.permutation(len(samples)):
        by_species.setdefault(samples[row].species, []).append(samples[row])
    each = max(1, limit // max(1, len(by_species) - 1))
    chosen = [
        sample
        for species, group in sorted(by_species.items())
        for sample in group[: limit if species == "bona_fide" else each]
    ]
    return [face_of(sample) for sample in chosen]


def outcomes(
    bundle: Bundle, faces: Sequence[Face], changes: Sequence[Perturbation], seed: int = 0
) -> dict[str, Outcome]:
    """Return what becomes of faces, as they are ("none") and after each change.

    Raises:
        model.evaluation.metrics.MetricError: the bundle has no threshold for all modalities, or
            there are no faces of a class.
    """
    threshold = bundle.threshold_for(MODALITIES)
    if threshold is None:
        raise MetricError(f"{bundle.name} has no threshold for {'+'.join(MODALITIES)}")
    if len({face.is_bona_fide for face in faces}) < 2:
        raise MetricError("bona fide and attack presentations are needed")
    before = accepted(bundle, faces, threshold)
    found = {"none": _outcome(faces, before, before, makes_attack=False)}
    for number, each in enumerate(changes):
        rng = np.random.default_rng([seed, number])
        chosen = [at for at, face in enumerate(faces) if face.is_bona_fide or not each.makes_attack]
        after = np.zeros(len(chosen), np.bool_)
        for tried in range(each.tries):
            others = _others(faces, chosen, each.other, rng)
            changed = [
                each.change(faces[at], other, rng) for at, other in zip(chosen, others, strict=True)
            ]
            # A person is judged by the first frame, an attack by the one that goes best for it.
            counts = [tried == 0 or not faces[at].is_bona_fide for at in chosen]
            after |= accepted(bundle, changed, threshold) & np.array(counts)
        found[each.name] = _outcome(
            [faces[at] for at in chosen], before[chosen], after, makes_attack=each.makes_attack
        )
    return found


def table(found: dict[str, Outcome]) -> str:
    """Return outcomes as text, a change a line."""
    wide = max(map(len, found))
    lines = [f"{'change':{wide}} {'BPCER':>8} {'APCER':>8} {'turned':>8}  most accepted species"]
    for name, after in found.items():
        worst, rate = max(after.apcer_of.items(), key=lambda each: each[1].value)
        bpcer = "" if after.bpcer is None else f"{after.bpcer.value:.1%}"
        lines.append(
            f"{name:{wide}} {bpcer:>8} {after.apcer_pooled.value:8.1%} {after.turned.value:8.1%}  "
            f"{worst} ({rate.count} of {rate.trials})"
        )
    return "\n".join(lines)


def findings(found: dict[str, Outcome], changes: Sequence[Perturbation]) -> list[str]:
    """Return which changes move more than they may."""
    told, before = [], found["none"]
    for each in changes:
        after = found[each.name]
        passed = after.apcer_pooled.value
        if each.makes_attack:
            if passed > MAX_PASSED:
                told.append(f"{each.name}: {passed:.1%} pass, at most {MAX_PASSED:.0%} may")
        elif each.moves_box:
            if after.turned.value > MAX_TURNED:
                told.append(
                    f"{each.name}: {after.turned.value:.1%} of the refused attacks pass, at most "
                    f"{MAX_TURNED:.0%} may"
                )
        else:
            moved = {
                "BPCER": _value(after.bpcer) - _value(before.bpcer),
                "APCER": passed - before.apcer_pooled.value,
            }
            told += [
                f"{each.name}: {name} moves by {by:+.1%}, at most {MAX_MOVED:.0%} is allowed"
                for name, by in moved.items()
                if abs(by) > MAX_MOVED
            ]
    return told


def _value(rate: Rate | None) -> float:
    return float("nan") if rate is None else rate.value


def accepted(bundle: Bundle, faces: Sequence[Face], threshold: float) -> NDArray[np.bool_]:
    """Return which faces pass the quality gates and a threshold, (N,)."""
    planes = [_cropped(bundle, face) for face in faces]
    good = np.array([not faults(measure(each, None), bundle.quality) for each in planes])
    passed: NDArray[np.bool_] = good & (score_planes(bundle, planes) >= threshold)
    return passed


def score_planes(bundle: Bundle, planes: Sequence[Planes]) -> NDArray[np.float64]:
    """Return the bona fide scores of face crops, (N,)."""
    network, scores = bundle.network.eval(), []
    for start in range(0, len(planes), _BATCH):
        stored = tensors(collate(planes[start : start + _BATCH]))
        with torch.inference_mode():
            logits = network(stored.to(network.device)).logits.double()
        scores.append(logits.softmax(1)[:, BONA_FIDE].cpu().numpy())
    return np.concatenate(scores)


def _cropped(bundle: Bundle, face: Face) -> Planes:
    size, margin = bundle.config.size, bundle.crop_margin
    return crop_planes(face.rgb, face.depth, face.ir, face.box, size, margin)


def _outcome(
    faces: Sequence[Face],
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    *,
    makes_attack: bool,
) -> Outcome:
    kinds = np.array([face.species for face in faces])
    is_bona_fide = (kinds == "bona_fide") & (not makes_attack)
    attacks = sorted(set(kinds[~is_bona_fide].tolist()))
    refused = ~is_bona_fide & (~before | makes_attack)
    return Outcome(
        bpcer=None
        if makes_attack
        else Rate(int((~after[is_bona_fide]).sum()), int(is_bona_fide.sum())),
        apcer_of={
            name: Rate(int(after[kinds == name].sum()), int((kinds == name).sum()))
            for name in attacks
        },
        turned=Rate(int(after[refused].sum()), max(1, int(refused.sum()))),
    )


def _others(
    faces: Sequence[Face],
    chosen: Sequence[int],
    species: tuple[str, ...] | None,
    rng: np.random.Generator,
) -> list[Face]:
    """Return a face of another presentation for each chosen one."""
    wanted = [
        at
        for at, face in enumerate(faces)
        if (face.is_bona_fide if species is None else face.species.startswith(species))
    ] or list(range(len(faces)))
    picks = rng.choice(wanted, len(chosen))
    alone = len(wanted) == 1
    for row, at in enumerate(chosen):
        while picks[row] == at and not alone:
            picks[row] = rng.choice(wanted)
    return [faces[pick] for pick in picks]


_PICTURES = ("phone", "tablet", "0")
PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("all holes filled", holes_filled(), makes_attack=False),
    Perturbation("holes in the upper third filled", holes_filled(1 / 3), makes_attack=False),
    Perturbation("holes added, 10 %", with_holes(0.1), makes_attack=False),
    Perturbation(
        "holes added, 30 % of the upper third", with_holes(0.3, 1 / 3), makes_attack=False
    ),
    *(
        Perturbation(
            f"best of 5 boxes off by up to {part:.0%}",
            box_moved(part, part),
            makes_attack=False,
            moves_box=True,
            tries=5,
        )
        for part in (0.1, 0.2)
    ),
    *(Perturbation(f"{name} is noise", noised(name), makes_attack=True) for name in MODALITIES),
    *(
        Perturbation(f"{name} of another presentation", replaced(name), makes_attack=True)
        for name in MODALITIES
    ),
    *(
        Perturbation(f"{name} of a picture", replaced(name), makes_attack=True, other=_PICTURES)
        for name in MODALITIES
    ),
    *(
        Perturbation(f"{name} shifted by a quarter", shifted(name, 0.25), makes_attack=True)
        for name in MODALITIES
    ),
    Perturbation("ir is rgb turned grey", grey_as_ir, makes_attack=True),
    Perturbation("depth is an ellipsoid", ellipsoid, makes_attack=True),
    Perturbation("a shaded ellipse", shaded_ellipse, makes_attack=True),
    Perturbation("shaded blobs", blobs, makes_attack=True),
)
