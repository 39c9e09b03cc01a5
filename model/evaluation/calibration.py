"""Calibration: a threshold for each set of modalities, with what is known about it.

The target is met with confidence, not just on the sample: the upper end of the rate's one-sided
Clopper-Pearson interval must not exceed it. A sample that is too small to show that is refused.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset
from model.data.planes import MODALITIES, SUBSETS
from model.errors import ModelError, check_choice, check_number
from model.evaluation.drift import figures_of, reference_of
from model.evaluation.metrics import MetricError, Rate, judge, refuse_swapped
from model.evaluation.scoring import Jitter, score_all_sets
from model.network.device import default_device
from model.runs.progress import Advance, ignore
from model.serving.bundle import Bundle, Threshold

Target = Literal["apcer", "bpcer"]
# A set of modalities whose other error rate is higher than this gets no threshold: such frames then
# get `no_decision`, instead of a guess or of a door that stays locked for no visible reason.
_MAX_OTHER = {"apcer": 0.3, "bpcer": 0.1}
# Bona fide presentations refused at the bundle's own threshold before a list of bona fide alone is
# taken for a list of attacks.
_MAX_REFUSED = 0.75


class CalibrationError(ModelError):
    """The sample can't support the target; the message says what it takes."""


class Goal(NamedTuple):
    """What the thresholds must meet.

    Attributes:
        target: error rate that is limited: `apcer`, of the worst species, or `bpcer`.
        rate: its limit, (0, 1).
        confidence: with which the limit is shown, [0.5, 1).
    """

    target: Target
    rate: float
    confidence: float = 0.95

    def check(self) -> None:
        """Return if the fields make sense.

        Raises:
            SettingError: a field breaks its rule.
        """
        check_choice("target", self.target, tuple(_MAX_OTHER))
        check_number(self.target, self.rate, 1e-9, 1 - 1e-9)
        check_number("confidence", self.confidence, 0.5, 1 - 1e-9)


def calibrate(  # noqa: PLR0913, PLR0917 - the goal's three parts are what a caller types
    bundle: Bundle,
    dataset: Dataset,
    target: Target,
    rate: float,
    confidence: float = 0.95,
    required: Sequence[str] | None = None,
    advance: Advance = ignore,
    jitter: Jitter | None = None,
) -> Bundle:
    """Return a new version of a bundle, with thresholds that meet a target; not yet saved.

    Bona fide presentations alone are enough for the target `bpcer`. APCER is then unknown, so only
    the sets of modalities that the bundle has a threshold for get a new one.

    Args:
        bundle: its thresholds are replaced.
        dataset: subjects that the network was not trained on; one site, one kind of camera.
        target: error rate that is limited: `apcer`, of the worst species, or `bpcer`.
        rate: its limit, (0, 1).
        confidence: with which the limit is shown, [0.5, 1).
        required: modalities without which the new version makes no decision; None: those of
            the bundle.
        advance: called with the amount of work done, in sets of modalities.
        jitter: of the face boxes, as those of a site's detector differ; None: none.

    Raises:
        SettingError: an argument breaks its rule.
        CalibrationError: the sample is too small, or with all modalities the other error rate is
            too high.
        model.evaluation.scoring.DepthKindMismatch: the depth is of another kind than the network's.
        model.evaluation.metrics.MetricError: a class is empty, the classes are swapped, or a
            score is not a number.
    """
    goal = Goal(target, rate, confidence)
    goal.check()
    required = bundle.required if required is None else required
    for name in required:
        check_choice("required", name, MODALITIES)
    has_attacks = bool((dataset.label == 0).any())
    if target == "apcer" and not has_attacks:
        raise CalibrationError("APCER needs attack presentations, the list has bona fide alone")
    thresholds: dict[str, Threshold] = {}
    network = bundle.network.to(default_device())
    scores_of = score_all_sets(network, dataset, advance, jitter)
    for modalities in SUBSETS:
        key = "+".join(modalities)
        if not set(required) <= set(modalities) or not (has_attacks or key in bundle.thresholds):
            continue
        scores = scores_of[key]
        if modalities == MODALITIES:
            _refuse_swapped(scores, dataset, bundle)
        made = _threshold(scores, dataset, goal)
        other = made.calibration["bpcer" if target == "apcer" else "apcer"]
        if other is None or other <= _MAX_OTHER[target]:
            thresholds[key] = made
        elif modalities == MODALITIES:
            raise CalibrationError(
                f"at {target} {rate:g} the other error rate is {other:.1%} with all modalities: "
                "this bundle does not fit these data"
            )
    bona_fide = dataset.taken(np.flatnonzero(dataset.label == 1))
    kept = reference_of(figures_of(scores_of["+".join(MODALITIES)][dataset.label == 1], bona_fide))
    return replace(
        bundle,
        network=network.cpu(),
        about={**bundle.about, "reference": kept},
        thresholds=thresholds,
        required=tuple(name for name in MODALITIES if name in required),
    )


def allowed_errors(trials: int, rate: float, confidence: float) -> int:
    """Return the most errors in `trials` that show a rate of at most `rate`; -1: not even none do.

    Args:
        trials: number of presentations.
        rate: limit of the error rate, (0, 1).
        confidence: of the one-sided interval, [0.5, 1).
    """

    def upper(errors: int) -> float:
        return _upper(Rate(errors, trials), confidence)

    return bisect_right(range(trials), rate, key=upper) - 1


def _refuse_swapped(scores: NDArray[np.float64], dataset: Dataset, bundle: Bundle) -> None:
    if (dataset.label == 0).any():
        refuse_swapped(scores, dataset.label)
        return
    refused = float((scores < bundle.thresholds["+".join(MODALITIES)].value).mean())
    if refused > _MAX_REFUSED:
        raise MetricError(
            f"{refused:.1%} of the list's bona fide presentations are refused by the bundle as it "
            "is: the labels are swapped, or it does not fit these data; 1 must be bona fide in "
            "lists of four columns"
        )


def _threshold(scores: NDArray[np.float64], dataset: Dataset, goal: Goal) -> Threshold:
    pick = _for_apcer if goal.target == "apcer" else _for_bpcer
    value = pick(scores, dataset, goal)  # above 1 where attacks saturate: then none may pass
    rule = f"{goal.target} at most {goal.rate:g} with {goal.confidence:.0%} confidence"
    return Threshold(value, {"rule": rule, **_figures(scores, dataset, value, goal.confidence)})


def _for_apcer(scores: NDArray[np.float64], dataset: Dataset, goal: Goal) -> float:
    names = np.asarray(dataset.species)
    threshold = 0.0
    for species in sorted(set(dataset.species) - {"bona_fide"}):
        attacks = np.sort(scores[names == species])[::-1]
        allowed = _allowed(species, len(attacks), goal)
        threshold = max(threshold, float(np.nextafter(attacks[allowed], np.inf)))
    return threshold


def _for_bpcer(scores: NDArray[np.float64], dataset: Dataset, goal: Goal) -> float:
    bona_fide = np.sort(scores[dataset.label == 1])
    return float(bona_fide[_allowed("bona_fide", len(bona_fide), goal)])


def _allowed(species: str, trials: int, goal: Goal) -> int:
    allowed = allowed_errors(trials, goal.rate, goal.confidence)
    if allowed < 0:
        needed = math.ceil(math.log(1 - goal.confidence) / math.log(1 - goal.rate))
        raise CalibrationError(
            f"{species}: {trials} presentations can't show a rate of at most {goal.rate:g} with "
            f"{goal.confidence:.0%} confidence; it takes {needed} without an error"
        )
    return allowed


def _upper(rate: Rate, confidence: float) -> float:
    """Return the upper end of the one-sided interval."""
    return rate.interval(2 * confidence - 1)[1]


def _figures(
    scores: NDArray[np.float64], dataset: Dataset, value: float, confidence: float
) -> dict[str, Any]:
    if not (dataset.label == 0).any():
        bpcer = Rate(int((scores < value).sum()), len(scores))
        apcers = {"apcer": None, "apcer_upper": None, "worst_species": None}
        return {**apcers, **_bpcer_figures(bpcer, confidence), "attacks": {}}
    report = judge(scores, dataset.species, value)
    worst = max(report.apcer_of, key=lambda name: report.apcer_of[name].value)
    return {
        "apcer": round(report.apcer, 6),
        "apcer_upper": round(max(_upper(x, confidence) for x in report.apcer_of.values()), 6),
        "worst_species": worst,
        **_bpcer_figures(report.bpcer, confidence),
        "attacks": {name: each.trials for name, each in report.apcer_of.items()},
    }


def _bpcer_figures(bpcer: Rate, confidence: float) -> dict[str, Any]:
    return {
        "bpcer": round(bpcer.value, 6),
        "bpcer_upper": round(_upper(bpcer, confidence), 6),
        "bona_fide": bpcer.trials,
    }
