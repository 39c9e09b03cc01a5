"""Release: a trained network with first thresholds, a self-test and its record, as a bundle.

The thresholds are where both error rates are equal on the validation list. `livegate calibrate`
replaces them by thresholds that meet a target.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset
from model.data.planes import MODALITIES, SUBSETS, PlaneBatch
from model.data.quality import QualityLimits
from model.errors import ModelError
from model.evaluation.metrics import Report, equal_error, judge
from model.evaluation.scoring import score_all_sets
from model.network.mmfcnn import FusionNetwork
from model.serving.bundle import Bundle, Threshold

_SELFTESTS_PER_CLASS = 3
# A set of modalities with which some species passes more often than this gets no threshold: frames
# that have only these then get `no_decision` instead of a guess.
_MAX_APCER = 0.05


class TrainingError(ModelError):
    """Training did not give a network that can be released; the message says why."""


def release(
    name: str,
    network: FusionNetwork,
    val_set: Dataset,
    about: Mapping[str, Any],
) -> Bundle:
    """Return the bundle of a trained network; not yet saved.

    Args:
        name: of the bundle.
        network: trained; on the CPU.
        val_set: of subjects that it was not trained on.
        about: record of the training, to which the validation figures are added as `val`.

    Raises:
        TrainingError: the network does not separate the classes on `val_set`.
    """
    thresholds, figures = {}, {}
    scores_of = score_all_sets(network, val_set)
    for modalities in SUBSETS:
        key = "+".join(modalities)
        scores = scores_of[key]
        value = _equal_error_threshold(scores, val_set.label)
        report = judge(scores, val_set.species, value)
        figures[key] = _figures(report)
        if report.apcer <= _MAX_APCER or modalities == MODALITIES:
            thresholds[key] = Threshold(value, {"rule": "equal error on val", **figures[key]})
    scores = scores_of["+".join(MODALITIES)]
    rows = _selftest_rows(scores, val_set.label, thresholds["+".join(MODALITIES)].value)
    return Bundle(
        name=name,
        network=network.eval(),
        crop_margin=val_set.served_margin,
        quality=QualityLimits.for_size(network.config.size),
        thresholds=thresholds,
        selftest=PlaneBatch(*(plane.numpy() for plane in val_set.batch(rows))),
        selftest_scores=scores[rows].astype(np.float32),
        about={**about, "val": figures},
    )


def _equal_error_threshold(scores: NDArray[np.float64], label: NDArray[np.int64]) -> float:
    """Return a threshold at the equal error rate, halfway down to the next lower score.

    The score at which the rates are equal is one that was observed. Where the classes are separable
    it is the lowest of bona fide, and may be all of them once scores saturate: every bona fide
    sample would then lie on the threshold itself.
    """
    value = equal_error(scores, label)[1]
    lower = scores[scores < value]
    if len(lower):
        value = max((value + lower.max()) / 2, float(np.nextafter(lower.max(), np.inf)))
    return float(np.clip(value, 0, 1))


def _selftest_rows(
    scores: NDArray[np.float64], label: NDArray[np.int64], threshold: float
) -> NDArray[np.int64]:
    """Return rows of both classes that are decided right, away from the threshold."""
    chosen: list[int] = []
    for value in (1, 0):
        margin = (scores - threshold) * (1 if value else -1)
        order = np.argsort(-margin, kind="stable")
        right = order[(label[order] == value) & (margin[order] > 0)]
        if not len(right):
            name = "bona fide" if value else "attack"
            raise TrainingError(
                f"no {name} presentation of the validation list is decided right: the network has "
                "learned nothing; check the lists, train longer, or lower the learning rate"
            )
        # The 60 % that are farthest from it; the fewer near it depend on rounding.
        right = right[: max(_SELFTESTS_PER_CLASS, int((label == value).sum() * 0.6))]
        step = max(1, len(right) // _SELFTESTS_PER_CLASS)
        chosen += right[::step][:_SELFTESTS_PER_CLASS].tolist()
    return np.array(chosen, np.int64)


def _figures(report: Report) -> dict[str, Any]:
    trials = sum(rate.trials for rate in report.apcer_of.values())
    return {
        "bona_fide": report.bpcer.trials,
        "attacks": trials,
        "apcer": round(report.apcer, 5),
        "apcer_pooled": round(report.apcer_pooled.value, 5),
        "bpcer": round(report.bpcer.value, 5),
        "bpcer_interval": [round(end, 5) for end in report.bpcer.interval()],
    }
