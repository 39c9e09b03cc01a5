"""Composites: attacks made of what others show, and what training is told of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data import dataset as sets
from model.data.augmentation import Chances, augmented
from model.data.composites import KINDS, PAIRS, PROTOCOLS, with_composites
from model.data.dataset import Dataset, load_dataset
from model.data.planes import MODALITIES
from model.errors import SettingError
from tests.model.pictures import write_set


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("set")
    return load_dataset(write_set(folder, "site", 12, 3), 64)


def rows(dataset: Dataset, species: str) -> np.ndarray:
    return np.flatnonzero(np.array(dataset.species) == species)


class TestProtocols:
    @pytest.mark.parametrize("protocol", list(PROTOCOLS))
    def test_each_bona_fide_sample_becomes_each_species(
        self, dataset: Dataset, protocol: str
    ) -> None:
        made = with_composites(dataset, (protocol,))
        for name in PROTOCOLS[protocol]:
            assert len(rows(made, name)) == 6
            assert not made.label[rows(made, name)].any()
        assert made.species[: len(dataset)] == dataset.species

    @pytest.mark.parametrize("name", MODALITIES)
    def test_a_split_sample_has_one_plane_of_another_person(
        self, dataset: Dataset, name: str
    ) -> None:
        made = with_composites(dataset, ("split",))
        bona_fide = np.flatnonzero(dataset.label == 1)
        for at, row in enumerate(rows(made, f"split_{name}")):
            for each in MODALITIES:
                own = getattr(dataset.planes, each)[bona_fide[at]]
                assert np.array_equal(getattr(made.planes, each)[row], own) == (each != name)

    def test_they_are_the_same_every_time(self, dataset: Dataset) -> None:
        once, again = (with_composites(dataset, ("split", "shifted"), each=3) for _ in range(2))
        assert len(once) == len(dataset) + 6 * 3
        assert np.array_equal(once.planes.depth, again.planes.depth)
        other = with_composites(dataset, ("split", "shifted"), seed=1, each=3)
        assert not np.array_equal(once.planes.depth, other.planes.depth)

    def test_they_keep_their_subject(self, dataset: Dataset) -> None:
        named = replace(dataset, subjects=tuple(f"p{at // 2}" for at in range(12)))
        made = with_composites(named, ("split",))
        assert set(made.subjects) == set(named.subjects)

    def test_there_is_no_other(self, dataset: Dataset) -> None:
        with pytest.raises(SettingError, match="composites must be one of split"):
            with_composites(dataset, ("spilt",))


def test_pairs_are_labelled_by_the_planes_that_were_changed() -> None:
    assert KINDS["split_rgb"].planes == (1, 1, 1)
    assert dict(zip(PAIRS, KINDS["split_rgb"].pairs, strict=True)) == {
        (0, 1): 0,
        (0, 2): 0,
        (1, 2): 1,
    }
    assert KINDS["covered_ir"].planes == (1, 1, 0)
    assert KINDS["ellipse"].pairs == (-1, -1, -1)


class TestTraining:
    def test_bona_fide_become_attacks_and_attacks_stay(self, dataset: Dataset) -> None:
        batch = augmented(dataset, np.arange(12), Chances(composing=1.0), np.random.default_rng(0))
        assert not batch.label.any()
        # What was an attack says nothing of pairs: its planes do belong together.
        assert (batch.pairs[::2] == -1).all()
        assert (batch.planes[::2] == 0).all()

    def test_what_is_lost_with_the_foreign_plane_is_bona_fide_again(self, dataset: Dataset) -> None:
        chances = Chances(composing=1.0, dropout=1.0)
        bona_fide = np.flatnonzero(dataset.label == 1)
        seen = set()
        for seed in range(40):
            batch = augmented(dataset, bona_fide, chances, np.random.default_rng(seed))
            for row in range(len(bona_fide)):
                present = batch.stored.present[row]
                wrong = (batch.planes[row] == 0) & present
                pairs = [
                    batch.pairs[row][at] == 0
                    for at, (one, other) in enumerate(PAIRS)
                    if present[one] and present[other]
                ]
                assert bool(batch.label[row]) == (not wrong.any() and not any(pairs))
                seen.add(int(batch.label[row]))
        assert seen == {0, 1}

    def test_a_foreign_plane_is_never_blinded(self, dataset: Dataset) -> None:
        chances = Chances(composing=1.0, blinding=1.0)
        bona_fide = np.flatnonzero(dataset.label == 1)
        for seed in range(20):
            batch = augmented(dataset, bona_fide, chances, np.random.default_rng(seed))
            for at, (one, other) in enumerate(PAIRS):
                is_foreign = batch.pairs[:, at] == 0
                assert not batch.is_blind[is_foreign][:, [one, other]].any()

    def test_the_box_is_moved_within_what_is_stored(self, dataset: Dataset) -> None:
        wide = replace(dataset, margin=0.4)
        for plane in (wide.planes.rgb, wide.planes.depth, wide.planes.ir):
            assert plane.min() >= 0
        rng = np.random.default_rng(0)
        batch = augmented(wide, np.arange(12), Chances(shift=0.25, zoom=0.25), rng)
        assert batch.stored.ir.shape == (12, 64, 64)
        assert (batch.stored.depth.int() > 0).all()
        still = augmented(wide, np.arange(12), Chances(), np.random.default_rng(0))
        assert not torch.equal(batch.stored.depth.int(), still.stored.depth.int())


def test_large_sets_lie_in_a_file(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = with_composites(dataset, ("split",))
    monkeypatch.setattr(sets, "_IN_MEMORY_BYTES", 1000)
    outside = with_composites(dataset, ("split",))
    assert isinstance(outside.planes.rgb, np.memmap)
    for name in (*MODALITIES, "present"):
        assert np.array_equal(getattr(inside.planes, name), getattr(outside.planes, name))
    batch = augmented(outside, np.arange(4), Chances(composing=1.0), np.random.default_rng(0))
    assert batch.stored.rgb.shape == (4, 64, 64, 3)
