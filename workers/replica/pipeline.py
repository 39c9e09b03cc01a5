"""The path of a frame: read, open, infer, decide, commit. One `Pipeline` is one replica.

| step    | method          | runs on            | on failure                  | metric          |
| ------- | --------------- | ------------------ | --------------------------- | --------------- |
| read    | `_read`         | loop, task a group | pauses, asks again          | latency: queue  |
| reclaim | `_reclaim`      | loop, task a group | the same                    | reclaimed_total |
| open    | `_open`         | decode pool        | `no_decision`, for it alone | latency: decode |
| infer   | `_infer`        | infer thread       | one by one, `worker_failed` | latency: infer  |
| decide  | `Judge.verdict` | loop               | -                           | decisions_total |
| commit  | `Committer.run` | loop, task a group | finds out, tries again      | latency: commit |

All of it overlaps: while the network runs one batch, the next one is read and opened and the last
one is committed. The *loop* is the event loop, a *group* the partitions of one Redis server. A
frame takes a slot from when it is read until it is committed. A frame that came by HTTP takes the
same steps up to decide, where `decide` waits for it.

If this process dies, or stands still for a lease, its entries are reclaimed by another replica, and
a commit that comes after that is refused. A step that fails in a way that nobody foresaw ends the
replica: it reads no more, and what it had not decided is left to the others.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from model.serving.predictor import Prediction, Predictor
from workers.replica.batching import BatchQueue, Slots
from workers.replica.committing import Committer, NotCommitted
from workers.replica.in_flight import Decided, InFlight, Judge
from workers.replica.opening import Opener
from workers.replica.progress import PipelineStalled, Progress
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.delivery import Entry, FrameStream
from workers.wire.decision import Decision
from workers.wire.refusal import FrameRefused, WorkerFailed
from workers.wire.signing import Verifier

_log = logging.getLogger(__name__)


class Pipeline:
    """Takes frames from a stream and gives each one its decision."""

    def __init__(
        self,
        stream: FrameStream,
        predictor: Predictor,
        verifier: Verifier,
        telemetry: Telemetry,
        settings: WorkerSettings,
        replica: str,
    ) -> None:
        """Put the parts together; nothing runs before `run`."""
        self.predictor = predictor  # set another one, and it takes over between two batches
        # Which one judges a camera's frames, and who is shown each frame with what was decided.
        self.predictor_for: Callable[[str], Predictor] = lambda _: self.predictor
        self.on_judged: Callable[[Decided], None] = lambda _: None
        self._stream = stream
        self._telemetry = telemetry
        self._settings = settings
        self._judge = Judge(replica)
        self._opener = Opener(verifier, settings)
        self._progress = Progress(settings.stall_s, stream.is_available)
        self._committer = Committer(
            stream, self._judge, telemetry, settings, self._progress, self._end
        )
        num_reclaimed = max(1, settings.max_batch // 4)
        self._slots = Slots(2 * settings.max_batch - num_reclaimed)
        self._reclaim_slots = Slots(num_reclaimed)
        self._http_slots = asyncio.Semaphore(settings.max_batch)
        self._opened = BatchQueue[InFlight](
            kind=lambda frame: frame.predictor, owner=lambda frame: frame.camera_id
        )
        self._in_flight: set[InFlight] = set()
        self._by_http: set[asyncio.Future[Decided]] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_draining = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._decode_pool = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._infer_thread = ThreadPoolExecutor(1, "infer")
        self._failure: BaseException | None = None
        self.has_joined = asyncio.Event()

    async def run(self) -> None:
        """Work until `drain` was called and nothing is in flight; then leave the group."""
        await self._stream.join()
        self.has_joined.set()
        groups = self._stream.groups
        for group in groups:
            self._committer.open(group)
        working = [
            self._spawn(self._infer()),
            *(self._spawn(self._committer.run(g)) for g in groups),
        ]
        beating = self._spawn(self._beat())
        reading = [self._spawn(read(g)) for g in groups for read in (self._read, self._reclaim)]
        try:
            await asyncio.wait(reading)
            await self._is_empty.wait()
        finally:
            self._opened.close()
            self._committer.close()
            await asyncio.wait(working)
            beating.cancel()
            await asyncio.wait([beating])
            for waiting in self._by_http:
                if not waiting.done():
                    waiting.set_exception(NotCommitted("the replica has stopped"))
            self._decode_pool.shutdown(wait=False)
            self._infer_thread.shutdown(wait=False)
            await self._stream.leave()

    def drain(self) -> None:
        """Read no more; `run` returns once what is in flight is committed."""
        self._is_draining.set()

    async def decide(self, fields: Mapping[bytes, bytes], received_s: float) -> Decision:
        """Return the decision on one frame that came by HTTP; see `answer`."""
        return (await self.answer(fields, received_s)).decision

    async def answer(self, fields: Mapping[bytes, bytes], received_s: float) -> Decided:
        """Take one frame that came by HTTP through the same steps.

        Args:
            fields: `f` and `s`, as in a stream entry.
            received_s: when the request began, monotonic; the frame's age counts from then.

        Returns:
            What is decided; the caller is the only one that sees it.

        Raises:
            NotCommitted: it could not be decided, or not whether its seq is new.
        """
        if not self._stream.groups:
            raise NotCommitted("the server of the streams has not been reached yet")
        async with self._http_slots:
            decided: asyncio.Future[Decided] = asyncio.get_running_loop().create_future()
            self._by_http.add(decided)
            waited_ms = (time.monotonic() - received_s) * 1000
            arrived_at_ms = self._stream.now_ms(0) - int(waited_ms)

            def on_decided(found: Decided) -> None:
                if not decided.done():  # whoever asked may be gone
                    decided.set_result(found)

            frame = InFlight(fields, arrived_at_ms, on_decided)
            self._start(frame)
            try:
                return await self._committer.admit(await decided)
            finally:
                self._by_http.discard(decided)
                self._end(frame)

    def check(self) -> None:
        """Return if every step makes headway.

        Raises:
            PipelineStalled: one does not, or has failed.
        """
        if self._failure is not None:
            raise PipelineStalled(f"a step failed: {self._failure!r}") from self._failure
        self._progress.check()

    @property
    def num_in_flight(self) -> int:
        """How many frames this replica works on."""
        return len(self._in_flight)

    async def _read(self, group: Sequence[int]) -> None:
        share = max(1, self._slots.num_slots // len(self._stream.groups))
        while not self._is_draining.is_set():
            slots = await self._slots.take(share)
            with self._progress.at("read", group):
                entries = await self._stream.read(group, slots)
            self._slots.give_back(slots - len(entries))
            for entry in entries:
                self._start_entry(entry, self._slots)

    async def _reclaim(self, group: Sequence[int]) -> None:
        """Take over what silent replicas left, beside what is new, and see it through.

        So a frame that ends replicas does not take the same neighbours along each time: what was
        reclaimed before it is done with, and it comes alone.
        """
        num_slots = self._reclaim_slots.num_slots
        while not self._is_draining.is_set():
            slots = await self._reclaim_slots.take(num_slots, at_least=num_slots)
            with self._progress.at("reclaim", group):
                entries = await self._stream.reclaim(group, slots)
            self._reclaim_slots.give_back(slots - len(entries))
            for entry in entries:
                self._telemetry.reclaimed()
                self._start_entry(entry, self._reclaim_slots)
            if not entries:
                await self._pause(self._settings.stream.lease_ms / 4000)

    def _start_entry(self, entry: Entry, slots: Slots) -> None:
        # An id that lies ahead was not made by the server's clock.
        arrived_at_ms = min(entry.arrived_at_ms, self._stream.now_ms(entry.partition))
        put = self._committer.put
        self._start(InFlight(entry.fields or {}, arrived_at_ms, put, entry, slots))

    def _start(self, frame: InFlight) -> None:
        waited_ms = self._now_ms(frame) - frame.arrived_at_ms
        frame.timing_ms["queue"] = float(max(0, waited_ms))
        self._in_flight.add(frame)
        self._is_empty.clear()
        self._spawn(self._open(frame))

    async def _open(self, frame: InFlight) -> None:
        try:
            opening = partial(self._opener.open, frame, self.predictor_for, self._now_ms(frame))
            with self._progress.at("open"):
                await asyncio.get_running_loop().run_in_executor(self._decode_pool, opening)
        except FrameRefused as refused:
            self._refuse(frame, refused)
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame only
            _log.exception("a frame could not be opened")
            self._refuse(frame, WorkerFailed(f"opening it failed: {type(error).__name__}"))
        else:
            self._opened.put(frame)

    async def _infer(self) -> None:
        while batch := await self._opened.take(self._settings.max_batch):
            if fresh := [frame for frame in batch if self._is_fresh(frame)]:
                for decided in await self._judge_batch(fresh):
                    self._decided(decided)

    def _is_fresh(self, frame: InFlight) -> bool:
        frame.finish_stage("batch")
        try:
            self._opener.check_age(frame, self._now_ms(frame))
        except FrameRefused as refused:
            self._refuse(frame, refused)
            return False
        return True

    async def _judge_batch(self, batch: Sequence[InFlight]) -> list[Decided]:
        try:
            with self._progress.at("infer"):
                prediction = await asyncio.get_running_loop().run_in_executor(
                    self._infer_thread, self._predict, batch
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, no frame is lost by it
            _log.exception("the network failed on a batch of %d", len(batch))
            if len(batch) > 1:
                return [decided for frame in batch for decided in await self._judge_batch([frame])]
            failed = WorkerFailed(f"the network failed on it: {error!r:.200}")
            return [self._judge.refusal(batch[0], failed, self._now_ms(batch[0]))]
        decided = []
        for row, frame in enumerate(batch):
            frame.finish_stage("infer")
            score, evidence = float(prediction.scores[row]), prediction.evidence_of(row)
            now_ms = self._now_ms(frame)
            decided.append(self._judge.verdict(frame, score, evidence, len(batch), now_ms))
        return decided

    def _predict(self, batch: Sequence[InFlight]) -> Prediction:
        predictor = batch[0].predictor
        assert predictor is not None  # noqa: S101 - only decoded frames get here
        started_s = time.perf_counter()
        prediction = predictor.predict([each.planes for each in batch if each.planes is not None])
        infer_s = time.perf_counter() - started_s
        decode_s = [each.decode_s for each in batch]
        self._telemetry.inferred(len(batch), infer_s, decode_s, batch[0].quality)
        return prediction

    def _refuse(self, frame: InFlight, refused: FrameRefused) -> None:
        self._decided(self._judge.refusal(frame, refused, self._now_ms(frame)))

    def _decided(self, decided: Decided) -> None:
        decided.frame.on_decided(decided)
        self.on_judged(decided)

    def _now_ms(self, frame: InFlight) -> int:
        return self._stream.now_ms(frame.partition)

    async def _beat(self) -> None:
        """Keep this replica's entries its own, three beats a lease, while it makes headway."""
        while True:
            try:
                self.check()
                await self._stream.beat()
            except PipelineStalled as stalled:
                _log.error("no beat, the others may take over: %s", stalled)
            await asyncio.sleep(self._settings.stream.lease_ms / 3000)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._is_draining.wait()
        except TimeoutError:
            return

    def _end(self, frame: InFlight) -> None:
        self._in_flight.discard(frame)
        if not self._in_flight:
            self._is_empty.set()

    def _spawn(self, step: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: let this replica be replaced.
            _log.error("a step failed: %r", error, exc_info=error)
            self._failure = error
            self._is_draining.set()
            self._is_empty.set()
