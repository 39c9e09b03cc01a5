"""Pictures that differ as simply as can be, and a recipe that learns them in a moment."""

from pathlib import Path

import cv2
import numpy as np

from model.data.dataset import Chances
from model.data.lists import ListEntry, write_list
from model.network.mmfcnn import NetworkConfig
from model.training.training import TrainingConfig


def write_set(folder: Path, name: str, count: int, seed: int) -> Path:
    """Write a list of bulging faces and flat sheets, and their pictures."""
    rng = np.random.default_rng(seed)
    across = np.linspace(-1, 1, 124)
    bulge = 60 * np.sqrt(np.maximum(0, 1 - across[:, None] ** 2 - across[None] ** 2))
    entries = []
    for number in range(count):
        label = number % 2
        stem = folder / f"{name}-{number}"
        depth = 600 - bulge * label + rng.normal(0, 2, (124, 124))
        planes = {
            "rgb": (rng.integers(0, 170, (124, 124, 3), np.uint8) + np.uint8(80 * label), "jpg"),
            "depth": (depth.astype(np.uint16), "png"),
            "ir": (rng.integers(100, 140, (124, 124), np.uint8) + 60 * label, "jpg"),
        }
        files = {}
        for modality, (pixels, ending) in planes.items():
            files[modality] = Path(f"{stem}_{modality}.{ending}")
            cv2.imwrite(str(files[modality]), pixels)
        entries.append(ListEntry(**files, label=label))
    path = folder / f"{name}_list.txt"
    write_list(path, entries)
    return path


def training_config(folder: Path) -> TrainingConfig:
    return TrainingConfig(
        train=write_set(folder, "train", 48, 1),
        val=write_set(folder, "val", 16, 2),
        bundle=folder / "bundle",
        network=NetworkConfig(depth=18, width=0.125),
        epochs=4,
        batch=16,
        learning_rate=0.05,
        threads=1,
        # Hiding parts of so few faces takes longer to learn from.
        chances=Chances(dropout=0.4, blinding=0.15),
        bf16=False,
    )
