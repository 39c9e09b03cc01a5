"""Intervals by subject, against what is known of them."""

import numpy as np
import pytest

from model.evaluation import bootstrap
from model.evaluation.bootstrap import Ranking, Subjects
from model.evaluation.comparison import paired, table
from model.evaluation.metrics import Rate, equal_error, tpr_at_fpr

RNG = np.random.default_rng(0)
SCORES = np.round(RNG.normal(0, 1, 2000) + np.repeat([1.0, 0.0], 1000), 2)
LABEL = np.repeat([True, False], 1000)


def named(each: int) -> list[str]:
    """Return subjects with `each` samples of both classes."""
    return [f"p{at // each}" for at in range(1000)] * 2


class TestRanking:
    def test_it_agrees_with_the_metrics(self) -> None:
        ranking, even = Ranking(SCORES, LABEL), np.ones(2000)
        assert ranking.equal_error(even) == pytest.approx(equal_error(SCORES, LABEL)[0])
        accepted = SCORES[LABEL] >= ranking.threshold(even, 0.01)
        assert accepted.mean() == tpr_at_fpr(SCORES, LABEL, 0.01)[0].value

    def test_a_weight_counts_as_copies(self) -> None:
        weights = np.ones(2000)
        weights[:10] = weights[1990:] = 3
        copies = np.concatenate([np.arange(2000), *[[*range(10), *range(1990, 2000)]] * 2])
        expected = equal_error(SCORES[copies], LABEL[copies])[0]
        assert Ranking(SCORES, LABEL).equal_error(weights) == pytest.approx(expected)

    def test_where_no_score_keeps_the_limit_none_is_accepted(self) -> None:
        ranking = Ranking(np.array([0.1, 0.9]), np.array([True, False]))
        assert ranking.threshold(np.ones(2), 0.5) == np.inf


class TestSubjects:
    def test_independent_samples_have_the_binomial_interval(self) -> None:
        subjects = Subjects([str(at) for at in range(400)], 2000)
        counted = np.arange(400) < 100
        found = subjects.rate(counted, np.ones(400, np.bool_))
        low, high = Rate(100, 400).interval()
        assert (found.value, found.low, found.high) == pytest.approx((0.25, low, high), abs=0.01)

    def test_samples_that_are_wrong_together_have_a_wider_one(self) -> None:
        counted = np.arange(400) < 100
        wide = Subjects([str(at // 50) for at in range(400)], 2000).rate(
            counted, np.ones(400, np.bool_)
        )
        low, high = Rate(100, 400).interval()
        assert wide.low < low - 0.05
        assert wide.high > high + 0.05

    def test_no_error_is_no_certainty(self) -> None:
        found = Subjects(["a", "b", "c"]).rate(np.zeros(3, np.bool_), np.ones(3, np.bool_))
        assert found.low == 0
        assert found.high == pytest.approx(Rate(0, 3).interval()[1])

    def test_halves_share_no_subject(self) -> None:
        subjects = Subjects(named(4))
        first, second = subjects.halves()
        assert (first ^ second).all()
        assert not set(subjects.of_sample[first]) & set(subjects.of_sample[second])


def test_the_interval_covers_what_it_should() -> None:
    """Attacks come ten a person: intervals by subject must hold the true rate about as stated."""
    rng, covered = np.random.default_rng(1), 0
    for trial in range(60):
        person = rng.normal(0, 1, 100)
        scores = np.concatenate(
            [rng.normal(0, 0.3, 1000) + np.repeat(person, 10), rng.normal(2, 1, 1000)]
        )
        label = np.repeat([False, True], 1000)
        subjects = Subjects([f"p{at // 10}" for at in range(1000)] * 2, 100, trial)
        found = bootstrap.tpr_at_fpr(scores, label, subjects, 0.05)
        covered += found.low <= 0.611 <= found.high  # 1 - Phi(1.645 * sqrt(1.09) - 2)
    assert covered >= 48


def test_a_threshold_of_other_subjects_is_not_flattered() -> None:
    """On few attacks of the sample itself, the best threshold keeps a limit that it does not."""
    rng, gaps = np.random.default_rng(2), []
    for trial in range(30):
        scores = np.concatenate([rng.normal(0, 1, 300), rng.normal(1, 1, 300)])
        label = np.repeat([False, True], 300)
        subjects = Subjects([str(at) for at in range(300)] * 2, 2, trial)
        elsewhere = bootstrap.tpr_at_fpr(scores, label, subjects, 0.01).value
        gaps.append(tpr_at_fpr(scores, label, 0.01)[0].value - elsewhere)
    assert abs(np.mean(gaps)) < 0.1


class TestPaired:
    def test_what_is_alike_differs_by_nothing(self) -> None:
        figure = {"EER": Ranking(SCORES, LABEL).equal_error}
        found = paired(figure, figure, Subjects(named(5), 50))["EER"]
        assert (found.gain.value, found.gain.low, found.gain.high) == (0, 0, 0)
        assert not found.is_shown

    def test_a_difference_shows_where_each_interval_hides_it(self) -> None:
        rng = np.random.default_rng(3)
        person = np.repeat(rng.normal(0, 1.5, 50), 20)
        both = np.concatenate([person + 1.0, person]) + rng.normal(0, 0.5, 2000)
        better = both + np.where(LABEL, 0.15, 0)
        subjects = Subjects(named(20), 200)
        one, other = (Ranking(each, LABEL).equal_error for each in (both, better))
        found = paired({"EER": one}, {"EER": other}, subjects)["EER"]
        alone = subjects.estimate(one)
        assert found.is_shown
        assert alone.low < found.second < alone.high
        assert "EER" in table({"EER": found})
