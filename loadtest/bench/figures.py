"""Figures of a replica with one engine and one kind of frames, and the engines to compare."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from model.data.planes import SUBSETS, Planes
from model.serving.predictor import Prediction, Predictor
from workers.testing import ConstantPredictor


@dataclass
class Figures:
    """What was measured of one way to decide frames.

    Attributes:
        case: what decides.
        encoding: how the frames' planes are encoded; empty: they are not.
        fps: of each round, frames a second.
        cpu_us: of each round, processor time of this process a frame, us.
        server_us: of each round, that of the server, us.
        ratio: of each round, its frames a second to the bare engine's.
        mean_batch: of each round, frames in a batch.
    """

    case: str
    encoding: str = ""
    fps: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    ratio: list[float] = field(default_factory=list)
    mean_batch: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return medians, and the spread of the ratio, in a form that JSON can hold."""
        return {
            "case": self.case,
            "encoding": self.encoding,
            "fps": round(statistics.median(self.fps), 1),
            "fps_min": round(min(self.fps), 1),
            "fps_max": round(max(self.fps), 1),
            "cpu_us": round(statistics.median(self.cpu_us)),
            "server_us": round(statistics.median(self.server_us)),
            "batch": round(statistics.median(self.mean_batch), 1),
            "ratio": round(statistics.median(self.ratio), 3),
            "ratio_min": round(min(self.ratio), 3),
            "ratio_max": round(max(self.ratio), 3),
        }

    def add(
        self, fps: float, cpu_us: float, server_us: float, mean_batch: float, ratio: float
    ) -> None:
        """Take in one round; arguments as the attributes."""
        self.fps.append(fps)
        self.cpu_us.append(cpu_us)
        self.server_us.append(server_us)
        self.mean_batch.append(mean_batch)
        self.ratio.append(ratio)


class NullPredictor(ConstantPredictor):
    """An engine that takes no time."""

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Return the same score for each."""
        return Prediction(
            np.full(len(planes), self.score, np.float32),
            np.zeros((len(planes), len(SUBSETS)), np.float32),
        )


class Counted:
    """An engine whose batches are counted."""

    def __init__(self, predictor: Predictor) -> None:
        """Count none yet."""
        self._predictor = predictor
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the engine's
        """Return what the engine has."""
        return getattr(self._predictor, name)

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Count the batch, and run it."""
        self.batches.append(len(planes))
        return self._predictor.predict(planes)
