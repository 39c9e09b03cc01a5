"""The path of a frame: read, open, infer, decide, commit. One `Pipeline` is one replica.

| step    | method          | runs on            | on failure                  | metric          |
| ------- | --------------- | ------------------ | --------------------------- | --------------- |
| read    | `_read`         | loop, task a group | pauses, asks again          | latency: queue  |
| reclaim | `_reclaim`      | loop, task a group | the same                    | reclaimed_total |
| open    | `Opener.open`   | decode pool        | `no_decision`, for it alone | latency: decode |
| infer   | `Inferrer.run`  | infer thread       | one by one, `worker_failed` | latency: infer  |
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

from model.serving.predictor import Predictor
from workers.replica.batching import BatchQueue, Slots
from workers.replica.committing import Committer, NotCommitted
from workers.replica.in_flight import Decided, InFlight, Judge
from workers.replica.inferring import Inferred, Inferrer
from workers.replica.opening import Opener
from workers.replica.progress import PipelineStalled, Progress
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.delivery import Entry, FrameStream
from workers.wire.decision import Decision
from workers.wire.refusal import FrameRefused
from workers.wire.signing import Verifier

# Frames of one job of the decode pool: the network waits for all of them.
_MAX_CHUNK = 8
# So large a part of the slots is free before more is read.
_PARTS = 4

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
        self._inferrer = Inferrer(telemetry, self._progress)
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
            self._inferrer.close()
            await self._stream.leave()

    def drain(self) -> None:
        """Read no more; `run` returns once what is in flight is committed."""
        self._is_draining.set()
        self._slots.close()
        self._reclaim_slots.close()

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
            self._start([frame])
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
        # A read for each slot that gets free would make batches of one of everything.
        some = min(share, max(1, self._slots.num_slots // _PARTS))
        while slots := await self._slots.take(share, at_least=some):
            with self._progress.at("read", group):
                entries = await self._stream.read(group, slots)
            self._slots.give_back(slots - len(entries))
            if entries:
                self._start_entries(entries, self._slots)

    async def _reclaim(self, group: Sequence[int]) -> None:
        """Take over what silent replicas left, beside what is new, and see it through.

        So a frame that ends replicas does not take the same neighbours along each time: what was
        reclaimed before it is done with, and it comes alone.
        """
        num_slots = self._reclaim_slots.num_slots
        while slots := await self._reclaim_slots.take(num_slots, at_least=num_slots):
            with self._progress.at("reclaim", group):
                entries = await self._stream.reclaim(group, slots)
            self._reclaim_slots.give_back(slots - len(entries))
            if entries:
                self._telemetry.reclaimed(len(entries))
                self._start_entries(entries, self._reclaim_slots)
            else:
                await self._pause(self._settings.stream.lease_ms / 4000)

    def _start_entries(self, entries: Sequence[Entry], slots: Slots) -> None:
        put = self._committer.put
        # An id that lies ahead was not made by the server's clock.
        self._start(
            [
                InFlight(
                    each.fields or {},
                    min(each.arrived_at_ms, self._stream.now_ms(each.partition)),
                    put,
                    each,
                    slots,
                )
                for each in entries
            ]
        )

    def _start(self, frames: Sequence[InFlight]) -> None:
        for frame in frames:
            frame.read_at_ms = self._now_ms(frame)
            frame.timing_ms["queue"] = float(max(0, frame.read_at_ms - frame.arrived_at_ms))
        self._in_flight.update(frames)
        self._is_empty.clear()
        # A job for several frames costs little more than one for one; and each thread gets some.
        size = min(_MAX_CHUNK, -(-len(frames) // self._settings.decode_threads))
        for at in range(0, len(frames), size):
            self._spawn(self._open(frames[at : at + size]))

    async def _open(self, frames: Sequence[InFlight]) -> None:
        opening = partial(self._opener.open, frames, self.predictor_for)
        with self._progress.at("open"):
            loop = asyncio.get_running_loop()
            refusals = await loop.run_in_executor(self._decode_pool, opening)
        for frame, refused in zip(frames, refusals, strict=True):
            if refused is None:
                self._opened.put(frame)
            else:
                self._refuse(frame, refused)

    async def _infer(self) -> None:
        while batch := await self._opened.take(self._settings.max_batch):
            if fresh := [frame for frame in batch if self._is_fresh(frame)]:
                inferred = await self._inferrer.run(fresh)
                # Beside the next batch, which is on its way before this begins.
                self._spawn(self._decide(inferred))

    def _is_fresh(self, frame: InFlight) -> bool:
        frame.finish_stage("batch")
        try:
            self._opener.check_age(frame, self._now_ms(frame))
        except FrameRefused as refused:
            self._refuse(frame, refused)
            return False
        return True

    async def _decide(self, inferred: Sequence[Inferred]) -> None:
        for frames, said in inferred:
            for row, frame in enumerate(frames):
                if isinstance(said, FrameRefused):
                    self._refuse(frame, said)
                    continue
                score, evidence = float(said.scores[row]), said.evidence_of(row)
                now_ms = self._now_ms(frame)
                self._decided(self._judge.verdict(frame, score, evidence, len(frames), now_ms))

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
            self.drain()
            self._is_empty.set()
