"""A bundle that no test changes, and ways to change its folder."""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from model.serving.bundle import Bundle
from tests.bundles import random_bundle

ALL = "rgb+depth+ir"


@cache
def pristine() -> Bundle:
    """Return a bundle that no test changes."""
    return random_bundle()


def edit_json(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)
    edit_json(folder, weights_sha256=sha256(path))
