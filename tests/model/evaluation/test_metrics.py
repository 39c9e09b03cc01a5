"""Error rates, by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_curve

from model.evaluation.metrics import (
    MetricError,
    Rate,
    bpcer_at_apcer,
    equal_error,
    judge,
    tpr_at_fpr,
)

SCORES = np.array([0.9, 0.8, 0.4, 0.7, 0.2, 0.1, 0.5, 0.3])
SPECIES = ["bona_fide"] * 3 + ["print"] * 3 + ["phone"] * 2
IS_BONA_FIDE = np.array([True] * 3 + [False] * 5)


def test_apcer_is_the_worst_species() -> None:
    report = judge(SCORES, SPECIES, 0.5)
    assert report.bpcer == Rate(1, 3)
    assert report.apcer_of == {"print": Rate(1, 3), "phone": Rate(1, 2)}
    assert report.apcer == 0.5
    assert report.apcer_pooled == Rate(2, 5)
    assert report.acer == pytest.approx((0.5 + 1 / 3) / 2)
    assert report.acer_pooled == pytest.approx((0.4 + 1 / 3) / 2)


@pytest.mark.parametrize(("fpr", "tpr"), [(0.0, 2 / 3), (0.19, 2 / 3), (0.2, 2 / 3), (0.4, 1.0)])
def test_tpr_at_fpr_never_exceeds_the_target(fpr: float, tpr: float) -> None:
    found, threshold = tpr_at_fpr(SCORES, IS_BONA_FIDE, fpr)
    assert found.value == pytest.approx(tpr)
    assert (SCORES[~IS_BONA_FIDE] >= threshold).mean() <= fpr


def test_attacks_of_one_score_are_accepted_together_or_not_at_all() -> None:
    scores = np.array([0.6, 0.5, 0.5, 0.5, 0.1])
    found, threshold = tpr_at_fpr(scores, np.array([1, 0, 0, 0, 1]), 1 / 3)
    assert found == Rate(1, 2)
    assert threshold > 0.5


def test_bpcer20_is_where_the_worst_species_passes_one_time_in_twenty() -> None:
    rng = np.random.default_rng(0)
    prints, phones = np.linspace(0.0, 0.6, 40), np.linspace(0.2, 0.8, 20)
    scores = np.concatenate([rng.uniform(0.5, 1, 50), prints, phones])
    species = ["bona_fide"] * 50 + ["print"] * 40 + ["phone"] * 20
    rate, threshold = bpcer_at_apcer(scores, species, 0.05)
    assert (phones >= threshold).sum() == 1
    assert (prints >= threshold).sum() == 0
    assert rate == Rate(int((scores[:50] < threshold).sum()), 50)


class TestAgainstOtherLibraries:
    """Figures of scikit-learn and SciPy, to 1e-9."""

    def samples(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        rng = np.random.default_rng(3)
        label = rng.random(4000) < 0.3
        # Rounded, so that scores are shared.
        return np.round(rng.normal(label * 1.5, 1.0), 2), label

    @pytest.mark.parametrize("fpr", [1e-1, 1e-2, 1e-3, 1e-4])
    def test_tpr_at_fpr(self, fpr: float) -> None:
        scores, label = self.samples()
        fprs, tprs, _ = roc_curve(label, scores, drop_intermediate=False)
        assert tpr_at_fpr(scores, label, fpr)[0].value == pytest.approx(
            tprs[fprs <= fpr].max(), abs=1e-9
        )

    def test_equal_error(self) -> None:
        scores, label = self.samples()
        fprs, tprs, _ = roc_curve(label, scores, drop_intermediate=False)
        best = np.abs(fprs - (1 - tprs)).argmin()
        assert equal_error(scores, label)[0] == pytest.approx(
            (fprs[best] + 1 - tprs[best]) / 2, abs=1e-9
        )

    def test_error_rates(self) -> None:
        scores, label = self.samples()
        report = judge(scores, ["bona_fide" if each else "print" for each in label], 0.7)
        (true_attack, false_bona_fide), (false_attack, _) = confusion_matrix(label, scores >= 0.7)
        assert report.apcer == pytest.approx(
            false_bona_fide / (true_attack + false_bona_fide), abs=1e-9
        )
        assert report.bpcer.value == pytest.approx(false_attack / label.sum(), abs=1e-9)

    @pytest.mark.parametrize(
        ("count", "trials"), [(0, 7), (1, 1), (3, 30_000), (29_990, 30_000), (57, 57_710)]
    )
    def test_intervals(self, count: int, trials: int) -> None:
        found = binomtest(count, trials).proportion_ci(method="exact")
        assert Rate(count, trials).interval() == pytest.approx((found.low, found.high), abs=1e-9)


def test_equal_error() -> None:
    scores = np.array([0.1, 0.4, 0.6, 0.9, 0.2, 0.3, 0.5, 0.05])
    rate, threshold = equal_error(scores, np.array([0, 0, 1, 1, 0, 1, 0, 0]))
    # From 0.4 on, 2 of 5 attacks are accepted and 1 of 3 bona fide refused: closer than elsewhere.
    assert (rate, threshold) == (pytest.approx((2 / 5 + 1 / 3) / 2), 0.4)


class TestInterval:
    def test_no_error_means_at_most_three_in_n(self) -> None:
        low, high = Rate(0, 1000).interval()
        assert low == 0
        assert high == pytest.approx(1 - 0.025 ** (1 / 1000), rel=1e-9)

    def test_published_values(self) -> None:
        # Clopper and Pearson's own example: 3 of 10 at 95 %.
        low, high = Rate(3, 10).interval()
        assert (round(low, 4), round(high, 4)) == (0.0667, 0.6525)
        assert Rate(10, 10).interval()[1] == 1


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, float("nan")], [0, 1], "score 1 is nan"),
        ([0.1, 0.2], [1, 1], "a class is empty"),
        ([0.1], [1, 0], "1 scores for 2"),
    ],
)
def test_what_can_not_be_judged_is_refused(
    scores: list[float], labels: list[int], message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        tpr_at_fpr(np.array(scores), np.array(labels), 0.1)
