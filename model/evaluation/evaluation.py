"""Evaluation: a bundle on a list file, for each set of modalities that a frame can have."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.augmentation import blinded
from model.data.dataset import Dataset
from model.data.planes import MODALITIES, SUBSETS
from model.data.quality import faults
from model.evaluation import bootstrap, presentations
from model.evaluation.bootstrap import Subjects
from model.evaluation.gates import quality_figures
from model.evaluation.metrics import (
    Rate,
    bpcer_at_apcer,
    judge,
    refuse_swapped,
)
from model.evaluation.scoring import evidence, score_all_sets
from model.network.device import default_device
from model.network.mmfcnn import FusionNetwork
from model.runs.progress import Advance, ignore
from model.serving.bundle import Bundle
from model.serving.presentations import DEFAULT_TEST
from model.serving.served import error_rates

# False positive rates at which TPR is stated, and the attack presentations that it takes: about 3
# of them are then accepted.
FPRS = {1e-2: 300, 1e-3: 3_000, 1e-4: 30_000}
# Bona fide samples whose evidence is averaged, and samples whose modalities are taken away.
_MAX_BLINDED, _MAX_NAMED = 256, 1000


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
    scores = score_all_sets(network, dataset, advance)
    refuse_swapped(scores["+".join(MODALITIES)], dataset.label)
    found = tuple(faults(each, bundle.quality) for each in quality_figures(dataset))
    subjects = Subjects(dataset.subjects or dataset.files)
    figures = {
        "bundle": bundle.model_id,
        "bundle_sha256": bundle.digest,
        "subjects": subjects.count,
        "samples": dict(sorted(Counter(dataset.species).items())),
        "subsets": {
            key: subset_figures(values, dataset, bundle.threshold_for(key.split("+")), subjects)
            for key, values in scores.items()
        },
        "non_response": _non_response(dataset, found),
        "evidence": evidence_when_blind(network, dataset),
        "named_first": named_first(network, dataset),
        "presentations": _presentations(scores["+".join(MODALITIES)], dataset, bundle),
    }
    return Evaluation(bundle, dataset, scores, found, figures)


def subset_figures(
    scores: NDArray[np.float64], dataset: Dataset, threshold: float | None, subjects: Subjects
) -> dict[str, Any]:
    """Return the rates for one set of modalities; those at a threshold only if there is one.

    TPR at a false positive rate pools all attacks, as CASIA-SURF does, and is not stated for fewer
    attacks than it takes. Each half of the subjects is judged by the other half's threshold.

    Args:
        scores: (N,) bona fide scores in [0, 1].
        dataset: the N samples.
        threshold: of the bundle, in [0, 1]; None: frames of this set get no decision.
        subjects: of the samples.
    """
    is_bona_fide = dataset.label == 1
    attacks = int((~is_bona_fide).sum())
    # Where the worst species passes in 5 and in 1 % of its presentations.
    bpcer20, bpcer100 = (bpcer_at_apcer(scores, dataset.species, at)[0] for at in (0.05, 0.01))
    found = bootstrap.equal_error(scores, is_bona_fide, subjects)
    figures: dict[str, Any] = {
        "EER": round(found.value, 6),
        "EER_interval": [round(found.low, 6), round(found.high, 6)],
        "BPCER20": with_interval(bpcer20),
        "BPCER100": with_interval(bpcer100),
        "TPR@FPR": {
            f"{fpr:.0e}": bootstrap.tpr_at_fpr(scores, is_bona_fide, subjects, fpr).rounded()
            if attacks >= needed
            else f"not stated: it takes {needed} attack presentations, there are {attacks}"
            for fpr, needed in FPRS.items()
        },
    }
    if threshold is None:
        return {**figures, "threshold": None}
    report = judge(scores, dataset.species, threshold)
    names, accepted = np.array(dataset.species), scores >= threshold

    def rate(
        found: Rate, is_counted: NDArray[np.bool_], is_trial: NDArray[np.bool_]
    ) -> dict[str, Any]:
        interval = subjects.rate(is_counted, is_trial).rounded()["interval"]
        return {**with_interval(found), "interval": interval}

    return {
        **figures,
        "threshold": round(threshold, 6),
        "APCER": round(report.apcer, 6),
        "BPCER": rate(report.bpcer, ~accepted, is_bona_fide),
        "ACER": round(report.acer, 6),
        "APCER_pooled": rate(report.apcer_pooled, accepted, ~is_bona_fide),
        "ACER_pooled": round(report.acer_pooled, 6),
        "APCER_of": {
            name: rate(each, accepted, names == name) for name, each in report.apcer_of.items()
        },
    }


def _presentations(
    scores: NDArray[np.float64], dataset: Dataset, bundle: Bundle
) -> dict[str, Any] | None:
    """Return the error rates of verdicts on presentations; None without subjects to group by."""
    threshold = bundle.threshold_for(MODALITIES)
    if threshold is None or not dataset.subjects:
        return None
    rates = error_rates(bundle.thresholds, MODALITIES)
    accepted = scores >= threshold
    return presentations.figures(
        presentations.simulate(accepted, dataset.species, dataset.subjects, rates, DEFAULT_TEST)
    )


def with_interval(rate: Rate) -> dict[str, Any]:
    """Return a rate with its counts and its 95 % interval, in a form that JSON can hold."""
    return {
        "count": rate.count,
        "trials": rate.trials,
        "rate": round(rate.value, 6),
        "interval": [round(end, 6) for end in rate.interval()],
    }


def evidence_when_blind(network: FusionNetwork, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Return the mean evidence of bona fide samples: as they are, and with one plane blind.

    A blind plane is present but shows nothing: noise in the dark, or no depth at all. It should
    speak neither for nor against a person.

    Returns:
        Log odds by the modalities that they rest on, by what was done to the samples.
    """
    rows = np.flatnonzero(dataset.label == 1)[:_MAX_BLINDED]
    stored = dataset.batch(rows)
    blind = {"as they are": stored}
    for column, name in enumerate(MODALITIES):
        is_blind = torch.zeros((len(rows), len(MODALITIES)), dtype=torch.bool)
        is_blind[:, column] = True
        blind[f"{name} blind"] = blinded(stored, is_blind, np.random.default_rng(0))
    network.eval()
    means = {}
    with torch.inference_mode():
        for name, each in blind.items():
            means[name] = network(each.to(network.device)).evidence.mean(0).tolist()
    return {
        name: {
            "+".join(key): round(odds, 4) for key, odds in zip(SUBSETS, row, strict=True) if odds
        }
        for name, row in means.items()
    }


def named_first(network: FusionNetwork, dataset: Dataset) -> dict[str, Any] | None:
    """Return how often the modality that weighs most is the one whose loss moves the score most.

    What weighs is all evidence that rests on a modality, alone and in pairs. The loss is tried, not
    figured. None for a network that does not tell what its score rests on.
    """
    if not network.is_additive:
        return None
    some = dataset.thinned(max(1, len(dataset) // _MAX_NAMED))
    whole = evidence(network, some, MODALITIES)
    said, moved = [], []
    for name in MODALITIES:
        said.append(whole[:, [name in each for each in SUBSETS]].sum(1))
        kept = [each for each in MODALITIES if each != name]
        moved.append(whole.sum(1) - evidence(network, some, kept).sum(1))
    agrees = np.abs(said).argmax(0) == np.abs(moved).argmax(0)
    return with_interval(Rate(int(agrees.sum()), len(agrees)))


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
