"""The cameras of one process: each frame goes out when it is due, and is accounted for.

The schedule is open loop: nothing that the deployment does holds the next frame up. Frames that
can't be sent wait, as in a camera's outbox, and are dropped once they are too old for a door.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgpack
import numpy as np

from loadtest.book import Book
from loadtest.cameras import Cameras, Due
from loadtest.decisions import is_signed, newest_ids, read_decisions
from loadtest.line import FrameLine, Line
from loadtest.scenario.arrivals import arrivals
from loadtest.seen import Seen
from loadtest.task import STAGES, Task, seed_of
from workers.stream.connection import connect

_BURST = 256  # frames made before replies are looked at again
_HOLD_S = 0.05
_LOOK_S = 0.02
_QUIET_S = 2.0
_UNSURE = {(phase, "unknown") for phase in ("warm-up", "steady")}


OnDecision = Callable[[bytes, float | None, float | None], None]


class Fleet:
    """Sends the frames of a task's cameras, reads what is said of them, and keeps the book.

    Attributes:
        book: the account.
        seen: what was measured since `take` was called.
    """

    def __init__(self, task: Task, on_decision: OnDecision = lambda *_: None) -> None:
        """Make the cameras; connect to nothing yet.

        Args:
            task: who sends, and where to.
            on_decision: called with the bytes of each decision that is read, anybody's; when its
                frame was due and how long after that it was read, s, where that is known.
        """
        self._task = task
        scenario = task.scenario
        self._give_up_s, self._warm_up_s = scenario.slo.deadline, scenario.run.warm_up
        self._seed = seed_of(scenario, task.number)
        self.book = Book(self._warm_up_s, scenario.slo.deadline)
        self._first_seq = time.time_ns() // 1000
        self._cameras = Cameras(task, self.book, self._seed, self._first_seq)
        self._own = self._cameras.partitions
        self._reconnects_s = sorted(
            each.at for each in scenario.faults if each.do == "reconnect all cameras"
        )
        self._on_decision = on_decision
        self._frames = connect(task.url, cluster=task.cluster)
        self._decisions = connect(task.read_url, cluster=task.cluster, timeout_s=5.0)
        self._lines: dict[int, Line] = {each: self._line(each) for each in self._own}
        self._outboxes: dict[int, deque[Due]] = {each: deque() for each in self._own}
        self._hold_until_s = dict.fromkeys(self._own, 0.0)
        self._under_way: dict[int, Due] = {}
        self.seen = Seen()
        self._start_s = time.monotonic()
        self._is_stopped = False
        self._reading: asyncio.Task[None] | None = None

    def _line(self, partition: int) -> Line:
        if self._task.http_url:
            from loadtest.post import PostLine  # noqa: PLC0415 - alone it needs aiohttp

            return PostLine(self._task.http_url, self.added, self.failed)
        return FrameLine(self._frames, self._task.url, partition, self.added, self.failed)

    async def __aenter__(self) -> Self:
        """Bring the lines up, and begin to read decisions.

        Raises:
            redis.exceptions.RedisError: a server can't be reached.
        """
        for line in self._lines.values():
            line.flush()
        try:
            after = await newest_ids(self._decisions, self._own)
        except BaseException:
            await self.__aexit__()
            raise
        reading = read_decisions(
            self._decisions, self._task.read_url, after, self._decided, self._judged, self._error
        )
        self._reading = asyncio.create_task(reading)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give all lines up, drop what waits, and settle what the book has open."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        for line in self._lines.values():
            await line.aclose()
        await self._frames.aclose()
        await self._decisions.aclose()
        self._drop_waiting()
        self.book.close()

    @property
    def now_s(self) -> float:
        """Seconds since the start: the clock of all frames."""
        return time.monotonic() - self._start_s

    @property
    def num_waiting(self) -> int:
        """Frames that were due and whose way to the server is not over."""
        return sum(map(len, self._outboxes.values())) + len(self._under_way)

    def start_at(self, monotonic_s: float) -> None:
        """Set the start; nothing may have been sent yet."""
        self._start_s = monotonic_s

    def take(self) -> Seen:
        """Return what was measured since the last call."""
        seen, self.seen = self.seen, Seen()
        return seen

    def stop(self) -> None:
        """Send no more: what was due until now is dropped, what comes after is not due."""
        self._is_stopped = True

    # --- sending ---

    def schedule(self) -> Iterable[float]:
        """Return when this task's share of the scenario's frames is due, s since the start."""
        scenario, random = self._task.scenario, np.random.default_rng(self._seed)
        return arrivals(scenario.arrivals, scenario.run.load_s, self._task.share, random)

    async def play(self, times: Iterable[float], from_s: float | None = None) -> None:
        """Send a frame at each time, whatever becomes of the ones before.

        Args:
            times: rising, s; the next one is asked for when the one before it has come, so that a
                schedule may depend on what was measured meanwhile.
            from_s: that the times count from, s since the start; None: now.

        Raises:
            Exception: whatever has ended the reading of decisions.
        """
        begin_s = self.now_s if from_s is None else from_s
        schedule = (begin_s + each for each in times)
        next_s = next(schedule, None)
        while next_s is not None and not self._is_stopped:
            now_s = self.now_s
            for _ in range(_BURST):
                if next_s is None or next_s > now_s:
                    break
                self._offer(self._cameras.next(next_s, self.now_s), now_s)
                next_s = next(schedule, None)
            self._post(now_s)
            wait_s = (now_s if next_s is None else next_s) - self.now_s
            await asyncio.sleep(min(max(wait_s, 0.0), _LOOK_S))
        end_s = self.now_s
        while next_s is not None and next_s <= end_s:
            self.book.drop(self._cameras.next(next_s, end_s).number)
            next_s = next(schedule, None)

    async def settle(self, patience_s: float) -> bool:
        """Wait until each frame has its decision, or a reason why it has none.

        Args:
            patience_s: gives up when there was no news of any frame for so long.

        Returns:
            Whether all have theirs.

        Raises:
            Exception: whatever has ended the reading of decisions.
        """
        counts = self.book.counts
        best, since_s = -1, self.now_s
        while True:
            now_s = self.now_s
            self._post(now_s)
            news = counts.said.total() + counts.statuses.total()
            if news != best:
                best, since_s = news, now_s
            is_sure = not counts.statuses.keys() & _UNSURE
            is_done = not (self.num_waiting or self._cameras.has_copies or self.book.num_open)
            if is_done and (is_sure or now_s - since_s > _QUIET_S):
                return True
            if now_s - since_s > patience_s:
                self._drop_waiting()
                return False
            await asyncio.sleep(_LOOK_S)

    def _drop_waiting(self) -> None:
        for outbox in self._outboxes.values():
            while outbox:
                self.book.drop(outbox.popleft().number)
        for copy in self._cameras.copies(math.inf):
            self.book.drop(copy.number)

    def _offer(self, due: Due, now_s: float) -> None:
        self.seen.lateness_ms.append((now_s - due.due_s) * 1000)
        partition = due.camera.partition
        line, outbox = self._lines[partition], self._outboxes[partition]
        if outbox or not line.takes or self._hold_until_s[partition] > now_s:
            outbox.append(due)
        else:
            self._send(line, due)

    def _send(self, line: Line, due: Due) -> None:
        self.book.begin(due.number)
        self._under_way[due.number] = due
        line.send(due.number, *due.fields())

    def _post(self, now_s: float) -> None:
        """Hand over what can go out, copies too, and drop what is too old to be worth it."""
        if self._reading is not None and self._reading.done():
            self._reading.result()
        for due in self._cameras.copies(now_s):
            self._offer(due, now_s)
        while self._reconnects_s and self._reconnects_s[0] <= now_s:
            self._reconnects_s.pop(0)
            for line in self._lines.values():
                line.reconnect()
        for partition, line in self._lines.items():
            if self._outboxes[partition]:
                self._empty(partition, now_s)
            line.flush()

    def _empty(self, partition: int, now_s: float) -> None:
        outbox, line = self._outboxes[partition], self._lines[partition]
        while outbox and now_s - outbox[0].due_s > self._give_up_s:
            self.book.drop(outbox.popleft().number)
        if self._hold_until_s[partition] <= now_s:
            while outbox and line.takes:
                self._send(line, outbox.popleft())

    # --- what comes back ---

    def added(self, number: int, entry_id: str) -> None:
        """Take in that a frame has its entry; a line calls it."""
        due = self._under_way.pop(number)
        self.seen.ack_ms.append((self.now_s - due.due_s) * 1000)
        early = self.book.added(number, f"{due.camera.partition} {entry_id}")
        if early is not None:
            self._note(number, early[0], early[1], None)

    def failed(self, number: int, why: str, may_have_arrived: bool) -> None:
        """Take in that a frame has no entry, or none that is known; a line calls it."""
        due = self._under_way.pop(number)
        if may_have_arrived:
            self.book.lost_sight(number)
            self._error(f"reply lost: {why}")
        elif why:
            self.book.refuse(number)
            self._error(f"refused: {why}")
        else:
            partition = due.camera.partition
            self.book.wait(number)
            self._outboxes[partition].appendleft(due)
            self._hold_until_s[partition] = self.now_s + _HOLD_S
            self._error(f"not now: {self._lines[partition].last_error}")

    def _decided(
        self,
        body: Mapping[str, Any],
        entry: str,
        packed: bytes,
        signature: bytes | None,
        at_s: float,
        inside_ms: int,
    ) -> None:
        camera = self._cameras.by_id.get(body["camera_id"] or "")
        if camera is None and body["camera_id"] is not None:
            self.book.counts.strangers += 1
            self._on_decision(packed, None, None)
            return
        said = body["reason"] or body["outcome"]
        seq = body["seq"]
        seq_number = None if seq is None or camera is None else seq - self._first_seq
        at_s -= self._start_s
        number = self.book.find(seq_number, entry, said, at_s)
        if body["outcome"] != "no_decision" and camera is not None:
            signed = is_signed(packed, signature, camera.packets.door_key)
            self.book.counts.unsigned += not signed
        self.seen.replicas.add(body["replica"])
        self.seen.models.add(body["model"])
        due_s = latency_s = None
        if number is not None:
            due_s = self.book.due_s(number)
            latency_s = self._note(number, said, at_s, body["timing_ms"])
            if latency_s is not None:
                self.seen.added_ms.append(latency_s * 1000 - inside_ms)
        self._on_decision(packed, due_s, latency_s)

    def _judged(self, packed: bytes) -> None:
        body = msgpack.unpackb(packed)
        self.book.counts.presentations[body["reason"] or body["outcome"]] += 1

    def _note(self, number: int, said: str, at_s: float, timing_ms: Any) -> float | None:  # noqa: ANN401
        latency_s = self.book.decide(number, said, at_s)
        if latency_s is None or not self.book.kind(number).is_good:
            return latency_s
        self.seen.latency_ms.append(latency_s * 1000)
        if at_s - latency_s >= self._warm_up_s:
            self.seen.steady_ms.append(latency_s * 1000)
            for stage in STAGES:
                if timing_ms and stage in timing_ms:
                    self.seen.stages_ms[stage].append(timing_ms[stage])
        return latency_s

    def _error(self, what: str) -> None:
        self.seen.errors[what] += 1
