"""Augmentation: what may change from sample to sample, and what must stay together."""

import numpy as np
import torch

from model.data.augmentation import Chances, augmented
from model.data.dataset import load_dataset, stored_px
from model.data.planes import crop_planes
from model.training.recipe import TrainingConfig


def test_augmentation_keeps_the_modalities_registered(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    dataset.planes.ir[:] = np.arange(124, dtype=np.uint8)[None, None]
    dataset.planes.depth[:] = np.arange(124, dtype=np.uint16)[None, None]
    rows = np.arange(20)
    stored = augmented(dataset, rows, Chances(), np.random.default_rng(0)).stored
    steps = (stored.depth[:, 0, 1].int() - stored.depth[:, 0, 0].int()).tolist()
    assert set(steps) == {-1, 1}
    flips = [step < 0 for step in steps]
    ir_flips = (stored.ir[:, 0, 0].int() > stored.ir[:, 0, -1].int()).tolist()
    assert ir_flips == flips


def test_dropout_leaves_each_sample_something(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    rng = np.random.default_rng(0)
    stored, is_blind, *_ = augmented(dataset, np.arange(48), Chances(dropout=1.0), rng)
    assert set(stored.present.sum(1).tolist()) == {1, 2}
    assert not is_blind.any()


def test_blinding_leaves_a_plane_that_shows_nothing(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    rng = np.random.default_rng(0)
    stored, is_blind, *_ = augmented(dataset, np.arange(48), Chances(blinding=1.0), rng)
    assert (is_blind.sum(1) == 1).all()
    assert stored.present.all()
    assert (stored.depth[is_blind[:, 1]].int() == 0).all()
    assert (stored.depth[~is_blind[:, 1]].int() > 0).all()
    for column, plane in ((0, stored.rgb), (2, stored.ir)):
        assert plane[is_blind[:, column]].max() < 24
        assert plane[~is_blind[:, column]].max() > 100


def test_covering_hides_the_same_part_from_all_modalities(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    for plane in (dataset.planes.rgb, dataset.planes.depth, dataset.planes.ir):
        plane[:] = 200
    rng = np.random.default_rng(0)
    stored = augmented(dataset, np.arange(48), Chances(covering=0.5), rng).stored
    hidden = stored.depth.int() == 0
    assert torch.equal(hidden, stored.ir == 0)
    assert torch.equal(hidden, (stored.rgb == 0).all(3))
    part = hidden.float().mean((1, 2)).numpy()
    assert 12 < (part > 0).sum() < 36
    assert ((part == 0) | ((part > 0.03) & (part < 0.5))).all()


def test_serving_shows_the_face_as_training_did() -> None:
    x, y = np.meshgrid(np.arange(200), np.arange(200))
    picture = ((np.sin(x / 9) + np.cos(y / 7)) * 60 + 128).astype(np.uint8)
    box = (60.0, 50.0, 70.0, 80.0)
    stored = crop_planes(None, None, picture, box, stored_px(112), 0.2).ir
    assert stored is not None
    trained = stored[6:-6, 6:-6]
    margin = ((1 + 2 * 0.2) * 112 / stored_px(112) - 1) / 2
    served = crop_planes(None, None, picture, box, 112, margin).ir
    wrong = crop_planes(None, None, picture, box, 112, 0.2).ir
    assert served is not None
    assert wrong is not None
    difference = np.abs(trained.astype(int) - served).mean()
    assert difference < 3
    assert np.abs(trained.astype(int) - wrong).mean() > 3 * difference
