"""Pictures that differ as simply as can be, and networks that separate them.

A few steps of training depend on how a processor rounds. A test that needs a network which works
takes `learned_bundle`, whose last layer is fitted in closed form.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from model.data.augmentation import Chances
from model.data.dataset import load_dataset
from model.data.lists import ListEntry, write_list
from model.network.config import NetworkConfig
from model.network.peers import build_network
from model.serving.bundle import Bundle, load_bundle, save_bundle
from model.training.recipe import TrainingConfig
from model.training.release import release


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


def learned_bundle(config: TrainingConfig) -> Bundle:
    """Return a saved bundle that separates the pictures: random layers, a head by least squares."""
    torch.manual_seed(0)
    network = build_network(config.network).eval()
    dataset = load_dataset(config.train, config.network.size)
    inputs: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))  # type: ignore[operator]
    with torch.inference_mode():
        network(dataset.batch(np.arange(len(dataset))))
    hook.remove()
    features = inputs[0].double().numpy()
    targets = dataset.label * 2.0 - 1.0
    middle, scale = features.mean(0), features.std(0) + 1e-6
    design = (features - middle) / scale
    ridge = 1e-3 * len(design) * np.eye(design.shape[1])
    weights = 4 * np.linalg.solve(design.T @ design + ridge, design.T @ targets) / scale
    with torch.no_grad():
        # The logits of the two classes are each other's negative.
        network.head.weight.copy_(torch.from_numpy(np.stack([-weights, weights])))  # type: ignore[union-attr, operator]
        network.head.bias.copy_(torch.from_numpy(np.array([1.0, -1.0]) * (weights @ middle)))  # type: ignore[union-attr, operator]
    val_set = load_dataset(config.val, config.network.size)
    return load_bundle(save_bundle(release("bundle", network, val_set, {}), config.bundle))
