"""A replica infers: a batch in one call of the network, and frame by frame where that fails."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from model.serving.predictor import Prediction
from workers.replica.in_flight import InFlight
from workers.replica.progress import Progress
from workers.replica.telemetry import Telemetry
from workers.wire.refusal import WorkerFailed

_log = logging.getLogger(__name__)

Inferred = tuple[Sequence[InFlight], Prediction | WorkerFailed]


class Inferrer:
    """Runs the network, in a thread of its own."""

    def __init__(self, telemetry: Telemetry, progress: Progress) -> None:
        """Start the thread once there is a batch."""
        self._telemetry = telemetry
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, "infer")

    async def run(self, batch: Sequence[InFlight]) -> list[Inferred]:
        """Return what the network says of a batch: of all its frames at once, if it can.

        Args:
            batch: decoded frames of one predictor.
        """
        said = await self._try(batch)
        if isinstance(said, WorkerFailed) and len(batch) > 1:
            # One of them may be what it failed on.
            return [([frame], await self._try([frame])) for frame in batch]
        return [(batch, said)]

    def close(self) -> None:
        """Let the thread end, once it is done with what it has."""
        self._thread.shutdown(wait=False)

    async def _try(self, batch: Sequence[InFlight]) -> Prediction | WorkerFailed:
        said: Prediction | WorkerFailed
        try:
            with self._progress.at("infer"):
                loop = asyncio.get_running_loop()
                said = await loop.run_in_executor(self._thread, self._predict, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, no frame is lost by it
            named = batch[0].named if len(batch) == 1 else None
            _log.exception("the network failed on a batch of %d", len(batch), extra=named)
            said = WorkerFailed(f"the network failed on it: {error!r:.200}")
        for frame in batch:
            frame.finish_stage("infer")
        return said

    def _predict(self, batch: Sequence[InFlight]) -> Prediction:
        predictor = batch[0].predictor
        assert predictor is not None  # noqa: S101 - only decoded frames get here
        started_s = time.perf_counter()
        prediction = predictor.predict([each.planes for each in batch if each.planes is not None])
        infer_s = time.perf_counter() - started_s
        decode_s = [each.decode_s for each in batch]
        self._telemetry.inferred(len(batch), infer_s, decode_s, batch[0].quality)
        return prediction
