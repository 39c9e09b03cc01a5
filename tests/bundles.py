"""A small bundle with random weights, made in a second: to test the way, not the judgement."""

from pathlib import Path

import numpy as np
import torch

from model.data.planes import SUBSETS, PlaneBatch
from model.data.quality import ANY_QUALITY
from model.data.tensors import PlaneTensors
from model.network.config import Fusion, NetworkConfig
from model.network.mmfcnn import BONA_FIDE
from model.network.peers import build_network
from model.serving.bundle import Bundle, Threshold, save_bundle

SIZE = 64


def random_planes(count: int, seed: int = 0, size: int = SIZE) -> PlaneBatch:
    rng = np.random.default_rng(seed)
    return PlaneBatch(
        rgb=rng.integers(0, 256, (count, size, size, 3), np.uint8),
        depth=rng.integers(300, 900, (count, size, size), np.uint16),
        ir=rng.integers(0, 256, (count, size, size), np.uint8),
        present=np.ones((count, 3), np.bool_),
    )


def stored(planes: PlaneBatch) -> PlaneTensors:
    return PlaneTensors(
        torch.from_numpy(planes.rgb),
        torch.from_numpy(planes.depth),
        torch.from_numpy(planes.ir),
        torch.from_numpy(planes.present),
    )


def random_bundle(name: str = "random", seed: int = 0, fusion: Fusion = "multi") -> Bundle:
    torch.manual_seed(seed)
    config = NetworkConfig(depth=18, width=0.125, size=SIZE, fusion=fusion)
    network = build_network(config).eval()
    planes = random_planes(4)
    with torch.inference_mode():
        scores = network(stored(planes)).logits.softmax(1)[:, BONA_FIDE].numpy()
    return Bundle(
        name=name,
        network=network,
        crop_margin=0.2,
        quality=ANY_QUALITY,
        thresholds={"+".join(each): Threshold(float(np.median(scores))) for each in SUBSETS},
        selftest=planes,
        selftest_scores=scores,
    )


def write_random_bundle(folder: Path) -> Path:
    return save_bundle(random_bundle(), folder)
