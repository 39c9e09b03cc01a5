"""Evaluation with honest intervals: subjects are drawn again, thresholds come from others.

Samples of one person are wrong together, so intervals that count them as independent are too
narrow. Here each replicate draws as many subjects as there are, with replacement, and takes all
samples of each. A threshold that is chosen on the sample it is judged on flatters it; here subjects
are split in two halves, and each half is judged by the other's threshold.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993; for biometrics, Bolle, Ratha
and Pankanti, Error analysis of pattern recognition systems: the subsets bootstrap, CVIU 2004.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics import Rate, Scores

REPLICATES = 400
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the interval in which it lies in 95 % of the replicates.

    Attributes:
        value: of the sample itself.
        low: end of the interval.
        high: end of the interval.
    """

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, object]:
        """Return it in a form that JSON can hold."""
        return {
            "rate": round(self.value, 6),
            "interval": [round(self.low, 6), round(self.high, 6)],
        }


class Subjects:
    """The subjects of N samples, and draws of them.

    Attributes:
        count: number of subjects.
        of_sample: (N,) int64, number of each sample's subject.
        draws: (R, count) float64, how often each replicate has each subject.
    """

    def __init__(self, names: Sequence[str], replicates: int = REPLICATES, seed: int = 0) -> None:
        """Draw the replicates.

        Args:
            names: subject of each sample; whatever is unknown must have a name of its own.
            replicates: R.
            seed: of the draws; two evaluations with the same subjects and seed are paired.
        """
        found, of_sample = np.unique(np.asarray(names), return_inverse=True)
        self.count, self.of_sample = len(found), of_sample
        rng = np.random.default_rng(seed)
        even = np.full(self.count, 1 / self.count)
        self.draws = rng.multinomial(self.count, even, replicates).astype(np.float64)
        self._half = rng.permutation(self.count) % 2

    def halves(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which samples are of each of two halves of the subjects, (N,) each."""
        first = self._half[self.of_sample] == 0
        return first, ~first

    def estimate(self, figure: Callable[[Weights], float]) -> Estimate:
        """Return a figure of weighted samples, with its interval.

        Args:
            figure: of the samples' weights, (N,); NaN where it has no value.
        """
        drawn = [figure(draw[self.of_sample]) for draw in self.draws]
        return interval(figure(np.ones(len(self.of_sample))), np.array(drawn))

    def rate(self, is_counted: NDArray[np.bool_], is_trial: NDArray[np.bool_]) -> Estimate:
        """Return the share of trials that are counted.

        Its interval is as wide as the subjects say, and never narrower than for independent trials.

        Args:
            is_counted: (N,).
            is_trial: (N,).
        """
        counted, trials = (
            np.bincount(self.of_sample[each], minlength=self.count).astype(np.float64)
            for each in (is_counted & is_trial, is_trial)
        )
        found = Rate(int(counted.sum()), max(1, int(trials.sum())))
        totals = self.draws @ trials
        drawn = (self.draws @ counted)[totals > 0] / totals[totals > 0]
        by_subject, alone = interval(found.value, drawn), found.interval()
        return Estimate(found.value, min(by_subject.low, alone[0]), max(by_subject.high, alone[1]))


class Ranking:
    """Scored samples in order, whose rates can be figured again and again with other weights."""

    def __init__(self, scores: Scores, is_bona_fide: NDArray[np.bool_]) -> None:
        """Sort them, from the highest score down."""
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        self._scores = ordered[self._last]
        self._is_bona_fide = is_bona_fide[self._order]

    def rates(self, weights: Weights) -> tuple[Weights, Weights]:
        """Return FPR and TPR at each score that occurs, from the highest down."""
        ordered = weights[self._order]
        bona_fide = np.where(self._is_bona_fide, ordered, 0.0)
        attacks = np.cumsum(ordered - bona_fide)[self._last]
        accepted = np.cumsum(bona_fide)[self._last]
        return attacks / max(attacks[-1], 1e-12), accepted / max(accepted[-1], 1e-12)

    def equal_error(self, weights: Weights) -> float:
        """Return the equal error rate."""
        fpr, tpr = self.rates(weights)
        at = int(np.abs(fpr - (1 - tpr)).argmin())
        return float((fpr[at] + 1 - tpr[at]) / 2)

    def threshold(self, weights: Weights, fpr: float) -> float:
        """Return the lowest score at which FPR does not exceed a limit."""
        allowed = np.flatnonzero(self.rates(weights)[0] <= fpr + 1e-12)
        return float(self._scores[allowed[-1]]) if len(allowed) else np.inf


def equal_error(scores: Scores, is_bona_fide: NDArray[np.bool_], subjects: Subjects) -> Estimate:
    """Return the equal error rate."""
    return subjects.estimate(Ranking(scores, is_bona_fide).equal_error)


def tpr_at_fpr(
    scores: Scores, is_bona_fide: NDArray[np.bool_], subjects: Subjects, fpr: float
) -> Estimate:
    """Return the TPR at a false positive rate; each half of the subjects is judged by the other's.

    Where a half has too few attacks for the rate, its threshold lies above all of them.
    """
    halves = subjects.halves()
    rankings = [Ranking(scores[half], is_bona_fide[half]) for half in halves]
    bona_fide = [half & is_bona_fide for half in halves]

    def figure(weights: Weights) -> float:
        accepted = total = 0.0
        for at, other in ((0, 1), (1, 0)):
            threshold = rankings[at].threshold(weights[halves[at]], fpr)
            judged = weights[bona_fide[other]]
            accepted += judged[scores[bona_fide[other]] >= threshold].sum()
            total += judged.sum()
        return accepted / total if total else np.nan

    return subjects.estimate(figure)


def interval(value: float, drawn: NDArray[np.float64]) -> Estimate:
    """Return a figure with the middle 95 % of its replicates."""
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(value, np.nan, np.nan)
    low, high = np.quantile(known, (0.025, 0.975))
    return Estimate(float(value), float(low), float(high))
