"""The protocols over several data sets, on made-up trees of each one's exact format."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.augmentation import Chances
from model.data.dataset import joined, load_dataset
from model.data.readers import DatasetError
from model.errors import SettingError
from model.network.config import NetworkConfig
from model.training.domains import DomainConfig, DomainError, as_8_bit, markdown, plan, run
from model.training.recipe import TrainingConfig
from tests.model.pictures import write_set

_EACH = 16
_SIDE = 80


def planes(
    number: int, label: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a bright bulge, or a dark sheet; depth as grey values, nearer is brighter."""
    rng = np.random.default_rng([number, label])
    across = np.linspace(-1, 1, _SIDE)
    bulge = 90 * np.sqrt(np.maximum(0, 1 - across[:, None] ** 2 - across[None] ** 2)) * label
    shape = (_SIDE, _SIDE)
    rgb = rng.integers(0, 120, (*shape, 3)) + 110 * label
    depth = 100 + bulge + rng.normal(0, 3, shape)
    ir = rng.integers(80, 120, shape) + 90 * label
    return rgb.astype(np.uint8), depth.astype(np.uint8), ir.astype(np.uint8)


def write_files(files: tuple[Path, Path, Path], number: int, label: int) -> None:
    for file, plane in zip(files, planes(number, label), strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), plane)


def casia_surf(folder: Path, part: str, seed: int) -> Path:
    lines = []
    for number in range(_EACH):
        label = number % 2
        stem = "real_part/CLKJ_AS{:04d}/real" if label else "fake_part/CLKJ_AS{:04d}/06_enm_b"
        stem = f"{part}/{stem.format(seed + number // 2)}.rssdk"
        names = [f"{stem}/{each}/1.jpg" for each in ("color", "depth", "ir")]
        write_files((folder / names[0], folder / names[1], folder / names[2]), seed + number, label)
        lines.append(f"{' '.join(names)} {label}")
    path = folder / f"{part}_list.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def cefa(folder: Path, part: str, seed: int) -> Path:
    lines = []
    for number in range(_EACH):
        label = number % 2
        video = f"{part}/1_{seed + number // 2:03d}_1_1_{1 if label else 2}"
        root = folder / video
        write_files(
            (root / "profile/1.jpg", root / "depth/1.jpg", root / "ir/1.jpg"), seed + number, label
        )
        lines.append(f"{video} {1 - label}")
    path = folder / f"4@1_{part}.txt"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def wmca(folder: Path, part: str, seed: int) -> Path:
    names = []
    folder.mkdir(exist_ok=True)
    for number in range(_EACH):
        label = number % 2
        rgb, depth, ir = planes(seed + number, label)
        kind = "0_00" if label else "3_10"
        name = f"{seed + number // 2:03d}_01_000_{kind}.hdf5"
        channels = np.stack([*rgb.transpose(2, 0, 1), depth, ir, ir])
        with h5py.File(folder / name, "w") as file:
            file.create_group("Frame_0").create_dataset("array", data=channels)
        names.append(name)
    path = folder / f"{part}.txt"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def padisi(folder: Path) -> Path:
    (folder / "multi_channel").mkdir(parents=True)
    keys = ["transaction_id", "trial_id", "trial_name"]
    truth, table = [[*keys, "ground_truth"]], [[*keys, "partition_name"]]
    for number in range(2 * _EACH):
        label = number % 2
        rgb, depth, ir = planes(900 + number, label)
        # In millimetres here, and nearer is less.
        mm = 800 - depth.astype(np.float32)
        data = np.zeros((1, 22, _SIDE, _SIDE), np.float32)
        data[0, :3] = rgb[..., ::-1].transpose(2, 0, 1) / 255
        data[0, 3], data[0, 4] = ir / 255, mm / 65535
        row = [f"t{number}", "r1", "neutral" if label else "mask"]
        np.savez_compressed(folder / "multi_channel" / f"ID_{'_'.join(row)}.npz", data=data)
        truth.append([*row, "m00000" if label else "m50602"])
        table.append([*row, "train" if number < _EACH else "test"])
    for name, rows in (("padisi_USC_FACE_ground_truth.csv", truth), ("part0.csv", table)):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder / "part0.csv"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DomainConfig:
    root = tmp_path_factory.mktemp("sets")
    table = padisi(root / "padisi")
    lists = {
        "S": (casia_surf(root / "surf", "Training", 0), casia_surf(root / "surf", "Val", 100)),
        "C": (cefa(root / "cefa", "train", 200), cefa(root / "cefa", "test", 300)),
        "W": (wmca(root / "wmca", "train", 400), wmca(root / "wmca", "test", 500)),
        "P": (table.with_name("part0.csv#train"), table.with_name("part0.csv#test")),
    }
    recipe = TrainingConfig(
        train=root,
        val=root,
        bundle=root,
        network=NetworkConfig(depth=18, width=0.125, size=64, fusion="heads", depth_mode="casia8"),
        abc="none",
        epochs=5,
        batch=12,
        optimiser="adamw",
        learning_rate=0.005,
        threads=1,
        chances=Chances(dropout=0.3),
        bf16=False,
    )
    return DomainConfig(recipe, lists, root / "runs")


def test_what_would_be_run_is_told(config: DomainConfig) -> None:
    told = plan(config).splitlines()
    assert "C cefa train: 16 samples, 8 bona fide, 1 species, 80x80 px" in told
    assert "protocol 1: CPS -> W" in told
    assert "protocol 2: PSW -> C without depth and ir" in told
    assert len(told) == 4 * 2 + 4 + 12 + 2


def test_each_network_is_trained_once_and_tested_on_what_it_has_not_seen(
    config: DomainConfig,
) -> None:
    assert list(run(config)) == ["CPS", "CPW", "CSW", "PSW", "CW", "PS"]
    rows = json.loads((config.folder / "table.json").read_text())
    assert len(rows) == 18
    assert all(0 <= row["HTER"]["rate"] <= 0.5 for row in rows)
    # What a bulge is was learned elsewhere, and of depth in another unit too.
    first = {row["target"]: row for row in rows if row["protocol"] == "1"}
    assert all(row["AUC"] > 0.9 for row in first.values())
    assert (config.folder / "table.md").read_text() == markdown(rows)
    # A second time nothing is trained again.
    assert list(run(replace(config, protocols=("3",)))) == ["CW", "PS"]


def test_millimetres_become_grey_values(config: DomainConfig) -> None:
    found = as_8_bit(load_dataset(config.lists["P"][0], 64))
    assert found.depth_kind == "8-bit"
    middle = found.planes.depth[:, 30:40, 30:40].mean((1, 2))
    rim = found.planes.depth[:, :5, :5].mean((1, 2))
    assert (middle[found.label == 1] > rim[found.label == 1] + 30).all()
    assert (abs(middle - rim)[found.label == 0] < 10).all()


def test_what_can_not_be_run_is_refused(config: DomainConfig, tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="no protocol can be run on CW"):
        replace(config, lists={name: config.lists[name] for name in "CW"})
    with pytest.raises(SettingError, match="protocols must be one of 1, 2, 3"):
        replace(config, protocols=("4",))


def test_depth_of_two_kinds_is_never_mixed(config: DomainConfig, tmp_path: Path) -> None:
    millimetres = load_dataset(write_set(tmp_path, "some", 4, 1), 64)
    with pytest.raises(DatasetError, match="has 8-bit depth"):
        joined(load_dataset(config.lists["C"][0], 64), millimetres)
