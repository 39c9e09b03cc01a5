"""The way of a frame: read, verify, decode, batch, infer, decide, commit.

One `Pipeline` is one replica. All of it overlaps: while the network runs one batch, the next one
is read and decoded and the last one is committed. Each frame that is read leaves by `_commit`,
and by nothing else.

What happens when something fails: a frame that can't be verified or decoded gets `no_decision`,
alone. A batch that fails in the network is tried again frame by frame, and a frame that fails
alone gets `worker_failed`. If this process dies, its entries stay pending and another replica
takes them over, one at a time; a commit that comes after that is refused. If the server can't be
reached, the stream waits for it, and verdicts that got too old meanwhile become `expired`.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from model.data.planes import MODALITIES
from model.data.quality import faults, measure
from model.serving.predictor import Prediction, Predictor
from workers.errors import WorkerError
from workers.replica.batching import Credit, ReadyQueue
from workers.replica.decode import decode
from workers.replica.held import Decided, HeldFrame, Judge
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.delivery import NO_PARTITION, Entry, Fate, FrameStream
from workers.wire.decision import Decision
from workers.wire.frame import peek_camera_id, take_fields, unpack_frame
from workers.wire.keys import partition_of
from workers.wire.refusal import (
    ClockAhead,
    Expired,
    FrameRefused,
    LowQuality,
    ModalityMissing,
    Replayed,
    WorkerFailed,
    WrongPartition,
)
from workers.wire.signing import Verifier

_log = logging.getLogger(__name__)


class PipelineStalled(WorkerError):
    """The loop makes no headway; its frames are taken over once this replica is gone."""


class NotCommitted(WorkerError):
    """A frame that came by HTTP has no decision: send a new one."""


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
        self._stream = stream
        self._verifier = verifier
        self._telemetry = telemetry
        self._settings = settings
        self._judge = Judge(replica)
        self._credit = Credit(2 * settings.max_batch)
        # Not out of the same credit: a reader holds that while it waits for the stream.
        self._direct = asyncio.Semaphore(settings.max_batch)
        self._ready = ReadyQueue[HeldFrame](kind=lambda held: held.predictor)
        self._held: dict[tuple[int, str], HeldFrame] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._openers = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._network = ThreadPoolExecutor(1, "infer")
        self._is_draining = False
        self._beat_s = time.monotonic()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Work until `drain` was called and all that is held is committed; then leave the group."""
        await self._stream.join()
        keeper = asyncio.create_task(self._keep_alive())
        network = asyncio.create_task(self._infer())
        for task in (keeper, network):
            task.add_done_callback(self._finished)
        try:
            await asyncio.gather(*(self._read(lane) for lane in self._stream.lanes))
            await self._credit.all_free()
            await self._settle()
        finally:
            self._ready.close()
            await network
            await self._settle()
            keeper.cancel()
            self._openers.shutdown(wait=False)
            self._network.shutdown(wait=False)
            await self._stream.leave()

    def drain(self) -> None:
        """Read no more; `run` returns once what is held is committed."""
        self._is_draining = True

    async def decide(self, fields: Mapping[bytes, bytes]) -> Decision:
        """Take one frame that did not come by the stream, through the same steps.

        Args:
            fields: `f` and `s`, as in a stream entry.

        Returns:
            Its decision; the caller is the only one that sees it.

        Raises:
            NotCommitted: whether the frame was seen before could not be told.
        """
        async with self._direct:
            held = HeldFrame(Entry(NO_PARTITION, "", fields), arrived_at_ms=self._stream.now_ms())
            await asyncio.wait([self._start(held)])
        if held.done.cancelled():
            raise NotCommitted("the decision could not be committed")
        return held.done.result()

    def check(self) -> None:
        """Return if the loop makes headway.

        Raises:
            PipelineStalled: it does not, although the server can be reached.
        """
        if self._failure is not None:
            raise PipelineStalled(f"a step failed: {self._failure!r}") from self._failure
        silent_s = time.monotonic() - self._beat_s
        if self._stream.is_available and silent_s > self._settings.stall_s:
            raise PipelineStalled(f"no headway for {silent_s:.1f} s, {self.num_held} frames held")

    @property
    def num_held(self) -> int:
        """How many frames this replica holds."""
        return len(self._held)

    async def _read(self, lane: Sequence[int]) -> None:
        share = max(1, self._credit.num_places // len(self._stream.lanes))
        while not self._is_draining:
            self._beat_s = time.monotonic()
            places = await self._credit.take(share)
            entries = await self._stream.reclaim() or await self._stream.read(lane, places)
            new = [entry for entry in entries if (entry.partition, entry.id) not in self._held]
            await self._credit.give_back(places - len(new))
            for entry in new:
                done = self._start(HeldFrame(entry, arrived_at_ms=entry.arrived_at_ms))
                if entry.deliveries > 1:
                    # Whoever held it last died or hung. It goes alone, so that a frame which
                    # kills replicas does not take others with it each time.
                    self._telemetry.reclaimed()
                    await asyncio.wait([done])

    def _start(self, held: HeldFrame) -> "asyncio.Future[Decision]":
        held.timing_ms["queue"] = float(max(0, self._stream.now_ms() - held.arrived_at_ms))
        self._held[held.key] = held
        self._spawn(self._prepare(held))
        return held.done

    async def _prepare(self, held: HeldFrame) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._openers, self._open, held)
        except FrameRefused as refused:
            await self._refuse([held], refused)
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame only
            _log.exception("a frame could not be opened: %s", held.entry.id)
            await self._refuse([held], WorkerFailed(f"opening it failed: {error!r:.200}"))
        else:
            self._ready.put(held)

    def _open(self, held: HeldFrame) -> None:
        """Verify and decode, in a thread; what is learned stays on `held` even if it is refused."""
        started_s = time.perf_counter()
        try:
            self._verify(held)
            self._decode(held)
        finally:
            held.decode_s = time.perf_counter() - started_s
            held.finish_stage("decode")

    def _verify(self, held: HeldFrame) -> None:
        entry = held.entry
        if entry.fields is None:
            raise WorkerFailed(f"handed out {entry.deliveries} times without a decision")
        packed, signature = take_fields(entry.fields, self._settings.max_frame_bytes)
        held.camera_id = peek_camera_id(packed)
        partition = partition_of(held.camera_id, self._settings.stream.partitions)
        if entry.partition not in (partition, NO_PARTITION):
            raise WrongPartition(f"frames of {held.camera_id} belong in partition {partition}")
        self._verifier.verify(held.camera_id, packed, signature)
        held.is_proven = True
        held.frame = unpack_frame(packed)
        self._check_age(held)

    def _decode(self, held: HeldFrame) -> None:
        assert held.frame is not None  # noqa: S101 - verified before
        predictor = held.predictor = self.predictor
        held.planes = decode(held.frame, predictor.size, predictor.crop_margin)
        box = held.frame.face_box
        held.quality = measure(held.planes, None if box is None else min(box[2:]))
        if found := faults(held.quality, predictor.quality):
            raise LowQuality("; ".join(found))
        if predictor.threshold_for(held.planes.present) is None:
            raise ModalityMissing(f"no threshold for {'+'.join(held.planes.present)}")

    async def _infer(self) -> None:
        while batch := await self._ready.take(self._settings.max_batch):
            fresh: list[HeldFrame] = []
            for held in batch:
                held.finish_stage("batch")
                try:
                    self._check_age(held)
                    fresh.append(held)
                except FrameRefused as refused:
                    self._spawn(self._refuse([held], refused))
            if fresh:
                self._spawn(self._commit(await self._judge_batch(fresh)))

    async def _judge_batch(self, batch: Sequence[HeldFrame]) -> list[Decided]:
        try:
            prediction = await asyncio.get_running_loop().run_in_executor(
                self._network, self._predict, batch
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, no frame is lost by it
            _log.exception("the network failed on a batch of %d", len(batch))
            if len(batch) > 1:
                return [decided for held in batch for decided in await self._judge_batch([held])]
            failed = WorkerFailed(f"the network failed on it: {error!r:.200}")
            return [self._judge.refusal(batch[0], failed, self._stream.now_ms())]
        for held in batch:
            held.finish_stage("infer")
        return [
            self._judge.verdict(held, float(score), _shares(row), len(batch), self._stream.now_ms())
            for held, score, row in zip(batch, prediction.scores, prediction.shares, strict=True)
        ]

    def _predict(self, batch: Sequence[HeldFrame]) -> Prediction:
        predictor = batch[0].predictor
        assert predictor is not None  # noqa: S101 - only decoded frames get here
        started_s = time.perf_counter()
        prediction = predictor.predict([held.planes for held in batch if held.planes is not None])
        self._telemetry.inferred(
            len(batch), time.perf_counter() - started_s, [held.decode_s for held in batch]
        )
        return prediction

    async def _refuse(self, batch: Sequence[HeldFrame], refused: FrameRefused) -> None:
        now_ms = self._stream.now_ms()
        await self._commit([self._judge.refusal(held, refused, now_ms) for held in batch])

    async def _commit(self, batch: Sequence[Decided]) -> None:
        """Make decisions visible and free their places: the only way out for a frame."""
        commits = [decided.to_commit(self._settings.deadline_ms) for decided in batch]
        fates = await self._stream.commit(commits)
        for decided, fate in zip(batch, fates, strict=True):
            if fate is Fate.EXPIRED:
                await self._refuse([decided.held], Expired("too old by the time of its commit"))
            elif fate is Fate.REPLAYED:
                await self._refuse([decided.held], Replayed("its seq was decided before"))
            else:
                await self._release(decided, fate)

    async def _release(self, decided: Decided, fate: Fate) -> None:
        held, decision = decided.held, decided.decision
        del self._held[held.key]
        if held.entry.partition != NO_PARTITION:
            await self._credit.give_back(1)
        if fate is Fate.COMMITTED:
            self._telemetry.committed(decision)
            if decided.error:
                self._telemetry.gave_up()
            held.done.set_result(decision)
            return
        held.done.cancel()
        if fate is Fate.NOT_OWNER:
            self._telemetry.commit_refused()
        else:
            _log.error("a key of camera %s is not of its type: delete it", held.camera_id)

    async def _keep_alive(self) -> None:
        """Tell the server, three times a lease, that what is held is being worked on."""
        while True:
            await asyncio.sleep(self._settings.stream.lease_ms / 3000)
            entries = [held.entry for held in self._held.values()]
            if lost := await self._stream.hold(entries):
                _log.warning("%d held entries were taken over by another replica", len(lost))

    def _check_age(self, held: HeldFrame) -> None:
        assert held.frame is not None  # noqa: S101 - only verified frames have an age
        age_ms = self._stream.now_ms() - held.born_at_ms
        if age_ms > self._settings.deadline_ms:
            raise Expired(f"{age_ms} ms old")
        ahead_ms = held.frame.captured_at_ms - self._stream.now_ms()
        if ahead_ms > self._settings.max_clock_skew_ms:
            raise ClockAhead(f"captured_at_ms is {ahead_ms} ms ahead: set the camera's clock")

    async def _settle(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn(self, step: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(step)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A defect of ours: its frames are stuck here, so let this replica be replaced.
            _log.error("a step failed: %r", error, exc_info=error)
            self._failure = error


def _shares(row: Sequence[float]) -> dict[str, float]:
    return {name: round(float(share), 4) for name, share in zip(MODALITIES, row, strict=True)}
