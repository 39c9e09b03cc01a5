"""MLPerf LoadGen's Server scenario over the same streams: a second opinion on `loadtest run`.

LoadGen decides when each frame is due and when it counts as answered; here frames are only sent,
and decisions handed back. Needs the extra `mlperf`.

Source: MLPerf Inference, LoadGen (mlcommons/inference, package mlcommons-loadgen).
"""

import asyncio
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlperf_loadgen

from loadtest.cameras import SimulatedCamera, cameras_of
from loadtest.decisions import newest_ids, read_decisions
from loadtest.errors import LoadtestError
from loadtest.gallery import open_gallery
from loadtest.line import FrameLine
from loadtest.scenario.scenario import Scenario
from loadtest.target import Target
from workers.stream.connection import connect

_FLUSH_S = 0.0005
_SUMMARY = "mlperf_log_summary.txt"


class LoadGenError(LoadtestError):
    """LoadGen did not finish; the message says what it is missing."""


@dataclass(frozen=True, slots=True)
class LoadGenResult:
    """What LoadGen says.

    Attributes:
        verdict: `VALID` or `INVALID`, as it calls it.
        num_frames: that it has sent.
        completed_fps: frames answered, a second.
        p50_ms: of the latency from when a frame was due.
        p99_ms: the same.
        num_unanswered: frames that got no decision; LoadGen was told so as if they were answered.
        summary: its own words.
    """

    verdict: str
    num_frames: int
    completed_fps: float
    p50_ms: float
    p99_ms: float
    num_unanswered: int
    summary: str


def run_loadgen(scenario: Scenario, target: Target, folder: Path) -> LoadGenResult:
    """Run LoadGen's Server scenario at the scenario's rate, for its steady window.

    Args:
        scenario: fleet, rate, window, promise and seed; its shape, warm-up and faults are not used.
        target: the deployment.
        folder: for LoadGen's own logs.

    Raises:
        LoadGenError: its summary lacks something.
    """
    folder.mkdir(parents=True, exist_ok=True)
    system = _System(scenario, target)
    sut = mlperf_loadgen.ConstructSUT(system.issue, lambda: None)
    num_stills = system.num_stills
    qsl = mlperf_loadgen.ConstructQSL(
        num_stills, num_stills, lambda _samples: None, lambda _samples: None
    )
    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = mlperf_loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    try:
        mlperf_loadgen.StartTestWithLogSettings(sut, qsl, _settings(scenario), logs)
    finally:
        system.close()
        mlperf_loadgen.DestroySUT(sut)
        mlperf_loadgen.DestroyQSL(qsl)
    return _read(folder / _SUMMARY, system)


def _settings(scenario: Scenario) -> Any:  # noqa: ANN401 - LoadGen's
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = mlperf_loadgen.TestScenario.Server
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    fps, seconds = scenario.arrivals.fps, scenario.run.steady
    settings.server_target_qps = fps
    settings.server_target_latency_ns = int(scenario.slo.within * 1e9)
    settings.server_target_latency_percentile = scenario.slo.percentile / 100
    settings.min_duration_ms = int(seconds * 1000)
    settings.min_query_count = max(1, int(fps * seconds))
    for name in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        setattr(settings, name, scenario.run.seed)
    return settings


class _System:
    """LoadGen's system under test: sends what it is told to, and tells what was decided."""

    def __init__(self, scenario: Scenario, target: Target) -> None:
        self._scenario, self._target = scenario, target
        gallery = open_gallery(scenario.fleet.source)
        self.num_stills = len(gallery.stills)
        camera_keys = target.camera_keys(scenario.fleet)
        seed = scenario.run.seed
        self._cameras = list(cameras_of(camera_keys, target.partitions, gallery, seed))
        self._ids = {each.packets.camera_id for each in self._cameras}
        self._first_seq = self._seq = time.time_ns() // 1000
        self._open: dict[int, int] = {}  # seq to LoadGen's own id
        self.num_sent = self.num_unanswered = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._lines: dict[int, FrameLine] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._run(self._begin()).result(60)

    def issue(self, samples: Sequence[Any]) -> None:
        """Send frames; LoadGen calls it from its own thread."""
        wanted = [(each.id, each.index) for each in samples]
        self._loop.call_soon_threadsafe(self._send, wanted)

    def close(self) -> None:
        """Give up all connections."""
        self._run(self._end()).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> "Future[None]":  # noqa: ANN401
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _begin(self) -> None:
        target = self._target
        self._frames = connect(target.url, cluster=target.cluster)
        self._decisions = connect(target.url, cluster=target.cluster, timeout_s=5.0)
        own = sorted({each.partition for each in self._cameras})
        for each in own:
            self._lines[each] = FrameLine(
                self._frames, target.url, each, lambda *_: None, self._failed
            )
            self._lines[each].flush()
        while not all(line.takes for line in self._lines.values()):
            await asyncio.sleep(_FLUSH_S)
        after = await newest_ids(self._decisions, own)
        self._tasks.append(
            asyncio.create_task(
                read_decisions(
                    self._decisions,
                    target.url,
                    after,
                    self._decided,
                    lambda _: None,
                    lambda _: None,
                )
            )
        )
        self._tasks.append(asyncio.create_task(self._give_up()))

    def _send(self, wanted: Sequence[tuple[int, int]]) -> None:
        for query_id, still in wanted:
            camera = self._cameras[self.num_sent % len(self._cameras)]
            self._seq += 1
            self.num_sent += 1
            self._open[self._seq] = query_id
            self._hand_over(camera, still)
        for line in self._lines.values():
            line.flush()

    def _hand_over(self, camera: SimulatedCamera, still: int) -> None:
        line = self._lines[camera.partition]
        if line.takes:
            now_ms = int(time.time() * 1000)
            presentation = b"m-%d" % (self._seq // 1_000_000)
            line.send(self._seq, *camera.packets.make(still, self._seq, now_ms, presentation))
        else:
            self._answer(self._seq, is_answered=False)

    def _failed(self, seq: int, _why: str, _may_have_arrived: bool) -> None:
        self._answer(seq, is_answered=False)

    def _decided(self, body: Mapping[str, Any], *_: object) -> None:
        if body["camera_id"] in self._ids and body["seq"] is not None:
            self._answer(body["seq"], is_answered=True)

    def _answer(self, seq: int, *, is_answered: bool) -> None:
        query_id = self._open.pop(seq, None)
        if query_id is not None:
            self.num_unanswered += not is_answered
            response = mlperf_loadgen.QuerySampleResponse(query_id, 0, 0)
            mlperf_loadgen.QuerySamplesComplete([response])

    async def _give_up(self) -> None:
        """LoadGen waits for every answer: one that doesn't come in time is told to be there."""
        late: dict[int, int] = {}
        while True:
            await asyncio.sleep(self._scenario.run.patience)
            for seq in late:
                self._answer(seq, is_answered=False)
            late = dict(self._open)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for line in self._lines.values():
            await line.aclose()
        await self._frames.aclose()
        await self._decisions.aclose()


def _read(path: Path, system: _System) -> LoadGenResult:
    try:
        summary = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LoadGenError(f"{path}: {error.strerror}") from error
    return LoadGenResult(
        verdict=_found(summary, r"Result is *: *(\w+)", path),
        num_frames=system.num_sent,
        completed_fps=float(_found(summary, r"Completed samples per second *: *([0-9.]+)", path)),
        p50_ms=float(_found(summary, r"50.00 percentile latency \(ns\) *: *([0-9]+)", path)) / 1e6,
        p99_ms=float(_found(summary, r"99.00 percentile latency \(ns\) *: *([0-9]+)", path)) / 1e6,
        num_unanswered=system.num_unanswered,
        summary=summary,
    )


def _found(summary: str, pattern: str, path: Path) -> str:
    found = re.search(pattern, summary)
    if found is None:
        raise LoadGenError(f"{path}: LoadGen's summary has no line like {pattern!r}")
    return found[1]
