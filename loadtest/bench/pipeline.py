"""How much of the engine's speed a whole replica keeps: a full stream against the bare engine.

One replica's pipeline runs in this process, without Ray, on a real server that holds the frames
before it begins. The bare engine takes turns with it, so that each round compares what the machine
could do at that time. A null engine, which takes no time, shows what all the rest can do.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis import Redis

from loadtest.bench.figures import Counted, Figures, NullPredictor
from loadtest.bench.material import (
    BEST,
    ENCODINGS,
    Encoding,
    encoded,
    key_file,
    sample_frames,
    signed,
)
from loadtest.bench.stages import stage_costs
from loadtest.errors import LoadtestError
from loadtest.samples import SampleFrame
from model.data.planes import Planes
from model.serving.predictor import Predictor
from workers.replica.decode import decode
from workers.replica.pipeline import Pipeline
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.redis_stream import RedisStream
from workers.wire import keys
from workers.wire.frame import Frame
from workers.wire.keyring import Keyring

BARE, FULL, NULL = "bare engine", "full stream", "null engine"
# The beginning and the end of a run are not counted: the pipeline fills, and empties.
_FROM, _TO = 0.1, 0.9
_LOOK_S = 0.005
_FLUSH = 64
_DEADLINE_MS = 600_000

# Wall time and this process's processor time, s, and how many frames were decided by then.
_Moment = tuple[float, float, int]


class BenchError(LoadtestError):
    """What was measured is not what was meant to be; the message says what happened instead."""


class PipelineBench:
    """Takes rounds, and keeps what they measured."""

    def __init__(
        self, url: str, predictor: Predictor, batch: int, num_frames: int, folder: Path
    ) -> None:
        """Make the frames.

        Args:
            url: of a server that nobody else uses.
            predictor: the engine.
            batch: largest micro-batch.
            num_frames: to decide in each run.
            folder: for the key file.
        """
        key_path = folder / "keys.json"
        key_path.write_text(json.dumps(key_file()))
        key_path.chmod(0o600)
        self._keyring = Keyring(key_path)
        self._settings = WorkerSettings(
            stream=StreamSettings(url=url, partitions=4),
            camera_keys=key_path,
            deadline_ms=_DEADLINE_MS,
            max_camera_fps=100_000,
            max_batch=batch,
        )
        self._num_frames = num_frames
        self._engine, self._null = predictor, NullPredictor(max_batch=batch)
        self._client = Redis.from_url(url)
        # Frames that are not compressed take more than the embedded server is given.
        self._client.config_set("maxmemory", "4gb")
        self._samples = sample_frames(96)
        self._planes = {each: encoded(self._samples, each) for each in ENCODINGS}
        self._faces = _faces(self._samples, predictor)
        self.bare = Figures(BARE)
        self.streams = [
            *(Figures(FULL, each) for each in ENCODINGS if each != "raw"),
            *(Figures(NULL, each) for each in ENCODINGS),
        ]
        self.stages: list[dict[str, float]] = []

    def close(self) -> None:
        """Close the connection that frames are added by."""
        self._client.close()

    def turn(self) -> None:
        """Take one round: the bare engine, before and after, and each stream once."""
        before_fps, before_us = self._run_bare()
        found = [self._run_stream(each) for each in self.streams]
        after_fps, after_us = self._run_bare()
        # Its own speed drifts with what else the machine does: the mean is of the streams' time.
        fps = (before_fps + after_fps) / 2
        self.bare.add(fps, (before_us + after_us) / 2, 0.0, self._settings.max_batch, 1.0)
        for figures, (own_fps, cpu_us, server_us, batch) in zip(self.streams, found, strict=True):
            figures.add(own_fps, cpu_us, server_us, batch, own_fps / fps)
        self.stages.append(self._run_stages())

    def _run_bare(self) -> tuple[float, float]:
        size = self._settings.max_batch
        num_batches = max(2, self._num_frames // size // 2)
        self._engine.predict(self._faces[:size])
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for number in range(num_batches):
            at = number * size % (len(self._faces) - size + 1)
            self._engine.predict(self._faces[at : at + size])
        num_frames = num_batches * size
        cpu_us = (time.process_time() - cpu_s) / num_frames * 1e6
        return num_frames / (time.perf_counter() - began_s), cpu_us

    def _run_stream(self, figures: Figures) -> tuple[float, float, float, float]:
        self._fill(self._num_frames, figures.encoding)
        predictor = Counted(self._engine if figures.case == FULL else self._null)
        server_s = self._server_s()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            first, last = runner.run(self._decide_all(predictor))
        # The server's own time counts all frames: asking for it takes some, too.
        server_us = (self._server_s() - server_s) / self._num_frames * 1e6
        wall_s, cpu_s, num_frames = (end - begin for begin, end in zip(first, last, strict=True))
        batch = statistics.fmean(predictor.batches)
        return num_frames / wall_s, cpu_s / num_frames * 1e6, server_us, batch

    async def _decide_all(self, predictor: Any) -> tuple[_Moment, _Moment]:  # noqa: ANN401
        """Decide all that waits; return the two moments between which it is measured."""
        telemetry = Telemetry(NoMetrics(), self._settings.decode_threads)
        name = f"bench-{time.time_ns()}"
        pipeline = Pipeline(
            stream=RedisStream(self._settings.stream, consumer=name),
            predictor=predictor,
            verifier=self._keyring,
            telemetry=telemetry,
            settings=self._settings,
            replica=name,
        )
        running = asyncio.create_task(pipeline.run())
        first, last = [
            await self._reached(share * self._num_frames, telemetry, running)
            for share in (_FROM, _TO)
        ]
        await self._reached(self._num_frames, telemetry, running)
        pipeline.drain()
        await running
        judged = telemetry.tally["bona_fide"] + telemetry.tally["attack"]
        if judged != self._num_frames:
            raise BenchError(
                f"of {self._num_frames} frames {judged} were judged: {dict(telemetry.tally)}"
            )
        return first, last

    async def _reached(
        self, num_frames: float, telemetry: Telemetry, running: "asyncio.Task[None]"
    ) -> _Moment:
        while (decided := sum(telemetry.tally.values())) < num_frames and not running.done():
            await asyncio.sleep(_LOOK_S)
        return time.perf_counter(), time.process_time(), decided

    def _run_stages(self) -> dict[str, float]:
        costs: dict[str, float] = {}
        for size in sorted({1, self._settings.max_batch}):
            self._fill(num_frames := max(64, 4 * size), BEST)
            for stage, cost_us in asyncio.run(
                stage_costs(self._settings, self._keyring, self._engine, size, num_frames)
            ).items():
                costs[f"{stage} {size}"] = cost_us
        return costs

    def _server_s(self) -> float:
        info: Any = self._client.info("cpu")
        return float(info["used_cpu_sys"] + info["used_cpu_user"])

    def _fill(self, num_frames: int, encoding: str) -> None:
        planes = self._planes[_encoding(encoding)]
        pipe = self._client.pipeline(transaction=False)
        frames = signed(self._samples, planes, num_frames, in_presentations=True)
        for number, (camera_id, fields) in enumerate(frames):
            partition = keys.partition_of(camera_id, self._settings.stream.partitions)
            pipe.xadd(keys.frames(partition), fields)  # type: ignore[arg-type] # bytes are taken
            if number % _FLUSH == _FLUSH - 1:
                pipe.execute()
        pipe.execute()


def bench_pipeline(
    url: str,
    predictor: Predictor,
    batch: int,
    num_frames: int,
    rounds: int,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Measure one replica.

    Args:
        url: of a server that nobody else uses.
        predictor: the engine, for batches of `batch` at least.
        batch: largest micro-batch.
        num_frames: to decide in each run.
        rounds: how often all cases take turns.
        tell: is told what is done.

    Returns:
        `rows` (see `Figures.row`) and `stages` (rows of stage, batch and median us a frame of one
        thread's processor time), in a form that JSON can hold.

    Raises:
        BenchError: frames were refused.
    """
    with TemporaryDirectory(prefix="livegate-bench-") as name:
        bench = PipelineBench(url, predictor, batch, num_frames, Path(name))
        try:
            for turn in range(rounds):
                tell(f"round {turn + 1} of {rounds}")
                bench.turn()
        finally:
            bench.close()
    names = bench.stages[0]
    return {
        "model": predictor.model_id,
        "batch": batch,
        "frames": num_frames,
        "rounds": rounds,
        "rows": [each.row() for each in (bench.bare, *bench.streams)],
        "stages": [
            {
                "stage": each.rpartition(" ")[0],
                "batch": int(each.rpartition(" ")[2]),
                "cpu_us": round(statistics.median(one[each] for one in bench.stages), 1),
            }
            for each in names
        ],
    }


def _faces(frames: Sequence[SampleFrame], predictor: Predictor) -> list[Planes]:
    return [
        decode(
            Frame("-", 0, 0, each.planes, None, each.face_box),
            predictor.size,
            predictor.crop_margin,
        )
        for each in frames
    ]


def _encoding(name: str) -> Encoding:
    return next(each for each in ENCODINGS if each == name)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the kind of loop that a replica of Ray has."""
    try:
        import uvloop  # noqa: PLC0415 - Ray's, where it is installed
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
