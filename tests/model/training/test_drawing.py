"""Which samples an epoch shows."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from model.data.dataset import Dataset, load_dataset
from model.training.drawing import draw
from model.training.recipe import TrainingConfig


@pytest.fixture
def dataset(config: TrainingConfig) -> Dataset:
    """Each attack is one of two species."""
    found = load_dataset(config.train, 112)
    attacks = np.cumsum(found.label == 0)
    names = ("print", "mask")
    species = tuple(
        "bona_fide" if label else names[count % 2]
        for label, count in zip(found.label, attacks, strict=True)
    )
    return replace(found, species=species)


def shown(dataset: Dataset, attack_loss: dict[str, float], *, composes: bool) -> Counter[str]:
    rows = draw(dataset, attack_loss, composes=composes, rng=np.random.default_rng(0))
    return Counter(dataset.species[row] for row in rows)


def test_at_first_each_sample_is_shown_once(dataset: Dataset) -> None:
    rows = draw(dataset, {}, composes=False, rng=np.random.default_rng(0))
    assert sorted(rows) == list(range(len(dataset)))


def test_an_attack_that_is_still_missed_is_shown_more_often(dataset: Dataset) -> None:
    at_first = shown(dataset, {}, composes=False)
    later = shown(dataset, {"print": 0.0, "mask": 0.4}, composes=False)
    assert later.total() == at_first.total()
    assert later["bona_fide"] == at_first["bona_fide"]
    assert later["mask"] > 5 * later["print"] > 0


def test_what_may_become_an_attack_is_shown_twice(dataset: Dataset) -> None:
    once, twice = (shown(dataset, {}, composes=each) for each in (False, True))
    assert twice == once + Counter({"bona_fide": once["bona_fide"]})
