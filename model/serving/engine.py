"""The engine: the one way to run a bundle on planes, whatever runs its network.

`model.serving.eager` runs it as it was trained, `model.serving.graph` as an exported graph, without
torch; `open_engine` takes the faster one that there is.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.planes import DepthKind, PlaneBatch, Planes, collate
from model.data.quality import QualityLimits
from model.errors import ModelError
from model.network.config import NetworkConfig
from model.serving.folder import SelfTestFailed
from model.serving.manifest import Threshold
from model.serving.predictor import Prediction
from model.serving.presentations import ErrorRates
from model.serving.selftest import selftest_rows
from model.serving.served import error_rates, read_bundle, threshold_for

# Rounding differs a little between processors; a wrong weight or a swapped plane does a lot.
_SELFTEST_TOLERANCE = 0.02

_log = logging.getLogger(__name__)


class EngineError(ModelError):
    """The network's output is not a score; the frames of the batch get no decision from it."""


class Runner(Protocol):
    """What runs a network.

    Attributes:
        name: what it is, for people: `eager on cpu`.
    """

    name: str

    def run(self, batch: PlaneBatch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scores (B,) and evidence (B, 7) of a batch, see `Prediction`."""
        ...


class Facts(Protocol):
    """What an engine must know of a bundle; both kinds of bundles tell it."""

    @property
    def model_id(self) -> str: ...  # noqa: D102 - as in `Bundle`

    @property
    def config(self) -> NetworkConfig: ...  # noqa: D102

    @property
    def crop_margin(self) -> float: ...  # noqa: D102

    @property
    def quality(self) -> QualityLimits: ...  # noqa: D102

    @property
    def depth_kind(self) -> DepthKind: ...  # noqa: D102

    @property
    def thresholds(self) -> Mapping[str, Threshold]: ...  # noqa: D102

    @property
    def required(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def selftest(self) -> PlaneBatch: ...  # noqa: D102

    @property
    def selftest_scores(self) -> NDArray[np.float32]: ...  # noqa: D102


class Engine:
    """Runs a bundle's network; see `Predictor` for its attributes."""

    def __init__(self, bundle: Facts, runner: Runner, max_batch: int = 16) -> None:
        """Run the bundle's self-test.

        Args:
            bundle: whose network it is.
            runner: runs it.
            max_batch: largest number of faces in one call.

        Raises:
            SelfTestFailed: the network does not give the scores it was released with.
        """
        self.model_id = bundle.model_id
        self.size = bundle.config.size
        self.crop_margin = bundle.crop_margin
        self.quality = bundle.quality
        self.depth_kind: DepthKind = bundle.depth_kind
        self.max_batch = max_batch
        self.runs_on = runner.name
        self._runner = runner
        self._thresholds, self._required = bundle.thresholds, bundle.required
        self._lock = threading.Lock()
        self._run_selftest(bundle)

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """See `Predictor.threshold_for`."""
        return threshold_for(self._thresholds, self._required, modalities)

    def error_rates(self, modalities: Sequence[str]) -> ErrorRates:
        """See `Predictor.error_rates`."""
        return error_rates(self._thresholds, modalities)

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Score 1 to `max_batch` faces; a face's score does not depend on the others.

        Args:
            planes: of `size` px, each with at least one modality; see `Planes` for dtypes.

        Raises:
            ValueError: no face, too many, or planes of another size.
            model.data.planes.PlaneError: a plane has another dtype or shape.
            EngineError: a score or its evidence is not a number.
        """
        if not 0 < len(planes) <= self.max_batch:
            raise ValueError(f"1 to {self.max_batch} faces make a batch, not {len(planes)}")
        batch = collate(planes)
        if batch.ir.shape[1] != self.size:
            raise ValueError(f"planes must be {self.size} px, are {batch.ir.shape[1]} px")
        with self._lock:
            scores, evidence = self._runner.run(batch)
        if not (np.isfinite(scores).all() and np.isfinite(evidence).all()):
            raise EngineError(f"{self.model_id} gave a score that is not a number")
        return Prediction(scores, evidence)

    def _run_selftest(self, bundle: Facts) -> None:
        rows, expected = selftest_rows(bundle.selftest), bundle.selftest_scores
        for start in range(0, len(rows), self.max_batch):
            try:
                scores = self.predict(rows[start : start + self.max_batch]).scores
            except EngineError as error:
                raise SelfTestFailed(f"{self.model_id}: self-test: {error}") from error
            worst = float(np.abs(scores - expected[start : start + self.max_batch]).max())
            if not worst <= _SELFTEST_TOLERANCE:
                raise SelfTestFailed(
                    f"{self.model_id}: a self-test score is off by {worst:.3f}, allowed are "
                    f"{_SELFTEST_TOLERANCE}"
                )


def open_engine(folder: Path, max_batch: int = 16, num_threads: int = 1) -> Engine:
    """Return an engine for the bundle in a folder: on CUDA where this process may use a device.

    On the CPU it runs an exported graph, without torch in this process. Where that can't be had,
    the log says why, and the network runs as it was trained.

    Args:
        folder: of the bundle.
        max_batch: largest number of faces in one call.
        num_threads: CPU threads per call.

    Raises:
        BundleError: one of its subclasses says what is wrong.
    """
    if not _has_cuda():
        from model.serving.graph import GraphError, graph_runner  # noqa: PLC0415 - not with CUDA

        served = read_bundle(folder)
        try:
            return Engine(served, graph_runner(served, num_threads), max_batch)
        except (GraphError, SelfTestFailed) as error:
            _log.warning("%s runs slower, as it was trained: %s", served.model_id, error)
    from model.serving.bundle import load_bundle  # noqa: PLC0415 - torch takes seconds
    from model.serving.eager import eager_engine  # noqa: PLC0415

    return eager_engine(load_bundle(folder), max_batch, num_threads)


def _has_cuda() -> bool:
    """Say whether there is a CUDA device that was not hidden, without asking torch."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1", "NoDevFiles")
    return Path("/proc/driver/nvidia/version").exists() and not is_hidden
