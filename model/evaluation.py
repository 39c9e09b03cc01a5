"""Evaluation: a bundle on a list file, for each set of modalities that a frame can have."""

from typing import Any

from model.bundle import Bundle
from model.dataset import Dataset, subsets
from model.metrics import Rate, judge
from model.training import score

_NO_THRESHOLD = "no threshold: such frames get no_decision"


def evaluate(bundle: Bundle, dataset: Dataset) -> dict[str, Any]:
    """Return error rates at the bundle's thresholds, with their 95 % intervals.

    Args:
        bundle: from `model.bundle.load_bundle`.
        dataset: of subjects that the bundle was neither trained nor calibrated on.
    """
    results: dict[str, Any] = {}
    for modalities in subsets():
        key = "+".join(modalities)
        threshold = bundle.threshold_for(modalities)
        if threshold is None:
            results[key] = _NO_THRESHOLD
            continue
        report = judge(score(bundle.network, dataset, modalities), dataset.species, threshold)
        results[key] = {
            "threshold": round(threshold, 4),
            "APCER": round(report.apcer, 5),
            "BPCER": _told(report.bpcer),
            "ACER": round(report.acer, 5),
            "APCER_pooled": _told(report.apcer_pooled),
            "APCER_of": {name: _told(rate) for name, rate in report.apcer_of.items()},
        }
    return results


def _told(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval()
    return {
        "errors": rate.count,
        "trials": rate.trials,
        "rate": round(rate.value, 5),
        "interval": [round(low, 5), round(high, 5)],
    }
