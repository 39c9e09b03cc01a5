"""What a plan starts from: measured figures with their origin, and machines with their prices."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from loadtest.errors import LoadtestError
from workers.settings import Settings, problems_of

FIGURES = Path(__file__).with_name("figures.json")
MACHINES = Path(__file__).with_name("machines.toml")


class PlanError(LoadtestError):
    """There can be no such plan; the message says what to change."""


class Figure(Settings):
    """One measured figure.

    Attributes:
        value: None: it was not measured.
        unit: of it.
        how: it was measured.
    """

    value: Annotated[float, Field(gt=0)] | None
    unit: str
    how: str


class Figures(Settings):
    """All that a plan rests on; see `figures.json`."""

    hardware: str
    cpu_replica_fps: Figure
    cpu_replica_cores: Figure
    cpu_replica_mb: Figure
    gpu_replica_fps: Figure
    gpu_replica_cores: Figure
    gpu_replica_mb: Figure
    base_ms: Figure
    batch_ms: Figure
    shard_fps: Figure
    decisions_bytes_a_camera: Figure
    decision_bytes: Figure
    seq_bytes: Figure
    entry_overhead_bytes: Figure

    def of(self, name: str) -> float:
        """Return the value of a figure.

        Raises:
            PlanError: it was not measured.
        """
        figure: Figure = getattr(self, name)
        if figure.value is None:
            raise PlanError(f"{name} was not measured: measure it, and give it with --figures")
        return figure.value


class Machine(Settings):
    """A kind of machine that can be had."""

    name: Annotated[str, Field(min_length=1)]
    cores: Annotated[int, Field(ge=1)]
    gpus: Annotated[int, Field(ge=0)] = 0
    memory_gb: Annotated[float, Field(gt=0)]
    network_gbps: Annotated[float, Field(gt=0)]
    price_per_hour: Annotated[float, Field(ge=0)]


class _Machines(Settings):
    machine: Annotated[list[Machine], Field(min_length=1)]


def read_figures(path: Path = FIGURES) -> Figures:
    """Read measured figures.

    Raises:
        PlanError: the file can't be used; each line is one problem with its place.
    """
    figures: Figures = _checked(path, Figures, json.loads)
    return figures


def read_machines(path: Path = MACHINES) -> list[Machine]:
    """Read kinds of machines.

    Raises:
        PlanError: as `read_figures`.
    """
    machines: list[Machine] = _checked(path, _Machines, tomllib.loads).machine
    return machines


def _checked(path: Path, kind: Any, parse: Any) -> Any:  # noqa: ANN401 - as `kind` says
    try:
        return kind.model_validate(parse(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, loc))}: {what}" for loc, what in problems_of(error)]
        raise PlanError("\n".join(lines)) from error
    except ValueError as error:
        raise PlanError(f"{path}: can't be read: {error}") from error
