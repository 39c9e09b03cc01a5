"""Replicas of one process that come and go as the autoscaling policy says, without Ray.

    python -m loadtest.validation.elastic '{"settings": {...}, "batch_ms": [...], "cold_s": 5}'

Server, stream, pipeline and policy are the real ones. The network is one that waits, as the host of
a GPU waits, so that what is measured is not this machine's processor; and a replica starts as fast
as it is told to. Prints a line of JSON each time the policy is asked, until SIGTERM.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.validation.messages import Asked, ElasticSettings
from model.data.planes import Planes
from model.serving.predictor import Prediction
from workers.autoscale import ArrivalRate, Load, Scaler
from workers.replica.pipeline import Pipeline
from workers.replica.process import end_with_parent
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import connect
from workers.stream.failure import FAILURES
from workers.stream.redis_stream import RedisStream
from workers.testing import ConstantPredictor
from workers.wire.keyring import Keyring
from workers.wire.signing import AcceptUnsigned


@dataclass
class Waiting(ConstantPredictor):
    """A network that takes its time and none of the processor's.

    Attributes:
        batch_ms: its time, by the number of frames, from 1.
        began_s: when it was given its first frame, monotonic; None: not yet.
    """

    batch_ms: Sequence[float] = field(default_factory=tuple)
    began_s: float | None = None

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Wait as long as a batch of this size takes."""
        self.began_s = self.began_s or time.monotonic()
        done_s = time.perf_counter() + self.batch_ms[len(planes) - 1] / 1000
        said = super().predict(planes)
        self.batches.clear()
        time.sleep(max(0.0, done_s - time.perf_counter()))
        return said


@dataclass(frozen=True, slots=True)
class _Replica:
    wanted_s: float | None  # None: it was there to begin with
    pipeline: Pipeline
    predictor: Waiting
    telemetry: Telemetry


class Elastic:
    """The replicas, and the policy that is asked how many there are to be."""

    def __init__(self, given: ElasticSettings, tell: Callable[[Asked], None]) -> None:
        """Start nothing yet; `tell` hears of each time that the policy is asked."""
        self._given, self._tell = given, tell
        settings = given.settings
        self._verifier = Keyring(settings.camera_keys) if settings.camera_keys else AcceptUnsigned()
        self._scaler, self._rate = Scaler(), ArrivalRate()
        self._service_fps = settings.scaling.first_service_fps
        self._wanted = given.start
        self._num_started = 0
        self._reading: list[_Replica] = []
        self._cold_s: dict[float, float] = {}
        self._starting: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then drain."""
        stream = self._given.settings.stream
        servers = connect(stream.url, cluster=stream.cluster)
        for _ in range(self._given.start):
            self._begin()
        while not stop.is_set():
            try:
                backlog = total(await read_backlog(servers, range(stream.partitions)))
            except FAILURES:
                await asyncio.sleep(self._given.settings.scaling.poll_s)
                continue
            self._ask(backlog.added, backlog.entries)
            try:
                async with asyncio.timeout(self._given.settings.scaling.poll_s):
                    await stop.wait()
            except TimeoutError:
                pass
        await servers.aclose()
        self._have(0)
        if self._running:
            await asyncio.wait(self._running)
        for task in self._running:
            task.result()

    def _ask(self, num_added: int, num_entries: int) -> None:
        now_s = time.monotonic()
        rates = [fps for each in self._reading if (fps := each.telemetry.service_rate.fps)]
        self._service_fps = sum(rates) / len(rates) if rates else self._service_fps
        load = Load(self._rate.saw(num_added, now_s), num_entries, self._service_fps)
        scaling = self._given.settings.scaling
        _, self._wanted = self._scaler.wanted(load, scaling, self._wanted, now_s)
        self._have(self._wanted)
        self._tell(
            Asked(
                now_s, self._num_ready(), self._wanted, load.arrival_fps, load.backlog,
                load.service_fps, self._mean_cold_s(),
            )
        )  # fmt: skip

    def _num_ready(self) -> int:
        return sum(each.predictor.began_s is not None for each in self._reading)

    def _mean_cold_s(self) -> float | None:
        """Return how long it took replicas from when they were wanted until they decided."""
        for each in self._reading:
            if each.wanted_s is not None and each.predictor.began_s is not None:
                self._cold_s[each.wanted_s] = each.predictor.began_s - each.wanted_s
        return sum(self._cold_s.values()) / len(self._cold_s) if self._cold_s else None

    def _have(self, wanted: int) -> None:
        """Start what is missing, and send home what is too many: first those not ready yet."""
        while len(self._reading) + len(self._starting) < wanted:
            self._starting.append(asyncio.create_task(self._start_cold()))
        while len(self._reading) + len(self._starting) > wanted:
            if self._starting:
                self._starting.pop().cancel()
            else:
                self._reading.pop().pipeline.drain()

    async def _start_cold(self) -> None:
        wanted_s = time.monotonic()
        await asyncio.sleep(self._given.cold_s)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is one
        self._starting.remove(task)
        self._begin(wanted_s)

    def _begin(self, wanted_s: float | None = None) -> None:
        settings = self._given.settings
        self._num_started += 1
        name = f"elastic-{self._num_started}"
        telemetry = Telemetry(NoMetrics(), settings.decode_threads)
        predictor = Waiting(max_batch=settings.max_batch, batch_ms=self._given.batch_ms)
        pipeline = Pipeline(
            stream=RedisStream(settings.stream, consumer=name),
            predictor=predictor,
            verifier=self._verifier,
            telemetry=telemetry,
            settings=settings,
            replica=name,
        )
        self._reading.append(_Replica(wanted_s, pipeline, predictor, telemetry))
        running = asyncio.create_task(pipeline.run())
        self._running.add(running)


async def _run(given: ElasticSettings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    def tell(asked: Asked) -> None:
        told: dict[str, Any] = {name: getattr(asked, name) for name in asked.__slots__}
        print(json.dumps(told), flush=True)  # noqa: T201 - what the parent reads

    await Elastic(given, tell).run(stop)


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(_run(ElasticSettings.model_validate_json(sys.argv[1])))
