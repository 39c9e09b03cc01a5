"""Checkpoints, from which an interrupted run continues as if it had not been interrupted.

    run.json              the run's config and its epochs; names the current state file
    state-N.safetensors   weights and the optimiser's moments after the last epoch, N = 0 or 1
    best.safetensors      weights of the best epoch

An interruption at any point leaves either the previous checkpoint or the new one.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from model.errors import ModelError
from model.network.mmfcnn import FusionNetwork

_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    safetensors.SafetensorError,
)


class CheckpointError(ModelError):
    """A run can't continue from its checkpoint; the message says why."""


class State(NamedTuple):
    """What changes from step to step.

    Attributes:
        network: its weights and the statistics of its batch normalisations.
        loss: some forms have parameters.
        optimiser: its moments.
    """

    network: FusionNetwork
    loss: nn.Module
    optimiser: torch.optim.Optimizer


class Checkpoint:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; the first `save` creates it."""
        self._folder = folder
        self._config: Mapping[str, Any] = {}

    def restore(self, config: Mapping[str, Any], state: State) -> list[dict[str, Any]]:
        """Bring `state` to the end of the last epoch, and return the epochs; [] if there is none.

        Raises:
            CheckpointError: the folder holds a run of another config, or can't be read.
        """
        self._config = json.loads(json.dumps(config))
        path = self._folder / "run.json"
        if not path.exists():
            return []
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            held = run["config"]
            changed = [key for key, value in self._config.items() if held.get(key) != value]
            if not changed:
                _load(state, safetensors.torch.load_file(self._folder / run["state"]))
            epochs: list[dict[str, Any]] = list(run["epochs"])
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{path}: can't continue from it ({error!r:.200}): remove the folder"
            ) from error
        if changed:
            raise CheckpointError(
                f"{path} is of a run with other settings ({', '.join(changed)}): remove the folder "
                "or choose another name for the bundle"
            )
        return epochs

    def save(self, epochs: Sequence[Mapping[str, Any]], state: State, *, is_best: bool) -> None:
        """Write a checkpoint; if interrupted, the previous one stays valid."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # The two files alternate: the one that run.json names is never being written.
        name = f"state-{len(epochs) % 2}.safetensors"
        parts = {
            "network.": state.network.state_dict(),
            "loss.": state.loss.state_dict(),
            "optimiser.": _moments(state.optimiser),
        }
        tensors = {
            prefix + key: value for prefix, part in parts.items() for key, value in part.items()
        }
        safetensors.torch.save_file(_contiguous(tensors), self._folder / name)
        if is_best:
            best = self._folder / "best.partial"
            safetensors.torch.save_file(_contiguous(state.network.state_dict()), best)
            best.replace(self._folder / "best.safetensors")
        run = {"config": self._config, "state": name, "epochs": list(epochs)}
        partial = self._folder / "run.partial"
        partial.write_text(json.dumps(run, indent=1), encoding="utf-8")
        partial.replace(self._folder / "run.json")

    def load_best(self, network: nn.Module) -> None:
        """Load the weights of the best epoch.

        Raises:
            CheckpointError: they can't be read.
        """
        path = self._folder / "best.safetensors"
        try:
            network.load_state_dict(safetensors.torch.load_file(path))
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{path}: can't be read ({error!r:.200}): remove the folder"
            ) from error


def _load(state: State, tensors: Mapping[str, Tensor]) -> None:
    state.network.load_state_dict(_part(tensors, "network."))
    state.loss.load_state_dict(_part(tensors, "loss."))
    parameters = state.optimiser.param_groups[0]["params"]
    for key, moment in _part(tensors, "optimiser.").items():
        number, name = key.split(".")
        parameter = parameters[int(number)]
        # AdamW counts its steps on the CPU, wherever the parameters are.
        device = "cpu" if name == "step" else parameter.device
        state.optimiser.state[parameter][name] = moment.to(device)


def _moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": moment
        for number, parameter in enumerate(optimiser.param_groups[0]["params"])
        for name, moment in optimiser.state.get(parameter, {}).items()
        if isinstance(moment, Tensor)
    }


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.contiguous() for key, value in tensors.items()}
