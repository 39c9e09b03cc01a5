"""Error rates of presentation attack detection, with their intervals.

A presentation is accepted when its bona fide score is at or above the threshold.
Source: ISO/IEC 30107-3 for APCER, BPCER and non-response rates; Clopper and Pearson, Biometrika
1934, for the intervals, by way of the F distribution's relation to the beta distribution.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

Scores = NDArray[np.float32] | NDArray[np.float64]
Labels = NDArray[np.int64] | NDArray[np.bool_]
_SWAPPED_EER = 0.75


class MetricError(ModelError):
    """The scores can't be evaluated; the message says why."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of trials.

    Attributes:
        count: number of errors, or of whatever is counted.
        trials: number of presentations, > 0.
    """

    count: int
    trials: int

    @property
    def value(self) -> float:
        """The rate, [0, 1]."""
        return self.count / self.trials

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the two-sided Clopper-Pearson interval.

        Args:
            confidence: (0, 1).

        Returns:
            Its ends, in [0, 1]. At 95 % and a count of 0 the upper end is about 3.7 / trials.
        """
        tail = (1 - confidence) / 2
        low = _beta_quantile(self.count, self.trials - self.count + 1, tail)
        high = _beta_quantile(self.count + 1, self.trials - self.count, 1 - tail)
        return low, high


@dataclass(frozen=True, slots=True)
class Report:
    """Error rates at a threshold.

    Attributes:
        threshold: the lowest score that is accepted.
        bpcer: bona fide presentations refused.
        apcer_of: attack presentations accepted, per PAI species.
        apcer_pooled: attack presentations accepted, all species together, as CASIA-SURF counts.
    """

    threshold: float
    bpcer: Rate
    apcer_of: dict[str, Rate]
    apcer_pooled: Rate

    @property
    def apcer(self) -> float:
        """The highest rate of any species, as ISO/IEC 30107-3 reports it, [0, 1]."""
        return max(rate.value for rate in self.apcer_of.values())

    @property
    def acer(self) -> float:
        """Mean of APCER and BPCER; never reported without the two."""
        return (self.apcer + self.bpcer.value) / 2

    @property
    def acer_pooled(self) -> float:
        """Mean of pooled APCER and BPCER: CASIA-SURF's ACER."""
        return (self.apcer_pooled.value + self.bpcer.value) / 2


def judge(scores: Scores, species: Sequence[str], threshold: float) -> Report:
    """Return the error rates at a threshold.

    Args:
        scores: (N,) bona fide scores.
        species: PAI species of each; `bona_fide` is none.
        threshold: in [0, 1].

    Raises:
        MetricError: a class is empty, or a score is not a number.
    """
    names = np.asarray(species)
    is_bona_fide = names == "bona_fide"
    check(scores, is_bona_fide)
    accepted = scores >= threshold
    attacks = sorted(set(names[~is_bona_fide].tolist()))
    return Report(
        threshold=threshold,
        bpcer=Rate(int((~accepted[is_bona_fide]).sum()), int(is_bona_fide.sum())),
        apcer_of={
            name: Rate(int(accepted[names == name].sum()), int((names == name).sum()))
            for name in attacks
        },
        apcer_pooled=Rate(int(accepted[~is_bona_fide].sum()), int((~is_bona_fide).sum())),
    )


def tpr_at_fpr(scores: Scores, is_bona_fide: Labels, fpr: float) -> tuple[Rate, float]:
    """Return the highest TPR of any threshold whose FPR does not exceed `fpr`, and that threshold.

    Args:
        scores: (N,) bona fide scores.
        is_bona_fide: (N,), 1 or True for bona fide.
        fpr: limit of the rate at which attacks of all species together are accepted, [0, 1].

    Raises:
        MetricError: a class is empty, or a score is not a number.
    """
    check(scores, is_bona_fide)
    bona_fide = np.asarray(is_bona_fide, bool)
    threshold = _threshold_at_fpr(scores[~bona_fide], fpr)
    accepted = scores[bona_fide] >= threshold
    return Rate(int(accepted.sum()), len(accepted)), threshold


def bpcer_at_apcer(scores: Scores, species: Sequence[str], apcer: float) -> tuple[Rate, float]:
    """Return BPCER at the lowest threshold with all APCER <= `apcer`, and that threshold.

    At 5 % this is BPCER20. Source: ISO/IEC 30107-3.

    Args:
        scores: (N,) bona fide scores.
        species: PAI species of each; `bona_fide` is none.
        apcer: limit, [0, 1].

    Raises:
        MetricError: a class is empty, or a score is not a number.
    """
    names = np.asarray(species)
    check(scores, names == "bona_fide")
    threshold = max(
        _threshold_at_fpr(scores[names == name], apcer)
        for name in sorted(set(names.tolist()) - {"bona_fide"})
    )
    refused = scores[names == "bona_fide"] < threshold
    return Rate(int(refused.sum()), len(refused)), threshold


def _threshold_at_fpr(attacks: Scores, fpr: float) -> float:
    ordered = np.sort(attacks)[::-1]
    allowed = math.floor(fpr * len(ordered) + 1e-9)
    # Just above the first attack that must not be accepted.
    return float(np.nextafter(ordered[allowed], np.inf)) if allowed < len(ordered) else -math.inf


def equal_error(scores: Scores, is_bona_fide: Labels) -> tuple[float, float]:
    """Return the equal error rate and its threshold: the score at which FPR and FNR differ least.

    Args:
        scores: (N,) bona fide scores.
        is_bona_fide: (N,), 1 or True for bona fide.

    Raises:
        MetricError: a class is empty, or a score is not a number.
    """
    check(scores, is_bona_fide)
    bona_fide = np.asarray(is_bona_fide, bool)
    thresholds = np.unique(scores)
    accepted_attacks = (
        1 - np.searchsorted(np.sort(scores[~bona_fide]), thresholds) / (~bona_fide).sum()
    )
    refused = np.searchsorted(np.sort(scores[bona_fide]), thresholds) / bona_fide.sum()
    best = int(np.abs(accepted_attacks - refused).argmin())
    return float((accepted_attacks[best] + refused[best]) / 2), float(thresholds[best])


def refuse_swapped(scores: Scores, is_bona_fide: Labels) -> None:
    """Return unless the labels look inverted.

    Data sets differ in whether 1 means bona fide or attack. Read the wrong way round, a network
    that separates the classes looks like one that is nearly always wrong, which none is by chance.

    Raises:
        MetricError: the equal error rate exceeds 75 %.
    """
    rate, _ = equal_error(scores, is_bona_fide)
    if rate > _SWAPPED_EER:
        raise MetricError(
            f"attacks score above bona fide (EER {rate:.1%}): the labels are swapped; 1 must be "
            "bona fide in lists of four columns"
        )


def check(scores: Scores, is_bona_fide: Labels) -> None:
    """Return if error rates can be computed.

    Raises:
        MetricError: the lengths differ, a class is empty, or a score is not a number.
    """
    if len(scores) != len(is_bona_fide):
        raise MetricError(f"{len(scores)} scores for {len(is_bona_fide)} labels")
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise MetricError(f"score {bad[0]} is {scores[bad[0]]}")
    count = int(np.asarray(is_bona_fide, bool).sum())
    if count in (0, len(scores)):
        raise MetricError(f"{count} of {len(scores)} presentations are bona fide: a class is empty")


def _beta_quantile(a: int, b: int, probability: float) -> float:
    """Return the `probability` quantile of Beta(a, b), for whole a and b."""
    if a == 0:
        return 0.0
    if b == 0:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_tail(a, a + b - 1, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _binomial_tail(least: int, trials: int, chance: float) -> float:
    """Return the binomial probability of at least `least` successes."""
    if chance <= 0 or chance >= 1:
        return float(chance >= 1)
    successes = np.arange(least, trials + 1)
    log_factorial = _log_factorials(trials)
    logs = (
        log_factorial[trials]
        - log_factorial[successes]
        - log_factorial[trials - successes]
        + successes * math.log(chance)
        + (trials - successes) * math.log1p(-chance)
    )
    return float(np.exp(logs).sum())


@lru_cache(maxsize=16)
def _log_factorials(most: int) -> NDArray[np.float64]:
    """Return the logarithms of the factorials of 0 to `most`, (most + 1,)."""
    return np.array([math.lgamma(number + 1) for number in range(most + 1)])
