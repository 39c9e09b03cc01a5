"""Verdicts on presentations by simulation: what the sequential test makes of scored frames.

A data set has single frames. Frames of one subject and one species stand for those of one
presentation: they share the face and the instrument, not the second. So they are less alike than
frames of a camera are, and what is found here is a lower bound of the error rates and of the
correlation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.serving.presentations import ErrorRates, SequentialTest, frame_evidence

BONA_FIDE = "bona_fide"
_SEED = 20
VERDICTS = ("bona_fide", "attack", "undecided")


@dataclass(frozen=True)
class Simulated:
    """What became of the presentations of one species, or of bona fide ones.

    Attributes:
        presentations: how many subjects there are.
        verdicts: part of the simulated presentations with each verdict, [0, 1].
        frames: median number of frames up to the verdict.
        correlation: of the decisions on two frames of one presentation; None where all decisions
            are the same.
    """

    presentations: int
    verdicts: Mapping[str, float]
    frames: float
    correlation: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it in a form that JSON can hold."""
        return {
            "presentations": self.presentations,
            **{name: round(part, 6) for name, part in self.verdicts.items()},
            "frames": self.frames,
            "correlation": None if self.correlation is None else round(self.correlation, 3),
        }


def simulate(
    accepted: NDArray[np.bool_],
    species: Sequence[str],
    subjects: Sequence[str],
    rates: ErrorRates,
    test: SequentialTest,
    repeats: int = 20,
) -> dict[str, Simulated]:
    """Return what becomes of presentations, by species.

    Args:
        accepted: (N,), the frame's score reached its threshold.
        species: (N,), of each frame; `bona_fide` for those.
        subjects: (N,), who is before the camera.
        rates: of the threshold.
        test: what the frames are put to.
        repeats: orders in which each presentation's frames are shown.
    """
    random = np.random.default_rng(_SEED)
    groups: dict[str, dict[str, list[int]]] = {}
    for row, (name, subject) in enumerate(zip(species, subjects, strict=True)):
        groups.setdefault(name, {}).setdefault(subject, []).append(row)
    return {
        name: _of_species(
            [accepted[rows] for rows in of_subjects.values()], rates, test, repeats, random
        )
        for name, of_subjects in sorted(groups.items())
    }


def figures(simulated: Mapping[str, Simulated]) -> dict[str, Any]:
    """Return the error rates of presentations, in a form that JSON can hold.

    `apcer` is of the worst species, `bpcer` counts bona fide presentations without a `bona_fide`.
    """
    attacks = {name: each for name, each in simulated.items() if name != BONA_FIDE}
    worst = max(attacks, key=lambda name: attacks[name].verdicts["bona_fide"], default=None)
    genuine = simulated.get(BONA_FIDE)
    return {
        "apcer": None if worst is None else round(attacks[worst].verdicts["bona_fide"], 6),
        "worst_species": worst,
        "bpcer": None if genuine is None else round(1 - genuine.verdicts["bona_fide"], 6),
        "of": {name: each.to_dict() for name, each in simulated.items()},
    }


def correlation(groups: Sequence[NDArray[np.bool_]]) -> float | None:
    """Return the intraclass correlation of decisions, at most 1; None: all are the same.

    Source: the analysis of variance estimator, Fleiss, Levin and Paik, Statistical Methods for
    Rates and Proportions (2003), section 15.3.

    Args:
        groups: decisions on the frames of each presentation.
    """
    several = [group.astype(float) for group in groups if len(group) > 1]
    sizes = np.array([len(group) for group in several], float)
    total = sizes.sum()
    if len(several) < 2:
        return None
    means = np.array([group.mean() for group in several])
    overall = float((means * sizes).sum() / total)
    between = float((sizes * (means - overall) ** 2).sum() / (len(several) - 1))
    within = float((sizes * means * (1 - means)).sum() / (total - len(several)))
    if between == within == 0:
        return None
    typical = (total - (sizes**2).sum() / total) / (len(several) - 1)
    return float((between - within) / (between + (typical - 1) * within))


def _of_species(
    groups: Sequence[NDArray[np.bool_]],
    rates: ErrorRates,
    test: SequentialTest,
    repeats: int,
    random: np.random.Generator,
) -> Simulated:
    evidence = {each: frame_evidence(rates, is_accepted=each) for each in (False, True)}
    counts, needed = dict.fromkeys(VERDICTS, 0), []
    for group in groups:
        for _ in range(repeats):
            verdict, num_frames = _present(random.permutation(group), evidence, test)
            counts[verdict] += 1
            needed.append(num_frames)
    shown = max(1, len(groups) * repeats)
    return Simulated(
        presentations=len(groups),
        verdicts={name: count / shown for name, count in counts.items()},
        frames=float(np.median(needed)),
        correlation=correlation(groups),
    )


def _present(
    decisions: NDArray[np.bool_], evidence: Mapping[bool, float], test: SequentialTest
) -> tuple[str, int]:
    """Return the verdict on one presentation, and after how many frames; it may end before one."""
    total = 0.0
    for number, is_accepted in enumerate(decisions, start=1):
        total += evidence[bool(is_accepted)]
        if (verdict := test.verdict(total, number)) is not None:
            return verdict, number
    return "undecided", len(decisions)
