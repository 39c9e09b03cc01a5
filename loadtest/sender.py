"""One process that sends: a share of the cameras, on a schedule that nothing slows down.

The parent gives it a `Task`, tells it when to start, and gets a `Tick` of it every second. Frames
that can't be sent wait, as in a camera's outbox, and are dropped once they are too old for a door.
"""

import asyncio
import gc
import heapq
import selectors
import signal
import time
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import msgpack
import numpy as np

from loadtest.book import Book, Kind
from loadtest.cameras import Due, SimulatedCamera, Trouble, Troubles, cameras_of, sending_order
from loadtest.decisions import is_signed, newest_ids, read_decisions
from loadtest.errors import LoadtestError
from loadtest.gallery import open_gallery
from loadtest.line import FrameLine
from loadtest.post import PostLine
from loadtest.scenario.arrivals import arrival_times
from loadtest.scenario.faults import FRAME_FAULTS
from loadtest.seen import Seen
from loadtest.task import STAGES, Task, Tick
from workers.errors import WorkerError
from workers.stream.connection import connect
from workers.wire import keys

_TICK_S = 1.0
_BURST = 256  # frames made before replies are looked at again
_HOLD_S = 0.05
_LOOK_S = 0.02
_QUIET_S = 2.0


def send(task: Task, parent: Connection) -> None:
    """Do a task; the parent reads ticks from the connection, and writes "stop" to end it early."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops everyone in order
    try:
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            runner.run(_Sender(task, parent).run())
    except (BrokenPipeError, EOFError):
        pass  # the parent is gone
    except Exception as error:  # noqa: BLE001 - it belongs to the parent, which raises it
        is_told = isinstance(error, (LoadtestError, WorkerError))  # a line to whoever typed it
        parent.send(error if is_told else RuntimeError(f"a sender has failed: {error!r}"))


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that sleeps to the microsecond; epoll, which is usual, rounds up to 1 ms."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


class _Sender:
    def __init__(self, task: Task, parent: Connection) -> None:
        self._task, self._parent = task, parent
        scenario = task.scenario
        self._fleet, self._load_s = scenario.fleet, scenario.run.load_s
        self._warm_up_s, self._give_up_s = scenario.run.warm_up, scenario.slo.deadline
        self._seed = scenario.run.seed * 1009 + task.number
        size = scenario.fleet.frame_size
        gallery = open_gallery(scenario.fleet.source, None if size is None else int(size))
        partitions = {each: keys.partition_of(each, task.partitions) for each in task.camera_keys}
        self._cameras = list(cameras_of(task.camera_keys, partitions, gallery, self._seed))
        self._by_id = {each.packets.camera_id: each for each in self._cameras}
        self._own = sorted(set(partitions.values()))
        self._book = Book(self._warm_up_s, scenario.slo.deadline)
        frame_faults = [each for each in scenario.faults if isinstance(each, FRAME_FAULTS)]
        self._troubles = Troubles(frame_faults, self._seed)
        self._reconnects_s = sorted(
            each.at for each in scenario.faults if each.do == "reconnect all cameras"
        )
        self._outboxes: dict[int, deque[Due]] = {each: deque() for each in self._own}
        self._hold_until_s = dict.fromkeys(self._own, 0.0)
        self._under_way: dict[int, Due] = {}
        self._copies: list[tuple[float, int, Due]] = []
        self._seen = Seen()
        self._first_seq = 0
        self._start_s = 0.0
        self._is_stopped = False
        self._lines: dict[int, FrameLine | PostLine] = {}

    async def run(self) -> None:
        task = self._task
        frames = connect(task.url, cluster=task.cluster)
        decisions = connect(task.read_url, cluster=task.cluster, timeout_s=5.0)
        for each in self._own:
            if task.http_url:
                self._lines[each] = PostLine(task.http_url, self._added, self._failed)
            else:
                self._lines[each] = FrameLine(frames, task.url, each, self._added, self._failed)
            self._lines[each].flush()
        after = await newest_ids(decisions, self._own)
        gc.collect()
        gc.freeze()  # the stills: they need not be looked at again and again
        self._parent.send("ready")
        self._start_s = await asyncio.to_thread(self._parent.recv)
        self._first_seq = time.time_ns() // 1000
        reading = asyncio.create_task(
            read_decisions(decisions, after, self._decided, self._judged, self._error)
        )
        asyncio.get_running_loop().add_reader(self._parent.fileno(), self._told)
        ticking = asyncio.create_task(self._tick_on(reading))
        try:
            await self._play()
            await self._cool_down()
        finally:
            asyncio.get_running_loop().remove_reader(self._parent.fileno())
            ticking.cancel()
            reading.cancel()
            await asyncio.wait([ticking, reading])
            for line in self._lines.values():
                await line.aclose()
            await frames.aclose()
            await decisions.aclose()
        self._book.close()
        self._parent.send(self._tick(is_last=True))

    def _told(self) -> None:
        self._parent.recv()
        self._is_stopped = True

    def _now_s(self) -> float:
        return time.monotonic() - self._start_s

    # --- sending ---

    async def _play(self) -> None:
        random = np.random.default_rng(self._seed)
        shape = self._task.scenario.arrivals
        times = arrival_times(shape, self._load_s, self._task.share, random).tolist()
        hot = self._task.hot
        order = sending_order(len(self._cameras), self._fleet, hot, self._seed)
        index, num_times, place = 0, len(times), 0
        while index < num_times and not self._is_stopped:
            now_s = self._now_s()
            burst_end = min(index + _BURST, num_times)
            while index < burst_end and times[index] <= now_s:
                self._offer(self._made(self._cameras[order[place]], times[index]), now_s)
                index += 1
                place = (place + 1) % len(order)
            self._copy(now_s)
            self._post(now_s)
            wait_s = (times[index] if index < num_times else now_s) - self._now_s()
            await asyncio.sleep(min(max(wait_s, 0.0), _LOOK_S))

    def _made(self, camera: SimulatedCamera, due_s: float) -> Due:
        shown, still, person = camera.look(due_s, self._fleet)
        presentation = b"%x-%d" % (self._first_seq // 1_000_000, person)
        truth = shown.is_bona_fide
        kind = Kind.UNTOLD if truth is None else Kind.BONA_FIDE if truth else Kind.ATTACK
        trouble = self._troubles.of(due_s)
        if trouble is not None:
            kind = Kind.COPIED if trouble.copies_at_s else trouble.kind
        number = self._book.due(due_s, kind)
        wall_ms = int((time.time() - (self._now_s() - due_s)) * 1000)
        due = Due(
            number, camera, still, self._first_seq + number, wall_ms, presentation, kind, due_s
        )
        if trouble is not None:
            self._trouble(due, trouble)
        return due

    def _trouble(self, due: Due, trouble: Trouble) -> None:
        due.captured_at_ms += trouble.shift_ms
        due.size = trouble.size
        for at_s in trouble.copies_at_s:
            number = self._book.due(at_s, trouble.kind, copy_of=due.number)
            copy = Due(
                number, due.camera, due.still, due.seq, due.captured_at_ms, due.presentation,
                trouble.kind, at_s,
            )  # fmt: skip
            heapq.heappush(self._copies, (at_s, number, copy))

    def _copy(self, now_s: float) -> None:
        while self._copies and self._copies[0][0] <= now_s:
            self._offer(heapq.heappop(self._copies)[2], now_s)

    def _offer(self, due: Due, now_s: float) -> None:
        self._seen.lateness_ms.append((now_s - due.due_s) * 1000)
        partition = due.camera.partition
        line, outbox = self._lines[partition], self._outboxes[partition]
        if outbox or not line.takes or self._hold_until_s[partition] > now_s:
            outbox.append(due)
        else:
            self._send(line, due)

    def _send(self, line: FrameLine | PostLine, due: Due) -> None:
        self._book.begin(due.number)
        self._under_way[due.number] = due
        line.send(due.number, *due.fields())

    def _post(self, now_s: float) -> None:
        """Hand over what can go out, and drop what is too old to be worth it."""
        while self._reconnects_s and self._reconnects_s[0] <= now_s:
            self._reconnects_s.pop(0)
            for line in self._lines.values():
                line.reconnect()
        for partition, outbox in self._outboxes.items():
            line = self._lines[partition]
            while outbox and now_s - outbox[0].due_s > self._give_up_s:
                self._book.drop(outbox.popleft().number)
            if self._hold_until_s[partition] <= now_s:
                while outbox and line.takes:
                    self._send(line, outbox.popleft())
            line.flush()

    def _added(self, number: int, entry_id: str) -> None:
        due = self._under_way.pop(number)
        self._seen.ack_ms.append((self._now_s() - due.due_s) * 1000)
        early = self._book.added(number, f"{due.camera.partition} {entry_id}")
        if early is not None:
            self._note(number, early[0], early[1], None)

    def _failed(self, number: int, why: str, may_have_arrived: bool) -> None:
        due = self._under_way.pop(number)
        if may_have_arrived:
            self._book.lost_sight(number)
            self._error(f"reply lost: {why}")
        elif why:
            self._book.refuse(number)
            self._error(f"refused: {why}")
        else:
            partition = due.camera.partition
            self._book.wait(number)
            self._outboxes[partition].appendleft(due)
            self._hold_until_s[partition] = self._now_s() + _HOLD_S
            self._error(f"not now: {self._lines[partition].last_error}")

    async def _cool_down(self) -> None:
        patience_s = self._task.scenario.run.patience
        best, since_s = -1, self._now_s()
        while True:
            now_s = self._now_s()
            self._copy(now_s)
            self._post(now_s)
            waiting = sum(map(len, self._outboxes.values())) + len(self._under_way)
            decided = self._book.counts.said.total()
            if decided + self._book.counts.statuses.total() != best:
                best = decided + self._book.counts.statuses.total()
                since_s = now_s
            is_sure = not self._book.counts.statuses.keys() & _UNSURE
            is_done = not (waiting or self._copies or self._book.num_open)
            if is_done and (is_sure or now_s - since_s > _QUIET_S):
                return
            if now_s - since_s > patience_s:
                for outbox in self._outboxes.values():
                    while outbox:
                        self._book.drop(outbox.popleft().number)
                return
            await asyncio.sleep(_LOOK_S)

    # --- what comes back ---

    def _decided(
        self,
        body: Mapping[str, Any],
        entry: str,
        packed: bytes,
        signature: bytes | None,
        at_s: float,
    ) -> None:
        camera = self._by_id.get(body["camera_id"] or "")
        if camera is None and body["camera_id"] is not None:
            self._book.counts.strangers += 1
            return
        said = body["reason"] or body["outcome"]
        seq = body["seq"]
        seq_number = None if seq is None or camera is None else seq - self._first_seq
        at_s -= self._start_s
        number = self._book.find(seq_number, entry, said, at_s)
        if body["outcome"] != "no_decision" and camera is not None:
            signed = is_signed(packed, signature, camera.packets.door_key)
            self._book.counts.unsigned += not signed
        self._seen.replicas.add(body["replica"])
        self._seen.models.add(body["model"])
        if number is not None:
            self._note(number, said, at_s, body["timing_ms"])

    def _judged(self, packed: bytes) -> None:
        body = msgpack.unpackb(packed)
        self._book.counts.presentations[body["reason"] or body["outcome"]] += 1

    def _note(self, number: int, said: str, at_s: float, timing_ms: Any) -> None:  # noqa: ANN401
        latency_s = self._book.decide(number, said, at_s)
        if latency_s is None or not self._book.kind(number).is_good:
            return
        self._seen.latency_ms.append(latency_s * 1000)
        if at_s - latency_s >= self._warm_up_s:
            self._seen.steady_ms.append(latency_s * 1000)
            for stage in STAGES:
                if timing_ms and stage in timing_ms:
                    self._seen.stages_ms[stage].append(timing_ms[stage])

    def _error(self, what: str) -> None:
        self._seen.errors[what] += 1

    async def _tick_on(self, reading: "asyncio.Task[None]") -> None:
        at_s = 0.0
        while True:
            at_s += _TICK_S
            await asyncio.sleep(max(0.0, at_s - self._now_s()))
            if reading.done():
                reading.result()
            self._parent.send(self._tick(is_last=False))

    def _tick(self, *, is_last: bool) -> Tick:
        seen, self._seen = self._seen, Seen()
        waiting = sum(map(len, self._outboxes.values())) + len(self._under_way)
        return seen.tick(self._book, self._now_s(), waiting, is_last=is_last)


_UNSURE = {(phase, "unknown") for phase in ("warm-up", "steady")}
