"""Where a training run stands, so that it can be interrupted and go on as if it had not been.

run.json              the run's config and its epochs
state.safetensors     weights and momentum after the last epoch
best.safetensors      weights after the best one
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from model.errors import ModelError


class CheckpointError(ModelError):
    """A checkpoint can't be gone on from; the message says why."""


class Checkpoint:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made by the first `save`."""
        self._folder = folder
        self._config: Mapping[str, Any] = {}

    def restore(
        self,
        config: Mapping[str, Any],
        network: nn.Module,
        loss: nn.Module,
        optimiser: torch.optim.Optimizer,
    ) -> list[dict[str, Any]]:
        """Put a run back where it stood and return its epochs; [] if there is none.

        Raises:
            CheckpointError: the folder holds a run of another config, or can't be read.
        """
        self._config = json.loads(json.dumps(config))
        path = self._folder / "run.json"
        if not path.exists():
            return []
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            state = safetensors.torch.load_file(self._folder / run["state"])
        except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"{path}: can't be gone on from: {error}") from error
        if run["config"] != self._config:
            changed = [
                key for key, value in self._config.items() if run["config"].get(key) != value
            ]
            raise CheckpointError(
                f"{path} is of a run with other settings ({', '.join(changed)}): remove the folder "
                "or choose another name for the bundle"
            )
        network.load_state_dict(_part(state, "network."))
        loss.load_state_dict(_part(state, "loss."))
        momentum = _part(state, "momentum.")
        for number, parameter in enumerate(optimiser.param_groups[0]["params"]):
            if str(number) in momentum:
                optimiser.state[parameter]["momentum_buffer"] = momentum[str(number)].to(
                    parameter.device
                )
        epochs: list[dict[str, Any]] = run["epochs"]
        return epochs

    def save(
        self,
        epochs: Sequence[Mapping[str, Any]],
        network: nn.Module,
        loss: nn.Module,
        optimiser: torch.optim.Optimizer,
        *,
        is_best: bool,
    ) -> None:
        """Note where the run stands; an interruption leaves the last state or this one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        momentum = {
            str(number): optimiser.state[parameter]["momentum_buffer"]
            for number, parameter in enumerate(optimiser.param_groups[0]["params"])
            if parameter in optimiser.state
        }
        # Two files by turns: the one that run.json names is never being written.
        name = f"state-{len(epochs) % 2}.safetensors"
        parts = {
            "network.": network.state_dict(),
            "loss.": loss.state_dict(),
            "momentum.": momentum,
        }
        state = {
            prefix + key: value.contiguous()
            for prefix, tensors in parts.items()
            for key, value in tensors.items()
        }
        safetensors.torch.save_file(state, self._folder / name)
        if is_best:
            best = self._folder / "best.partial"
            safetensors.torch.save_file(_contiguous(network.state_dict()), best)
            best.replace(self._folder / "best.safetensors")
        run = {"config": self._config, "state": name, "epochs": list(epochs)}
        partial = self._folder / "run.partial"
        partial.write_text(json.dumps(run, indent=1), encoding="utf-8")
        partial.replace(self._folder / "run.json")

    def load_best(self, network: nn.Module) -> None:
        """Give a network the weights of the best epoch."""
        network.load_state_dict(safetensors.torch.load_file(self._folder / "best.safetensors"))


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in state.items()}
