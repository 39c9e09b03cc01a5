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

from loadtest.simulation.model import Fleet
from loadtest.simulation.policies import Policy, Seen
from loadtest.simulation.replicas import Replicas

Steps = NDArray[np.float64]
_RATE_S = 2.0


@dataclass(frozen=True)
class Simulated:
    """What a simulation has found, step by step.

    Attributes:
        step_s: how long a step is.
        frames: that arrived.
        missed: of them, those that took longer than was promised.
        expired: of those, the ones that were never inferred.
        wait_ms: of a frame that arrives, for a replica to begin with it.
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
    wait_ms: Steps
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

    def wait_percentile_ms(self, percent: float) -> float:
        """Return a percentile of the wait, over frames."""
        order = np.argsort(self.wait_ms)
        reached = np.cumsum(self.frames[order]) >= percent / 100 * self.frames.sum()
        return float(self.wait_ms[order][int(reached.argmax())])


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
    replicas = Replicas(fleet, start)
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
        pending = replicas.ready * _batch(busy, backlog, fleet.service.max_batch)
        before = replicas.wanted
        choice = policy(
            Seen(now_s, rate_fps, backlog + pending, backlog, replicas.ready, before, busy, fps)
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
    wait_s, missed = _latencies(frames, ready, backlogs, expired, fleet)
    return Simulated(
        step_s=step_s,
        frames=frames,
        missed=missed,
        expired=expired,
        wait_ms=wait_s * 1000,
        ready=ready,
        wanted=wanted,
        paid_s=replicas.paid_s,
        cold_starts=replicas.cold_starts,
        actions=actions,
    )


def _latencies(
    frames: Steps, ready: Steps, backlog: Steps, expired: Steps, fleet: Fleet
) -> tuple[Steps, Steps]:
    """Return the mean wait of the frames of each step, s, and how many of them missed."""
    fps = fleet.service.service_fps
    drain_fps = np.maximum(ready * fps, 1e-9)
    before = np.concatenate([[0.0], backlog[:-1]])
    fluid_s = np.minimum((before + backlog) / 2 / drain_fps, fleet.deadline_s)
    used = np.clip(frames / (drain_fps * fleet.step_s), 0, 0.999)
    queued_s = _chance_wait_s(used, np.maximum(ready, 1), fleet)
    service_s = (fleet.service.batch_ms[-1] + fleet.service.overhead_ms) / 1000
    budget_s = fleet.within_s - service_s - fluid_s
    # The wait of a queue with many servers has an exponential tail.
    tail = np.exp(-np.maximum(budget_s, 0) / np.maximum(queued_s, 1e-9))
    share = np.where(budget_s <= 0, 1.0, np.where(fluid_s > 0, 0.0, tail))
    # A step in which a backlog grows or shrinks past the limit is missed in part.
    low, high = np.minimum(before, backlog) / drain_fps, np.maximum(before, backlog) / drain_fps
    limit_s = fleet.within_s - service_s
    partly = np.clip((high - limit_s) / np.maximum(high - low, 1e-9), 0, 1)
    share = np.where(high > 0, np.where(high > low + 1e-9, partly, high > limit_s), share)
    missed = np.minimum(frames, np.maximum(frames * share, expired))
    return fluid_s + queued_s, missed


def _chance_wait_s(used: Steps, servers: Steps, fleet: Fleet) -> Steps:
    """Return the mean wait by chance of those that wait, s.

    Source: Sakasegawa's approximation of the M/M/m queue (1977), with Allen and Cunneen's factor
    for service times that are no exponential ones; of those that wait at all.
    """
    service_s = fleet.service.max_batch / fleet.service.service_fps
    spread = (1 + fleet.service.spread**2) / 2
    by_formula = spread * service_s / (servers * np.maximum(1 - used, 1e-3))
    # What piles up by chance for longer than a step is in the flow already.
    frames = used * servers * fleet.service.service_fps * fleet.step_s
    return np.minimum(by_formula, np.sqrt(frames) / (servers * fleet.service.service_fps))


def _batch(busy: float, backlog: float, most: int) -> float:
    """Return the frames that a replica holds: those that came while it did the last ones."""
    return most if backlog else min(busy / max(1 - busy, 1e-3), most)


def fluid_start(rate_fps: float, fleet: Fleet) -> int:
    """Return the replicas that a fleet begins its day with."""
    return max(1, math.ceil(rate_fps / fleet.service.service_fps / 0.8))
