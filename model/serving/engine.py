"""The engine: the one way to run a bundle's network on planes."""

import threading
from collections.abc import Sequence

import numpy as np
import torch

from model.data.planes import Planes, collate
from model.data.tensors import PlaneTensors
from model.errors import ModelError
from model.network.device import default_device
from model.network.mmfcnn import BONA_FIDE, FusionNetwork
from model.serving.bundle import Bundle, SelfTestFailed, selftest_rows
from model.serving.predictor import Prediction
from model.serving.presentations import ErrorRates

# Rounding differs a little between processors; a wrong weight or a swapped plane does a lot.
_SELFTEST_TOLERANCE = 0.02


class EngineError(ModelError):
    """The network's output is not a score; the frames of the batch get no decision from it."""


class Engine:
    """Runs a bundle's network on the CPU or a CUDA device; see `Predictor` for its attributes."""

    def __init__(
        self, bundle: Bundle, max_batch: int = 16, num_threads: int = 1, device: str = "auto"
    ) -> None:
        """Prepare the network for inference and run the bundle's self-test.

        Args:
            bundle: from `load_bundle`; the engine takes over its network and changes it.
            max_batch: largest number of faces in one call.
            num_threads: CPU threads per call.
            device: `cpu`, `cuda`, or `auto`: CUDA where there is one.

        Raises:
            SelfTestFailed: the network does not give the scores it was released with.
        """
        torch.set_num_threads(num_threads)
        self.model_id = bundle.model_id
        self.size = bundle.config.size
        self.crop_margin = bundle.crop_margin
        self.quality = bundle.quality
        self.depth_kind = bundle.depth_kind
        self.max_batch = max_batch
        self._bundle = bundle
        self._device = default_device() if device == "auto" else torch.device(device)
        self._network: FusionNetwork = bundle.network.fold().to(self._device)
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._lock = threading.Lock()
        self._run_selftest()

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """See `Predictor.threshold_for`."""
        return self._bundle.threshold_for(modalities)

    def error_rates(self, modalities: Sequence[str]) -> ErrorRates:
        """See `Predictor.error_rates`."""
        return self._bundle.error_rates(modalities)

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
        arrays = (batch.rgb, batch.depth, batch.ir, batch.present)
        with self._lock, torch.inference_mode():
            output = self._network(
                PlaneTensors(*(torch.from_numpy(a).to(self._device) for a in arrays))
            )
            scores = output.logits.softmax(1)[:, BONA_FIDE].cpu().numpy()
            evidence = output.evidence.cpu().numpy()
        if not (np.isfinite(scores).all() and np.isfinite(evidence).all()):
            raise EngineError(f"{self.model_id} gave a score that is not a number")
        return Prediction(scores, evidence)

    def _run_selftest(self) -> None:
        rows = selftest_rows(self._bundle.selftest)
        expected = self._bundle.selftest_scores
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
