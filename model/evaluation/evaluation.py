"""Evaluation: a bundle on a list file, for each set of modalities that a frame can have."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.augmentation import blinded
from model.data.dataset import Dataset
from model.data.planes import MODALITIES, SUBSETS, PlaneBatch
from model.data.quality import faults, measure
from model.data.tensors import PlaneTensors
from model.evaluation.metrics import (
    Rate,
    bpcer_at_apcer,
    equal_error,
    judge,
    refuse_swapped,
    tpr_at_fpr,
)
from model.evaluation.scoring import score
from model.network.device import default_device
from model.network.mmfcnn import FusionNetwork
from model.runs.progress import Advance, ignore
from model.serving.bundle import Bundle, selftest_rows

# False positive rates at which TPR is stated, and the attack presentations that it takes: about 3
# of them are then accepted.
FPRS = {1e-2: 300, 1e-3: 3_000, 1e-4: 30_000}
# Bona fide samples whose modality shares are averaged.
_MAX_BLINDED = 256


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores and error rates of a bundle on a data set.

    Attributes:
        bundle: the bundle.
        dataset: N samples of subjects that it was neither trained nor calibrated on.
        scores: (N,) bona fide scores in [0, 1], keyed by modalities such as `rgb+ir`.
        faults: for each sample, what the quality gates object to; [] for nothing.
        figures: all rates, in a form that JSON can hold.
    """

    bundle: Bundle
    dataset: Dataset
    scores: Mapping[str, NDArray[np.float64]]
    faults: tuple[list[str], ...]
    figures: dict[str, Any]


def evaluate(bundle: Bundle, dataset: Dataset, advance: Advance = ignore) -> Evaluation:
    """Score a data set and compute all rates, with their 95 % intervals.

    Args:
        bundle: the bundle.
        dataset: of subjects that the bundle was neither trained nor calibrated on.
        advance: called with the amount of work done, in sets of modalities, 7 in total.

    Raises:
        model.evaluation.scoring.DepthKindMismatch: the depth is of another kind than the network's.
        model.evaluation.metrics.MetricError: a class is empty, the classes are swapped, or a
            score is not a number.
    """
    network = bundle.network.to(default_device())
    scores = {"+".join(each): score(network, dataset, each, advance) for each in SUBSETS}
    refuse_swapped(scores["+".join(MODALITIES)], dataset.label)
    found = _faults(bundle, dataset)
    figures = {
        "bundle": bundle.model_id,
        "bundle_sha256": bundle.digest,
        "samples": dict(sorted(Counter(dataset.species).items())),
        "subsets": {
            key: subset_figures(values, dataset, bundle.threshold_for(key.split("+")))
            for key, values in scores.items()
        },
        "non_response": _non_response(dataset, found),
        "shares": shares_when_blind(network, dataset),
    }
    return Evaluation(bundle, dataset, scores, found, figures)


def subset_figures(
    scores: NDArray[np.float64], dataset: Dataset, threshold: float | None
) -> dict[str, Any]:
    """Return the rates for one set of modalities; those at a threshold only if there is one.

    TPR at a false positive rate pools all attacks, as CASIA-SURF does, and is not stated for fewer
    attacks than it takes.

    Args:
        scores: (N,) bona fide scores in [0, 1].
        dataset: the N samples.
        threshold: of the bundle, in [0, 1]; None: frames of this set get no decision.
    """
    is_bona_fide = dataset.label == 1
    attacks = int((~is_bona_fide).sum())
    bpcer20, _ = bpcer_at_apcer(scores, dataset.species, 0.05)
    figures: dict[str, Any] = {
        "EER": round(equal_error(scores, is_bona_fide)[0], 6),
        "BPCER20": with_interval(bpcer20),
        "TPR@FPR": {
            f"{fpr:.0e}": with_interval(tpr_at_fpr(scores, is_bona_fide, fpr)[0])
            if attacks >= needed
            else f"not stated: it takes {needed} attack presentations, there are {attacks}"
            for fpr, needed in FPRS.items()
        },
    }
    if threshold is None:
        return {**figures, "threshold": None}
    report = judge(scores, dataset.species, threshold)
    return {
        **figures,
        "threshold": round(threshold, 6),
        "APCER": round(report.apcer, 6),
        "BPCER": with_interval(report.bpcer),
        "ACER": round(report.acer, 6),
        "APCER_pooled": with_interval(report.apcer_pooled),
        "ACER_pooled": round(report.acer_pooled, 6),
        "APCER_of": {name: with_interval(rate) for name, rate in report.apcer_of.items()},
    }


def with_interval(rate: Rate) -> dict[str, Any]:
    """Return a rate with its counts and its 95 % interval, in a form that JSON can hold."""
    return {
        "count": rate.count,
        "trials": rate.trials,
        "rate": round(rate.value, 6),
        "interval": [round(end, 6) for end in rate.interval()],
    }


def shares_when_blind(network: FusionNetwork, dataset: Dataset) -> dict[str, list[float]]:
    """Return the mean modality shares of bona fide samples: as they are, and with one plane blind.

    A blind plane is present but shows nothing: noise in the dark, or no depth at all. A fusion that
    weighs its modalities gives it a smaller share.

    Returns:
        Shares in the order of `MODALITIES`, each in [0, 1], by what was done to the samples.
    """
    rows = np.flatnonzero(dataset.label == 1)[:_MAX_BLINDED]
    stored = dataset.batch(rows)
    blind = {"as they are": stored}
    for column, name in enumerate(MODALITIES):
        is_blind = torch.zeros((len(rows), len(MODALITIES)), dtype=torch.bool)
        is_blind[:, column] = True
        blind[f"{name} blind"] = blinded(stored, is_blind, np.random.default_rng(0))
    with torch.inference_mode():
        return {
            name: [round(float(share), 4) for share in _mean_shares(network.eval(), each)]
            for name, each in blind.items()
        }


def _mean_shares(network: FusionNetwork, stored: PlaneTensors) -> Tensor:
    shares: Tensor = network(stored.to(network.device)).shares.mean(0)
    return shares


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Write a CSV file with one line per sample: file, label, species, scores, faults."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "species", *evaluation.scores, "faults"])
        columns = zip(
            evaluation.dataset.files,
            evaluation.dataset.label.tolist(),
            evaluation.dataset.species,
            *(scores.tolist() for scores in evaluation.scores.values()),
            ("; ".join(each) for each in evaluation.faults),
            strict=True,
        )
        writer.writerows(columns)


def _faults(bundle: Bundle, dataset: Dataset) -> tuple[list[str], ...]:
    start = (dataset.planes.ir.shape[1] - bundle.config.size) // 2
    middle = slice(start, start + bundle.config.size)
    planes = dataset.planes
    cut = PlaneBatch(
        planes.rgb[:, middle, middle],
        planes.depth[:, middle, middle],
        planes.ir[:, middle, middle],
        planes.present,
    )
    faces = (replace(face, depth_kind=dataset.depth_kind) for face in selftest_rows(cut))
    return tuple(faults(measure(face), bundle.quality) for face in faces)


def _non_response(dataset: Dataset, found: tuple[list[str], ...]) -> dict[str, Any]:
    has_fault = np.array([bool(each) for each in found])
    is_bona_fide = dataset.label == 1
    names = Counter(fault.split()[0] for each in found for fault in each)
    attacks = Rate(int(has_fault[~is_bona_fide].sum()), int((~is_bona_fide).sum()))
    bona_fide = Rate(int(has_fault[is_bona_fide].sum()), int(is_bona_fide.sum()))
    return {
        "APNRR": with_interval(attacks),
        "BPNRR": with_interval(bona_fide),
        "faults": dict(sorted(names.items())),
    }


def as_served(evaluation: Evaluation) -> dict[str, dict[str, int]]:
    """Return how many samples of each species get which decision, with all modalities and gates."""
    threshold = evaluation.bundle.threshold_for(MODALITIES)
    scores = evaluation.scores["+".join(MODALITIES)]
    table: dict[str, dict[str, int]] = {}
    for species, value, found in zip(
        evaluation.dataset.species, scores, evaluation.faults, strict=True
    ):
        row = table.setdefault(species, {"bona_fide": 0, "attack": 0, "no_decision": 0})
        is_bona_fide = threshold is not None and value >= threshold
        row["no_decision" if found else "bona_fide" if is_bona_fide else "attack"] += 1
    return dict(sorted(table.items()))
