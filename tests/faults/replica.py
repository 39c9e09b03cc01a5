"""One replica as a process of its own: the real stream and pipeline, and a network that is not.

    python -m tests.faults.replica SETTINGS NAME

SETTINGS is JSON of `WorkerSettings`. SIGTERM drains. A pipeline that says that it makes no headway
ends the process with code 3, as Serve would end it.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.data.planes import SUBSETS, Planes
from model.serving.predictor import Prediction
from workers.replica.pipeline import Pipeline
from workers.replica.process import end_with_parent
from workers.replica.progress import PipelineStalled
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.redis_stream import RedisStream
from workers.testing import ConstantPredictor
from workers.wire.keyring import Keyring
from workers.wire.signing import AcceptUnsigned

STALLED = 3
POISON, ATTACK, BONA_FIDE = 7, 60, 200  # the value of all pixels of a frame


class NoMetrics:
    """A metrics backend that keeps nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: self

    def __call__(self, *_: Any, **__: Any) -> None:
        return None


class ByBrightness(ConstantPredictor):
    """Bright frames are bona fide, dark ones are not, and one value ends the process."""

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        values = [float(np.asarray(each.rgb).mean()) for each in planes]
        if any(abs(value - POISON) < 1 for value in values):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(random.uniform(0, 0.04))  # so that faults meet frames in every step
        scores = np.array([0.9 if value > 128 else 0.1 for value in values], np.float32)
        return Prediction(scores, np.zeros((len(planes), len(SUBSETS)), np.float32))


async def _watch(pipeline: Pipeline) -> None:
    while True:
        try:
            pipeline.check()
        except PipelineStalled as stalled:
            print("STALLED", stalled, flush=True)
            os._exit(STALLED)
        await asyncio.sleep(0.2)


async def _run(settings: WorkerSettings, name: str) -> None:
    pipeline = Pipeline(
        stream=RedisStream(settings.stream, consumer=name),
        predictor=ByBrightness(max_batch=settings.max_batch),
        verifier=Keyring(settings.camera_keys) if settings.camera_keys else AcceptUnsigned(),
        telemetry=Telemetry(NoMetrics(), settings.decode_threads),
        settings=settings,
        replica=name,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pipeline.drain)
    watching = asyncio.create_task(_watch(pipeline))
    await pipeline.run()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    pipeline.check()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_run(WorkerSettings.model_validate_json(sys.argv[1]), sys.argv[2]))
