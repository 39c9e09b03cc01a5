"""Simulated presentations: the sequential test on scored frames, grouped by who shows what."""

import numpy as np
import pytest

from model.evaluation.presentations import correlation, figures, simulate
from model.serving.presentations import ErrorRates, SequentialTest

RATES = ErrorRates(0.05, 0.1)
TEST = SequentialTest(0.001, 0.01, frame_correlation=0.2, max_frames=30)


def test_frames_of_one_person_and_instrument_are_one_presentation() -> None:
    accepted = np.array([True] * 20 + [False] * 20 + [True] * 20)
    species = ["bona_fide"] * 20 + ["mask"] * 20 + ["print"] * 20
    found = simulate(accepted, species, ["anna"] * 10 + ["ben"] * 50, RATES, TEST)
    assert {name: each.presentations for name, each in found.items()} == {
        "bona_fide": 2,
        "mask": 1,
        "print": 1,
    }
    assert found["mask"].verdicts == {"bona_fide": 0, "attack": 1, "undecided": 0}
    told = figures(found)
    assert (told["apcer"], told["worst_species"], told["bpcer"]) == (1, "print", 0)
    assert 1 < told["of"]["bona_fide"]["frames"] < 10


def test_too_few_frames_are_no_verdict() -> None:
    found = simulate(np.array([True]), ["bona_fide"], ["anna"], RATES, TEST)
    assert found["bona_fide"].verdicts["undecided"] == 1
    assert figures(found)["bpcer"] == 1
    assert figures(found)["apcer"] is None


def test_verdicts_are_wrong_less_often_than_decisions() -> None:
    random = np.random.default_rng(1)
    accepted = np.concatenate([random.random(4000) < 0.9, random.random(4000) < 0.05])
    people = [f"p{number // 40}" for number in range(4000)] * 2
    found = simulate(accepted, ["bona_fide"] * 4000 + ["mask"] * 4000, people, RATES, TEST)
    told = figures(found)
    assert told["apcer"] <= 0.005
    assert told["bpcer"] <= 0.02


@pytest.mark.parametrize("alike", [0.0, 0.3, 1.0])
def test_correlation_is_found(alike: float) -> None:
    random = np.random.default_rng(2)
    groups = []
    for _ in range(600):
        one = random.random() < 0.7
        rest = random.random(30) < 0.7
        # With this chance a frame is what the first draw of its presentation was.
        groups.append(np.where(random.random(30) < np.sqrt(alike), one, rest))
    found = correlation(groups)
    assert found is not None
    assert abs(found - alike) < 0.06
    assert correlation([np.array([True, True])] * 3) is None
