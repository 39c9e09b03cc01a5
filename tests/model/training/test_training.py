"""Training, small: a list of pictures in, a bundle out, the same one each time."""

import hashlib
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from model.data.augmentation import Chances
from model.data.dataset import Dataset, load_dataset
from model.data.lists import ListError
from model.data.planes import MODALITIES, SUBSETS, Planes
from model.data.readers import DatasetError
from model.errors import SettingError
from model.evaluation.scoring import DepthKindMismatch, score
from model.network.config import ADDITIVE, FUSIONS, Fusion, NetworkConfig
from model.serving.bundle import load_bundle
from model.serving.eager import eager_engine
from model.training.checkpoint import CheckpointError
from model.training.curves import write_curves
from model.training.recipe import TrainingConfig
from model.training.release import release
from model.training.training import (
    Epoch,
    TrainingError,
    has_stalled,
    selectable,
    train,
)
from tests.model.pictures import learned_bundle


def learnable(config: TrainingConfig, **changes: Any) -> TrainingConfig:
    """Return a recipe of enough steps for each network to have learnt something.

    Of 8 seeds and three instruction sets, none failed; with a third of the steps, one in 20 did.
    """
    return replace(config, **{"epochs": 10, "batch": 8, **changes})


def test_it_learns_and_writes_a_bundle_that_loads(config: TrainingConfig) -> None:
    config = learnable(config)
    epochs = list(train(config))
    assert min(epoch.val_loss for epoch in epochs) < np.log(2)
    bundle = load_bundle(config.bundle)
    eager_engine(bundle)
    assert "rgb+depth+ir" in bundle.thresholds
    assert bundle.about["selection"].endswith("on bona fide and attack")
    assert set(bundle.about["val"]) == {"+".join(each) for each in SUBSETS}
    # 112 of 124 px are shown in training: serving has to show as much of the face.
    assert bundle.crop_margin == pytest.approx((1.4 * 112 / 124 - 1) / 2)
    with pytest.raises(FileExistsError):
        next(train(config))


def test_the_same_seed_gives_the_same_weights(config: TrainingConfig, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        next(train(replace(config, bundle=folder)))
        weights = folder.with_name(f"{name}.training") / "best.safetensors"
        digests.append(hashlib.sha256(weights.read_bytes()).digest())
    assert digests[0] == digests[1]


def test_an_interrupted_run_goes_on_to_the_same_weights(
    config: TrainingConfig, tmp_path: Path
) -> None:
    states = []
    for name, sittings in (("one", [3]), ("two", [1, 2, 3])):
        folder = tmp_path / name
        for count in sittings:
            run = train(replace(config, bundle=folder))
            epochs = list(islice(run, count))
            run.close()
        state = folder.with_name(f"{name}.training") / "state-1.safetensors"
        states.append((epochs, hashlib.sha256(state.read_bytes()).digest()))
    assert states[0] == states[1]


def test_a_checkpoint_of_other_settings_is_refused(config: TrainingConfig) -> None:
    next(train(config))
    with pytest.raises(CheckpointError, match="learning_rate"):
        next(train(replace(config, learning_rate=0.01)))


@pytest.mark.parametrize("name", ["run.json", "state-1.safetensors"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"config": 5}'])
def test_a_damaged_checkpoint_is_refused(config: TrainingConfig, name: str, content: bytes) -> None:
    next(train(config))
    (config.bundle.with_name("bundle.training") / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="can't continue from it"):
        next(train(config))


def test_a_run_stops_once_the_loss_has_stalled() -> None:
    def stalled(*losses: float) -> bool:
        epochs = [Epoch(n, 1.0, loss, 0.1, 0.1, []) for n, loss in enumerate(losses, 1)]
        return has_stalled(epochs, patience=2)

    assert not stalled()
    assert not stalled(0.9, 1.0)
    assert stalled(0.9, 1.0, 0.9)
    assert not stalled(0.9, 1.0, 0.8, 0.8)


def test_a_stalled_run_is_not_trained_further(config: TrainingConfig) -> None:
    # Losses are clipped at 1e-7, so that they can't fall for ever.
    epochs = list(train(learnable(config, epochs=400, patience=1)))
    assert len(epochs) < 400
    assert epochs[-1].val_loss >= epochs[-2].val_loss


def test_a_run_that_learns_nothing_writes_nothing(config: TrainingConfig) -> None:
    # Weight decay alone takes weights out of a float's range in two steps.
    with pytest.raises(TrainingError, match="score is nan: lower the learning rate"):
        list(train(replace(config, learning_rate=1e30, epochs=2)))
    assert not config.bundle.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"abc": "margin"},
        {"epochs": 0},
        {"patience": 1.5},
        {"batch": 1},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"decay": 2},
        {"seed": -1},
        {"threads": True},
        {"weight_decay": -1},
        {"matching": -1},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense(config: TrainingConfig, fields: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as raised:
        replace(config, **fields)
    assert (raised.value.field, raised.value.value) == next(iter(fields.items()))


def test_a_chance_is_a_probability(config: TrainingConfig) -> None:
    with pytest.raises(SettingError, match="dropout must be a number from 0 to 1, is 3"):
        replace(config, chances=Chances(dropout=3))


class TestModelSelection:
    """Species that are to be unknown must not decide which epoch is the best."""

    def named(self, dataset: Dataset, *species: str) -> Dataset:
        names = iter(species * len(dataset))
        return replace(
            dataset, species=tuple("bona_fide" if each else next(names) for each in dataset.label)
        )

    def test_it_uses_species_that_are_trained_on(self, config: TrainingConfig) -> None:
        train_set, val_set = (load_dataset(each, 112) for each in (config.train, config.val))
        rows = selectable(self.named(train_set, "print"), self.named(val_set, "print", "mask"))
        used = [self.named(val_set, "print", "mask").species[row] for row in rows]
        assert (used.count("bona_fide"), used.count("print"), used.count("mask")) == (8, 4, 0)

    def test_without_them_the_last_epoch_is_taken(self, config: TrainingConfig) -> None:
        def read(path: Path, size: int) -> Dataset:
            species = "print" if path == config.train else "mask"
            return self.named(load_dataset(path, size), species)

        config = learnable(config, patience=1)
        assert not len(selectable(read(config.train, 112), read(config.val, 112)))
        assert len(list(train(config, read))) == config.epochs
        assert load_bundle(config.bundle).about["selection"].startswith("last epoch")
        folder = config.bundle.with_name("bundle.training")
        best = safetensors.torch.load_file(folder / "best.safetensors")
        last = safetensors.torch.load_file(folder / "state-0.safetensors")
        assert all(torch.equal(value, last[f"network.{name}"]) for name, value in best.items())


def test_scores_that_saturate_still_make_a_bundle(config: TrainingConfig) -> None:
    # A few steps too many, and all of bona fide score exactly 1: the classes are separate.
    network = learned_bundle(config).network
    with torch.no_grad():
        network.head.weight *= 1000  # type: ignore[operator]
        network.head.bias *= 1000  # type: ignore[operator]
    val_set = load_dataset(config.val, 112)
    scores = score(network, val_set, MODALITIES)
    assert set(scores[val_set.label == 1]) == {1.0}
    bundle = release("saturated", network, val_set, {})
    assert scores[val_set.label == 0].max() < bundle.thresholds["rgb+depth+ir"].value < 1


def test_classes_that_score_alike_are_refused(config: TrainingConfig) -> None:
    network = learned_bundle(config).network
    with torch.no_grad():
        network.head.weight.zero_()  # type: ignore[operator, union-attr]
    with pytest.raises(TrainingError, match=r"no bona fide presentation .* learned nothing"):
        release("constant", network, load_dataset(config.val, 112), {})


def test_depth_of_another_kind_is_refused(config: TrainingConfig) -> None:
    network = replace(config.network, depth_mode="casia8")
    with pytest.raises(DepthKindMismatch, match=r"train_list.txt:1: .* millimetres, .* 8-bit"):
        next(train(replace(config, network=network)))
    # A network that does not look at depth takes either.
    colour = replace(network, views=("rgb",), fusion="early")
    next(train(replace(config, network=colour)))


def test_a_list_of_two_kinds_of_depth_is_refused(config: TrainingConfig) -> None:
    cv2.imwrite(str(config.train.parent / "train-7_depth.png"), np.full((124, 124), 90, np.uint8))
    with pytest.raises(DatasetError, match=r"train_list.txt:8: .* 8-bit depth.* one kind of depth"):
        load_dataset(config.train, 112)


def test_eight_bit_depth_is_known_as_such(config: TrainingConfig) -> None:
    for number in range(48):
        name = config.train.parent / f"train-{number}_depth.png"
        cv2.imwrite(str(name), np.full((124, 124), 90, np.uint8))
    dataset = load_dataset(config.train, 112)
    assert dataset.depth_kind == "8-bit"
    assert dataset.thinned(3).depth_kind == "8-bit"


def test_curves(tmp_path: Path) -> None:
    epochs = [Epoch(number, 1 / number, 1 / number, 0.1, 0.2, []) for number in (1, 2, 3)]
    write_curves(epochs, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500


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


@pytest.mark.parametrize("fusion", [each for each in FUSIONS if each not in ADDITIVE])
def test_a_peer_is_trained_and_shipped_alike(config: TrainingConfig, fusion: Fusion) -> None:
    views = ("ir",) if fusion == "early" else ("rgb", "depth", "ir")
    network = NetworkConfig(views=views, depth=18, width=0.125, fusion=fusion)
    next(train(replace(config, network=network, abc="centre")))
    made = eager_engine(learned_bundle(replace(config, network=network))).predict(_faces(2))
    assert made.scores == pytest.approx(1 / (1 + np.exp(-made.evidence.sum(1))), abs=1e-5)


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_additive_evidence_is_trained_alike(config: TrainingConfig, fusion: Fusion) -> None:
    network = NetworkConfig(depth=18, width=0.125, size=64, fusion=fusion)
    chances = Chances(dropout=0.3, composing=0.5, holes=0.5)
    epoch = next(
        train(replace(config, network=network, abc="none", optimiser="adamw", chances=chances))
    )
    assert np.isfinite([epoch.train_loss, epoch.val_loss]).all()


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


def test_a_picture_that_can_not_be_read_is_named(config: TrainingConfig) -> None:
    bad = config.train.parent / "train-3_depth.png"
    bad.write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"train_list.txt:4: .*train-3_depth.png: depth is no"):
        load_dataset(config.train, 112)
