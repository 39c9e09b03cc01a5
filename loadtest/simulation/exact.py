"""One partition, frame by frame: what the fluid model is checked against.

Frames arrive by chance, replicas take micro-batches when they are free, a batch takes what was
drawn for it. The policy, the cold starts and the failures are those of the fluid model.
"""

import heapq
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

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


class _Partition:
    def __init__(
        self, arrivals_s: NDArray[np.float64], policy: Policy, fleet: Fleet, start: int, seed: int
    ) -> None:
        self._arrivals, self._policy, self._fleet = arrivals_s.tolist(), policy, fleet
        self._random = np.random.default_rng(seed)
        self._replicas = Replicas(fleet, start)
        self._next = 0
        self._waiting: deque[float] = deque()
        self._busy: list[tuple[float, int]] = []  # when free again, frames held
        self._latency_s: list[float] = []
        self._num_expired = 0
        self._worked_s = 0.0

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
            replicas.pay(fleet.step_s)
            worked_s = self._worked_s
            self._work(now_s, now_s + fleet.step_s)
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
        pending = sum(held for _, held in self._busy)
        num_waiting = len(self._waiting)
        seen = Seen(
            now_s, rate_fps, num_waiting + pending, num_waiting, self._replicas.ready,
            self._replicas.wanted, min(busy, 1.0), self._fleet.service.service_fps,
        )  # fmt: skip
        self._replicas.want(self._policy(seen), now_s)

    def _work(self, now_s: float, end_s: float) -> None:
        """Let frames arrive and batches end, in the order of time, until the step is over."""
        while True:
            arrives_s = self._arrivals[self._next] if self._next < len(self._arrivals) else end_s
            free_s = self._busy[0][0] if self._busy else end_s
            now_s = min(arrives_s, free_s)
            if now_s >= end_s:
                return
            if arrives_s <= free_s:
                self._waiting.append(arrives_s)
                self._next += 1
            else:
                heapq.heappop(self._busy)
            while self._waiting and len(self._busy) < self._replicas.ready:
                self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        service = self._fleet.service
        batch: list[float] = []
        while self._waiting and len(batch) < service.max_batch:
            arrived_s = self._waiting.popleft()
            if now_s - arrived_s > self._fleet.deadline_s:
                self._num_expired += 1
            else:
                batch.append(arrived_s)
        if not batch:
            return
        takes_s = service.draw_s(len(batch), self._random)
        self._worked_s += takes_s
        heapq.heappush(self._busy, (now_s + takes_s, len(batch)))
        done_s = now_s + takes_s + service.overhead_ms / 1000
        self._latency_s += [done_s - each for each in batch]
