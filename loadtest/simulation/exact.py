"""One partition, frame by frame: what the fluid model is checked against.

Frames arrive by chance and go to the replicas in turn: each reads ahead as long as it has slots, as
`workers.replica.pipeline` does, and then takes a micro-batch of what it holds whenever it is free.
A batch takes what was drawn for it. The policy, the cold starts and the failures are those of the
fluid model.
"""

import heapq
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation.model import Fleet
from loadtest.simulation.policies import Policy, Seen
from loadtest.simulation.replicas import Replicas

_RATE_S = 2.0


@dataclass(frozen=True, slots=True)
class Exact:
    """What was found.

    Attributes:
        latency_ms: of each frame that was decided.
        num_frames: that arrived.
        num_expired: that were too old when their turn came.
        ready: replicas, at the end of each step.
        paid_s: replica-seconds.
    """

    latency_ms: NDArray[np.float64]
    num_frames: int
    num_expired: int
    ready: NDArray[np.float64]
    paid_s: float

    def missed_share(self, within_s: float) -> float:
        """Return the share of frames that took longer, or were never decided."""
        late = int((self.latency_ms > within_s * 1000).sum())
        return (late + self.num_expired) / max(self.num_frames, 1)


def simulate_exactly(
    arrivals_s: NDArray[np.float64],
    until_s: float,
    policy: Policy,
    fleet: Fleet,
    start: int,
    seed: int,
) -> Exact:
    """Simulate a policy on frames, one by one; the arguments are as those of `fluid.simulate`.

    Args:
        arrivals_s: when each frame arrives, rising.
        until_s: how long.
        policy: asked once a step.
        fleet: replicas, promise, failures.
        start: replicas that are ready when it begins.
        seed: of service times and failures.
    """
    return _Partition(arrivals_s, policy, fleet, start, seed).run(until_s)


@dataclass(eq=False, slots=True)
class _Replica:
    """A replica: what it has read and not begun, and how many frames it works on.

    Attributes:
        best_fps: what it reports that it could do: of the batch sizes that it has seen, the best.
    """

    held: deque[float] = field(default_factory=deque)
    num_under_way: int = 0
    best_fps: float = 0.0

    @property
    def num_held(self) -> int:
        return len(self.held) + self.num_under_way


class _Partition:
    def __init__(
        self, arrivals_s: NDArray[np.float64], policy: Policy, fleet: Fleet, start: int, seed: int
    ) -> None:
        self._arrivals, self._policy, self._fleet = arrivals_s.tolist(), policy, fleet
        self._random = np.random.default_rng(seed)
        self._replicas = Replicas(fleet, start)
        self._readers: deque[_Replica] = deque()  # whose turn it is to be given a frame comes first
        self._next = 0
        self._waiting: deque[float] = deque()
        self._busy: list[tuple[float, int, _Replica]] = []  # when free again
        self._num_batches = 0
        self._latency_s: list[float] = []
        self._num_expired = 0
        self._worked_s = 0.0
        self._reported_fps = fleet.service.service_fps

    def run(self, until_s: float) -> Exact:
        fleet, replicas = self._fleet, self._replicas
        ready: list[float] = []
        busy = 0.0
        for step in range(int(until_s / fleet.step_s)):
            now_s = step * fleet.step_s
            replicas.become_ready(now_s)
            chance = fleet.step_s / fleet.mean_life_s
            replicas.fail(int(self._random.binomial(replicas.ready, chance)))
            self._ask(now_s, busy)
            self._have(replicas.ready, now_s)
            replicas.pay(fleet.step_s)
            worked_s = self._worked_s
            self._work(now_s + fleet.step_s)
            busy = (self._worked_s - worked_s) / max(replicas.ready * fleet.step_s, 1e-9)
            ready.append(replicas.ready)
        return Exact(
            np.array(self._latency_s) * 1000, self._next, self._num_expired, np.array(ready),
            replicas.paid_s,
        )  # fmt: skip

    def _ask(self, now_s: float, busy: float) -> None:
        # Before anything was seen, as the fluid model has it: what comes in the first step.
        seen_until_s = max(now_s, self._fleet.step_s)
        since_s = max(0.0, seen_until_s - _RATE_S)
        num = bisect_left(self._arrivals, seen_until_s) - bisect_left(self._arrivals, since_s)
        rate_fps = num / (seen_until_s - since_s)
        pending = sum(each.num_held for each in self._readers)
        num_waiting = len(self._waiting)
        if rates := [each.best_fps for each in self._readers if each.best_fps]:
            self._reported_fps = sum(rates) / len(rates)
        seen = Seen(
            now_s, rate_fps, num_waiting + pending, num_waiting, self._replicas.ready,
            self._replicas.wanted, min(busy, 1.0), self._reported_fps,
        )  # fmt: skip
        self._replicas.want(self._policy(seen), now_s)

    def _have(self, count: int, now_s: float) -> None:
        """Let replicas begin to read, or read no more: they finish what they hold."""
        while len(self._readers) > count:
            self._readers.popleft()
        while len(self._readers) < count:
            replica = _Replica()
            self._readers.append(replica)
            self._read(replica, now_s)

    def _work(self, end_s: float) -> None:
        """Let frames arrive and batches end, in the order of time, until the step is over."""
        while True:
            arrives_s = self._arrivals[self._next] if self._next < len(self._arrivals) else end_s
            free_s = self._busy[0][0] if self._busy else end_s
            if min(arrives_s, free_s) >= end_s:
                return
            if arrives_s <= free_s:
                self._next += 1
                self._waiting.append(arrives_s)
                if (replica := self._reader()) is not None:
                    self._read(replica, arrives_s)
            else:
                _, _, replica = heapq.heappop(self._busy)
                replica.num_under_way = 0
                if replica.held:  # what is read for the slots that are free now comes too late
                    self._begin(replica, free_s)
                self._read(replica, free_s)

    def _reader(self) -> _Replica | None:
        """Return the replica whose turn it is, of those with slots; None: all are full."""
        for _ in range(len(self._readers)):
            self._readers.rotate(-1)
            if self._readers[-1].num_held < self._fleet.service.slots:
                return self._readers[-1]
        return None

    def _read(self, replica: _Replica, now_s: float) -> None:
        """Let a replica take what waits, as far as it has slots, and begin if it is free."""
        if replica in self._readers:
            while self._waiting and replica.num_held < self._fleet.service.slots:
                replica.held.append(self._waiting.popleft())
        if replica.held and not replica.num_under_way:
            self._begin(replica, now_s)

    def _begin(self, replica: _Replica, now_s: float) -> None:
        service = self._fleet.service
        batch: list[float] = []
        while replica.held and len(batch) < service.max_batch:
            arrived_s = replica.held.popleft()
            if now_s - arrived_s > self._fleet.deadline_s:
                self._num_expired += 1
            else:
                batch.append(arrived_s)
        if not batch:
            return
        takes_s = service.draw_s(len(batch), self._random)
        self._worked_s += takes_s
        replica.num_under_way = len(batch)
        replica.best_fps = max(replica.best_fps, service.fps_at(len(batch)))
        self._num_batches += 1
        heapq.heappush(self._busy, (now_s + takes_s, self._num_batches, replica))
        done_s = now_s + takes_s + service.overhead_ms / 1000
        self._latency_s += [done_s - each for each in batch]
