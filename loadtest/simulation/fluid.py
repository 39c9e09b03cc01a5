"""A fluid model of the fleet: frames are a flow, replicas are drains, time goes in steps.

What waits beyond what the replicas drain in a step stays; a frame's latency is what it takes to
drain what was before it. Within a step, frames still queue by chance: that part is a formula.
"""

import math
from collections import deque
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from loadtest.simulation.model import Fleet, ServiceTimes
from loadtest.simulation.policies import Policy, Seen
from loadtest.simulation.replicas import Replicas

Steps = NDArray[np.float64]
_RATE_S = 2.0
_QUANTILES = (np.arange(20) + 0.5) / 20


@dataclass(frozen=True)
class Simulated:
    """What a simulation has found, step by step.

    Attributes:
        step_s: how long a step is.
        frames: that arrived.
        missed: of them, those that took longer than was promised.
        expired: of those, the ones that were never inferred.
        latency_ms: quantiles of each step's frames, a row a step.
        ready: replicas that decide.
        wanted: replicas asked for.
        paid_s: replica-seconds that were paid for.
        cold_starts: replicas started.
        actions: how often the policy changed its mind.
    """

    step_s: float
    frames: Steps
    missed: Steps
    expired: Steps
    latency_ms: Steps
    ready: Steps
    wanted: Steps
    paid_s: float
    cold_starts: int
    actions: int

    @cached_property
    def missed_share(self) -> float:
        """Share of all frames that missed the promise."""
        return float(self.missed.sum() / max(self.frames.sum(), 1))

    @property
    def replica_hours(self) -> float:
        """Replica-hours that were paid for."""
        return self.paid_s / 3600

    @property
    def actions_an_hour(self) -> float:
        """How often an hour the policy changed its mind."""
        return self.actions / (len(self.frames) * self.step_s / 3600)

    def percentile_ms(self, percent: float) -> float:
        """Return a percentile of the latency, over frames."""
        values = self.latency_ms.ravel()
        order = np.argsort(values)
        share = np.cumsum(np.repeat(self.frames, len(_QUANTILES))[order])
        reached = share >= percent / 100 * share[-1]
        return float(values[order][int(reached.argmax())])


def simulate(frames: Steps, policy: Policy, fleet: Fleet, start: int, seed: int) -> Simulated:
    """Simulate a policy on a load.

    Args:
        frames: that arrive in each step.
        policy: asked once a step.
        fleet: replicas, promise, failures.
        start: replicas that are ready when it begins.
        seed: of the failures.
    """
    random = np.random.default_rng(seed)
    step_s, fps = fleet.step_s, fleet.service.service_fps
    replicas, reported = Replicas(fleet, start), _Reported(fleet.service)
    num = len(frames)
    ready, wanted, backlogs = np.zeros(num), np.zeros(num), np.zeros(num)
    expired = np.zeros(num)
    recent: deque[float] = deque(maxlen=max(1, round(_RATE_S / step_s)))
    young: deque[float] = deque(maxlen=max(1, round(fleet.deadline_s / step_s)))
    backlog = busy = 0.0
    actions = 0
    for index, arrived in enumerate(frames.tolist()):
        now_s = index * step_s
        replicas.become_ready(now_s)
        replicas.fail(int(random.binomial(replicas.ready, step_s / fleet.mean_life_s)))
        rate_fps = sum(recent) / (len(recent) * step_s) if recent else arrived / step_s
        size = _size(rate_fps, backlog, replicas.ready, fleet.service)
        pending = replicas.ready * size if backlog else rate_fps * _held_s(size, fleet.service)
        before = replicas.wanted
        choice = policy(
            Seen(
                now_s,
                rate_fps,
                backlog + pending,
                backlog,
                replicas.ready,
                before,
                busy,
                reported.fps(size, replicas.ready),
            )
        )
        actions += choice != before
        replicas.want(choice, now_s)
        replicas.pay(step_s)
        capacity = replicas.ready * fps * step_s
        work = backlog + arrived
        busy = min(1.0, work / capacity) if capacity else 1.0
        left = max(0.0, work - capacity)
        recent.append(arrived)
        young.append(arrived)
        backlog = min(left, sum(young))  # what is too old when its turn comes is let go of
        expired[index] = left - backlog
        ready[index], wanted[index], backlogs[index] = replicas.ready, replicas.wanted, backlog
    latency_s, missed = _latencies(frames, ready, backlogs, expired, fleet)
    return Simulated(
        step_s=step_s,
        frames=frames,
        missed=missed,
        expired=expired,
        latency_ms=latency_s * 1000,
        ready=ready,
        wanted=wanted,
        paid_s=replicas.paid_s,
        cold_starts=replicas.cold_starts,
        actions=actions,
    )


class _Reported:
    """What replicas say that they could do: of the batch sizes that they have seen, the best."""

    def __init__(self, service: ServiceTimes) -> None:
        self._service = service
        self._mean_fps = 0.0
        self._num = 0

    def fps(self, size: int, num_ready: int) -> float:
        """Return the mean over the replicas that are there, once they have seen such batches."""
        most = min(self._service.max_batch, size + math.ceil(math.sqrt(size)))
        now_fps = self._service.best_fps[most - 1]
        if num_ready > self._num:  # the new ones know of nothing else
            self._mean_fps += (now_fps - self._mean_fps) * (num_ready - self._num) / num_ready
        self._num = num_ready
        self._mean_fps = max(self._mean_fps, now_fps)
        return self._mean_fps


def _latencies(
    frames: Steps, ready: Steps, backlog: Steps, expired: Steps, fleet: Fleet
) -> tuple[Steps, Steps]:
    """Return quantiles of the latency of each step's frames, s, and how many of them missed."""
    fps = fleet.service.service_fps
    drain_fps = np.maximum(ready * fps, 1e-9)
    end_s = _waits(frames, backlog, expired, drain_fps, fleet)
    begin_s = np.concatenate([[0.0], end_s[:-1]])
    fluid_s = (begin_s + end_s) / 2
    used = np.clip(frames / (drain_fps * fleet.step_s), 0, 0.999)
    batch_s = _batch_s(frames, ready, fleet)
    queued_s = _chance_wait_s(used, np.maximum(ready, 1), batch_s, fleet)
    service_s = (fleet.service.batch_ms[-1] + fleet.service.overhead_ms) / 1000
    budget_s = fleet.within_s - service_s - fluid_s
    # The wait of a queue with many servers has an exponential tail.
    tail = np.exp(-np.maximum(budget_s, 0) / np.maximum(queued_s, 1e-9))
    share = np.where(budget_s <= 0, 1.0, np.where(fluid_s > 0, 0.0, tail))
    # A step in which a backlog grows or shrinks past the limit is missed in part.
    low, high = np.minimum(begin_s, end_s), np.maximum(begin_s, end_s)
    limit_s = fleet.within_s - service_s
    partly = np.clip((high - limit_s) / np.maximum(high - low, 1e-9), 0, 1)
    share = np.where(high > 0, np.where(high > low + 1e-9, partly, high > limit_s), share)
    missed = np.minimum(frames, np.maximum(frames * share, expired))
    # A frame's own batch; before it what waits, or else what waits by chance, and the batch that is
    # under way when the frame comes.
    own_s = batch_s + fluid_s + fleet.service.overhead_ms / 1000
    is_busy = np.minimum(1, used * fps * fleet.service.batch_ms[0] / 1000)
    is_calm = fluid_s == 0
    latency_s = own_s[:, None] + np.outer(is_calm * queued_s, -np.log1p(-_QUANTILES))
    return latency_s + np.outer(is_calm * is_busy * batch_s, _QUANTILES), missed


def _waits(frames: Steps, backlog: Steps, expired: Steps, drain_fps: Steps, fleet: Fleet) -> Steps:
    """Return how long the last frame of each step waits for those before it, s.

    First come, first served: until as many are served as had come by then, by the replicas that
    there are meanwhile.
    """
    come = np.cumsum(frames - expired)
    served = np.maximum.accumulate(come - backlog) + np.arange(len(frames)) * 1e-9
    at_s = np.arange(1, len(frames) + 1) * fleet.step_s
    until_s = np.interp(come, served, at_s)
    until_s += np.maximum(come - served[-1], 0) / drain_fps[-1]  # after the end
    waits: Steps = np.clip(until_s - at_s, 0, fleet.deadline_s)
    return np.where(backlog > 0, waits, 0.0)


def _batch_s(frames: Steps, ready: Steps, fleet: Fleet) -> Steps:
    """Return how long the batches of each step take, s."""
    service = fleet.service
    alone_fps = frames / (np.maximum(ready, 1) * fleet.step_s)
    sizes = np.minimum(np.searchsorted(service.best_fps, alone_fps), service.max_batch - 1)
    batch_s: Steps = np.array(service.batch_ms)[sizes] / 1000
    return batch_s


def _chance_wait_s(used: Steps, servers: Steps, service_s: Steps, fleet: Fleet) -> Steps:
    """Return the mean wait by chance of those that wait, s.

    Source: Sakasegawa's approximation of the M/M/m queue (1977), with Allen and Cunneen's factor
    for service times that are no exponential ones; of those that wait at all.
    """
    spread = (1 + fleet.service.spread**2) / 2
    by_formula = spread * service_s / (servers * np.maximum(1 - used, 1e-3))
    # What piles up by chance for longer than a step is in the flow already.
    frames = used * servers * fleet.service.service_fps * fleet.step_s
    return np.minimum(by_formula, np.sqrt(frames) / (servers * fleet.service.service_fps))


def _size(rate_fps: float, backlog: float, num_ready: int, service: ServiceTimes) -> int:
    """Return the size of the batches."""
    return service.max_batch if backlog or not num_ready else service.size_at(rate_fps / num_ready)


def _held_s(size: int, service: ServiceTimes) -> float:
    """Return how long a replica that keeps up holds a frame: half of the batch before, its own."""
    return (1.5 * service.batch_ms[size - 1] + service.overhead_ms) / 1000


def fluid_start(rate_fps: float, fleet: Fleet) -> int:
    """Return the replicas that a fleet begins its day with."""
    return max(1, math.ceil(rate_fps / fleet.service.service_fps / 0.8))
