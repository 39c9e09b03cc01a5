"""Training, small: a list of pictures in, a bundle out, the same one each time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.dataset import Chances, load_dataset, stored_px, subsets
from model.data.lists import ListError
from model.data.planes import Planes, crop_planes
from model.data.readers import DatasetError
from model.network.mmfcnn import FUSIONS, Fusion, NetworkConfig
from model.serving.bundle import load_bundle
from model.serving.engine import Engine
from model.training.checkpoint import CheckpointError
from model.training.training import TrainingConfig, TrainingError, train
from tests.model.pictures import training_config


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return training_config(tmp_path)


def test_it_learns_and_writes_a_bundle_that_loads(config: TrainingConfig) -> None:
    epochs = list(train(config))
    assert epochs[-1].train_loss < epochs[0].train_loss
    bundle = load_bundle(config.bundle)
    Engine(bundle)
    assert "rgb+depth+ir" in bundle.thresholds
    assert set(bundle.about["val"]) == {"+".join(each) for each in subsets()}
    # 112 of 124 px are shown in training: serving has to show as much of the face.
    assert bundle.crop_margin == pytest.approx((1.4 * 112 / 124 - 1) / 2)
    with pytest.raises(FileExistsError):
        next(train(config))


def test_the_same_seed_gives_the_same_weights(config: TrainingConfig, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        list(train(replace(config, bundle=folder, epochs=1)))
        digests.append(load_bundle(folder).weights_sha256)
    assert digests[0] == digests[1]


def test_an_interrupted_run_goes_on_to_the_same_weights(
    config: TrainingConfig, tmp_path: Path
) -> None:
    whole, parts = (replace(config, bundle=tmp_path / name, epochs=3) for name in ("one", "two"))
    epochs = list(train(whole))
    interrupted = train(parts)
    assert next(interrupted) == epochs[0]
    interrupted.close()
    assert list(train(parts)) == epochs
    first, second = (load_bundle(each.bundle).weights_sha256 for each in (whole, parts))
    assert first == second


def test_a_checkpoint_of_other_settings_is_not_gone_on_from(config: TrainingConfig) -> None:
    next(train(config))
    with pytest.raises(CheckpointError, match="learning_rate"):
        next(train(replace(config, learning_rate=0.01)))


def test_a_run_stops_early(config: TrainingConfig) -> None:
    epochs = list(train(replace(config, epochs=30, patience=1)))
    assert len(epochs) < 30
    assert epochs[-1].val_loss >= epochs[-2].val_loss


def test_a_run_that_comes_to_nothing_writes_nothing(config: TrainingConfig) -> None:
    with pytest.raises(TrainingError, match="learning rate"):
        list(train(replace(config, learning_rate=1e6, epochs=2)))
    assert not config.bundle.exists()


def test_a_list_of_one_class_is_refused(config: TrainingConfig) -> None:
    lines = config.val.read_text().splitlines()
    config.val.write_text("".join(f"{line}\n" for line in lines if line.endswith(" 1")))
    with pytest.raises(ListError, match=r"val_list.txt: 8 of 8 samples are bona fide"):
        next(train(config))


def test_lists_that_share_a_sample_are_refused(config: TrainingConfig) -> None:
    line = config.train.read_text().splitlines()[5]
    config.val.write_text(f"{config.val.read_text()}{line}\n")
    with pytest.raises(TrainingError, match=r"val_list.txt:17: train-5_rgb.jpg is trained on too"):
        next(train(config))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_peer_is_trained_and_shipped_alike(config: TrainingConfig, fusion: Fusion) -> None:
    views = ("ir",) if fusion == "early" else ("rgb", "depth", "ir")
    network = NetworkConfig(views=views, depth=18, width=0.125, fusion=fusion)
    list(train(replace(config, network=network, abc="centre", epochs=6)))
    shares = Engine(load_bundle(config.bundle)).predict(_faces(2)).shares
    assert shares.sum(1) == pytest.approx(1)
    assert (shares[:, 2] == 1).all() == (fusion == "early")


def _faces(count: int) -> list[Planes]:
    rng = np.random.default_rng(1)
    return [
        Planes(
            rng.integers(0, 255, (112, 112, 3), np.uint8),
            rng.integers(500, 600, (112, 112), np.uint16),
            rng.integers(0, 255, (112, 112), np.uint8),
        )
        for _ in range(count)
    ]


def test_augmentation_keeps_the_modalities_registered(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    dataset.planes.ir[:] = np.arange(124, dtype=np.uint8)[None, None]
    dataset.planes.depth[:] = np.arange(124, dtype=np.uint16)[None, None]
    rows = np.arange(20)
    stored, _ = dataset.augmented(rows, Chances(), np.random.default_rng(0))
    steps = (stored.depth[:, 0, 1].int() - stored.depth[:, 0, 0].int()).tolist()
    assert set(steps) == {-1, 1}
    flips = [step < 0 for step in steps]
    ir_flips = (stored.ir[:, 0, 0].int() > stored.ir[:, 0, -1].int()).tolist()
    assert ir_flips == flips


def test_dropout_leaves_each_sample_something(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    rng = np.random.default_rng(0)
    stored, is_blind = dataset.augmented(np.arange(48), Chances(dropout=1.0), rng)
    assert set(stored.present.sum(1).tolist()) == {1, 2}
    assert not is_blind.any()


def test_blinding_leaves_a_plane_that_shows_nothing(config: TrainingConfig) -> None:
    dataset = load_dataset(config.train, 112)
    rng = np.random.default_rng(0)
    stored, is_blind = dataset.augmented(np.arange(48), Chances(blinding=1.0), rng)
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
    stored, _ = dataset.augmented(np.arange(48), Chances(covering=0.5), rng)
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


def test_a_picture_that_can_not_be_read_is_named(config: TrainingConfig) -> None:
    bad = config.train.parent / "train-3_depth.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"train_list.txt:4: .*train-3_depth.png: can't be read"):
        load_dataset(config.train, 112)
