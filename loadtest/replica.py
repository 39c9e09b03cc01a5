"""One replica as a process of its own, without Ray: the real stream, pipeline and engine.

    python -m loadtest.replica SETTINGS NAME [PARENT]

SETTINGS is JSON of `WorkerSettings`, PARENT the process whose end ends this one (by default the one
that is its parent when it looks); the bundle `instant` stands for a network that takes a
millisecond a frame. SIGTERM drains, SIGHUP swaps the model for itself; a pipeline that makes no
headway ends the process, as Serve would end it.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from loadtest.stack import INSTANT, STALLED
from model.data.planes import Planes
from model.serving.engine import open_engine
from model.serving.folder import find_bundle
from model.serving.predictor import Prediction, Predictor
from workers.replica.pipeline import Pipeline
from workers.replica.process import end_with_parent
from workers.replica.progress import PipelineStalled
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import WorkerSettings
from workers.stream.redis_stream import RedisStream
from workers.testing import ConstantPredictor
from workers.wire.keyring import Keyring
from workers.wire.signing import AcceptUnsigned

_LOOK_S = 0.2
_FRAME_S = 0.001


PredictorOf = Callable[[WorkerSettings], Predictor]


class _Instant(ConstantPredictor):
    def predict(self, planes: Sequence[Planes]) -> Prediction:
        time.sleep(_FRAME_S * len(planes))
        self.batches.clear()
        return super().predict(planes)


def _predictor(settings: WorkerSettings) -> Predictor:
    if settings.bundle == INSTANT:
        return _Instant(max_batch=settings.max_batch)
    return open_engine(find_bundle(settings.bundle), settings.max_batch, settings.infer_threads)


async def _look_after(pipeline: Pipeline, keyring: Keyring | None) -> None:
    while True:
        try:
            pipeline.check()
        except PipelineStalled as stalled:
            print(f"{STALLED}: {stalled}", file=sys.stderr, flush=True)  # noqa: T201 - a log
            os._exit(3)
        if keyring is not None:
            await asyncio.to_thread(keyring.refresh)
        await asyncio.sleep(_LOOK_S)


async def _run(settings: WorkerSettings, name: str, predictor_of: PredictorOf) -> None:
    keyring = Keyring(settings.camera_keys) if settings.camera_keys else None
    pipeline = Pipeline(
        stream=RedisStream(settings.stream, consumer=name),
        predictor=predictor_of(settings),
        verifier=keyring or AcceptUnsigned(),
        telemetry=Telemetry(NoMetrics(), settings.decode_threads),
        settings=settings,
        replica=name,
    )
    loop = asyncio.get_running_loop()

    async def swap() -> None:
        pipeline.predictor = await asyncio.to_thread(predictor_of, settings)

    swapping: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGHUP, lambda: swapping.add(loop.create_task(swap())))
    loop.add_signal_handler(signal.SIGTERM, pipeline.drain)
    looking = asyncio.create_task(_look_after(pipeline, keyring))
    await pipeline.run()
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    pipeline.check()


def main(predictor_of: PredictorOf = _predictor) -> None:
    """Work until SIGTERM, as the command line says, or until who has started it is gone."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can be followed
    # Who has started it may have ended before this line: then there is nobody to look after it.
    end_with_parent(int(sys.argv[3]) if len(sys.argv) > 3 else None)
    settings = WorkerSettings.model_validate_json(sys.argv[1])
    asyncio.run(_run(settings, sys.argv[2], predictor_of))


if __name__ == "__main__":
    main()
