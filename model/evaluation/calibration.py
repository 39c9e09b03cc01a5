"""Calibration: a threshold for each set of modalities, with what is known about it.

The target is met with confidence, not on the sample: the upper end of the rate's one-sided
Clopper-Pearson interval must not exceed it. A sample that is too small to say so is refused.
"""

import math
from bisect import bisect_right
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, subsets
from model.data.planes import MODALITIES
from model.errors import ModelError
from model.evaluation.metrics import Rate, judge, refuse_swapped
from model.evaluation.scoring import score
from model.network.mmfcnn import default_device
from model.serving.bundle import Bundle, Threshold

Target = Literal["apcer", "bpcer"]
# A set of modalities whose other rate is worse than this gets no threshold: such frames then get
# `no_decision`, neither a guess nor a locked door that nobody can explain.
_MAX_OTHER = {"apcer": 0.3, "bpcer": 0.1}


class CalibrationError(ModelError):
    """The sample can't support the target; the message says what it takes."""


def calibrate(
    bundle: Bundle, dataset: Dataset, target: Target, rate: float, confidence: float = 0.95
) -> Bundle:
    """Return the bundle with thresholds for a target rate, a new version of it; not yet saved.

    Args:
        bundle: its thresholds are replaced.
        dataset: of subjects that the network was not trained on; one site, one kind of camera.
        target: `apcer`, of the worst species, or `bpcer`.
        rate: that it must not exceed, (0, 1).
        confidence: of saying so, (0, 1).

    Raises:
        CalibrationError: the sample is too small, or all modalities together miss the target's
            other side.
        model.evaluation.metrics.MetricError: a class is empty, the classes are swapped, or a
            score is not a number.
    """
    if not 0 < rate < 1:
        raise CalibrationError(f"the target must be between 0 and 1, is {rate}")
    thresholds: dict[str, Threshold] = {}
    network = bundle.network.to(default_device())
    for modalities in subsets():
        scores = score(network, dataset, modalities)
        if modalities == MODALITIES:
            refuse_swapped(scores, dataset.label)
        pick = _for_apcer if target == "apcer" else _for_bpcer
        value = pick(scores, dataset, rate, confidence)  # above 1 where attacks saturate: none pass
        found = _figures(scores, dataset, value, target, rate, confidence)
        other = found["bpcer"] if target == "apcer" else found["apcer"]
        if other <= _MAX_OTHER[target]:
            thresholds["+".join(modalities)] = Threshold(value, found)
        elif modalities == MODALITIES:
            raise CalibrationError(
                f"at {target} {rate:g} the other error rate is {other:.1%} with all modalities: "
                "this bundle does not fit these data"
            )
    return replace(bundle, network=network.cpu(), thresholds=thresholds)


def allowed_errors(trials: int, rate: float, confidence: float) -> int:
    """Return the most errors of which one can say that the rate is not above `rate`; -1: none."""

    def upper(errors: int) -> float:
        return _upper(Rate(errors, trials), confidence)

    return bisect_right(range(trials), rate, key=upper) - 1


def _for_apcer(
    scores: NDArray[np.float64], dataset: Dataset, rate: float, confidence: float
) -> float:
    names = np.asarray(dataset.species)
    threshold = 0.0
    for species in sorted(set(dataset.species) - {"bona_fide"}):
        attacks = np.sort(scores[names == species])[::-1]
        allowed = _allowed(species, len(attacks), rate, confidence)
        threshold = max(threshold, float(np.nextafter(attacks[allowed], np.inf)))
    return threshold


def _for_bpcer(
    scores: NDArray[np.float64], dataset: Dataset, rate: float, confidence: float
) -> float:
    bona_fide = np.sort(scores[dataset.label == 1])
    return float(bona_fide[_allowed("bona_fide", len(bona_fide), rate, confidence)])


def _allowed(species: str, trials: int, rate: float, confidence: float) -> int:
    allowed = allowed_errors(trials, rate, confidence)
    if allowed < 0:
        needed = math.ceil(math.log(1 - confidence) / math.log(1 - rate))
        raise CalibrationError(
            f"{species}: {trials} presentations can't show a rate of at most {rate:g} with "
            f"{confidence:.0%} confidence; it takes {needed} without an error"
        )
    return allowed


def _upper(rate: Rate, confidence: float) -> float:
    """Return the upper end of the one-sided interval."""
    return rate.interval(2 * confidence - 1)[1]


def _figures(
    scores: NDArray[np.float64],
    dataset: Dataset,
    value: float,
    target: Target,
    rate: float,
    confidence: float,
) -> dict[str, Any]:
    report = judge(scores, dataset.species, value)
    worst = max(report.apcer_of, key=lambda name: report.apcer_of[name].value)
    return {
        "rule": f"{target} at most {rate:g} with {confidence:.0%} confidence",
        "apcer": round(report.apcer, 6),
        "apcer_upper": round(max(_upper(x, confidence) for x in report.apcer_of.values()), 6),
        "worst_species": worst,
        "bpcer": round(report.bpcer.value, 6),
        "bpcer_upper": round(_upper(report.bpcer, confidence), 6),
        "bona_fide": report.bpcer.trials,
        "attacks": {name: each.trials for name, each in report.apcer_of.items()},
    }
