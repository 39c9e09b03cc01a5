"""The policies that are compared: the one that Serve runs, and what others do.

Each is asked every second with what it could know then, and says how many replicas there are to
be. Each has one knob, along which it trades replica-hours for misses.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.autoscale import Load, Scaler
from workers.settings import ScalingSettings


@dataclass(frozen=True, slots=True)
class Seen:
    """What a policy knows at a time.

    Attributes:
        now_s: the time.
        arrival_fps: over the last seconds.
        backlog: frames in the streams, waiting or pending.
        waiting: of them, not given to any replica.
        ready: replicas that decide.
        wanted: replicas asked for so far.
        busy: share of their time that the ready ones work, [0, 1].
        service_fps: of one replica.
    """

    now_s: float
    arrival_fps: float
    backlog: float
    waiting: float
    ready: int
    wanted: int
    busy: float
    service_fps: float


class Policy(Protocol):
    """Says how many replicas there are to be."""

    def __call__(self, seen: Seen) -> int:
        """Return the number of replicas."""
        ...


@dataclass
class Livegate:
    """The product's own: the very policy that `workers.autoscale.BacklogPolicy` runs in Serve."""

    scaling: ScalingSettings
    _scaler: Scaler = field(default_factory=Scaler)

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        load = Load(seen.arrival_fps, round(seen.backlog), seen.service_fps)
        return self._scaler.wanted(load, self.scaling, seen.wanted, seen.now_s)[1]


@dataclass
class Stabilised:
    """A wish that Kubernetes' HPA carries out: every 15 s, down to the most of the last minutes.

    Source: Kubernetes documentation, Horizontal Pod Autoscaling: sync period 15 s, tolerance 10 %,
    at most 100 % or 4 pods more in 15 s, scale-down stabilisation 300 s.
    """

    most: int
    down_s: float = 300.0
    every_s: float = 15.0
    tolerance: float = 0.1
    _wishes: deque[tuple[float, int]] = field(default_factory=deque)
    _last_s: float = -math.inf

    def carried_out(self, seen: Seen, wish: Callable[[], float]) -> int:
        """Return the number of replicas, given what would be ideal now."""
        if seen.now_s - self._last_s < self.every_s:
            return seen.wanted
        self._last_s = seen.now_s
        ideal = wish()
        is_near = seen.wanted > 0 and abs(ideal / seen.wanted - 1) <= self.tolerance
        wanted = seen.wanted if is_near else math.ceil(ideal)
        self._wishes.append((seen.now_s, wanted))
        while self._wishes[0][0] < seen.now_s - self.down_s:
            self._wishes.popleft()
        stable = max(wanted, max(n for _, n in self._wishes) if wanted < seen.wanted else wanted)
        most = min(max(2 * seen.wanted, seen.wanted + 4), self.most)
        return max(min(stable, most), 1)


@dataclass
class Keda:
    """KEDA's Redis Streams scaler: so many replicas that each has `length` entries in the streams.

    Commits delete entries, so a stream's length is what waits and what is worked on. By lag alone,
    which is nothing while replicas keep up, it would send them all home.

    Source: KEDA documentation, Redis Streams scaler (`streamLength`): the metric goes to an HPA,
    which scales to its average value.
    """

    length: float
    hpa: Stabilised

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        return self.hpa.carried_out(seen, lambda: seen.backlog / self.length)


@dataclass
class HpaCpu:
    """HPA on processor use: ready replicas times use over target."""

    target: float
    hpa: Stabilised

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        return self.hpa.carried_out(seen, lambda: max(seen.ready, 1) * seen.busy / self.target)


@dataclass
class RayQueue:
    """Ray Serve's own: so many replicas that each has `target` ongoing requests.

    Source: Ray documentation, Serve autoscaling: the mean over `look_back_period_s` 30 s, up after
    `upscale_delay_s` 30 s, down after `downscale_delay_s` 600 s.
    """

    target: float
    most: int
    up_s: float = 30.0
    down_s: float = 600.0
    look_back_s: float = 30.0
    _ongoing: deque[tuple[float, float]] = field(default_factory=deque)
    _above_since_s: float | None = None
    _below_since_s: float | None = None

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        self._ongoing.append((seen.now_s, seen.backlog))
        while self._ongoing[0][0] < seen.now_s - self.look_back_s:
            self._ongoing.popleft()
        mean = sum(each for _, each in self._ongoing) / len(self._ongoing)
        wish = min(max(math.ceil(mean / self.target), 1), self.most)
        self._above_since_s = _since(self._above_since_s, seen.now_s, wish > seen.wanted)
        self._below_since_s = _since(self._below_since_s, seen.now_s, wish < seen.wanted)
        if self._above_since_s is not None and seen.now_s - self._above_since_s >= self.up_s:
            self._above_since_s = None
            return wish
        if self._below_since_s is not None and seen.now_s - self._below_since_s >= self.down_s:
            self._below_since_s = None
            return wish
        return seen.wanted


@dataclass
class Fixed:
    """The same number all day."""

    replicas: int

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        return self.replicas


@dataclass
class Clairvoyant:
    """Knows the load ahead, and asks for each replica just so early that it is ready in time.

    Attributes:
        ready: how many are to decide, step by step.
        cold_s: how early to ask.
        step_s: of `ready`.
    """

    ready: NDArray[np.int64]
    cold_s: float
    step_s: float

    def __call__(self, seen: Seen) -> int:
        """See `Policy`."""
        now = int(seen.now_s / self.step_s)
        then = min(now + math.ceil(self.cold_s / self.step_s) + 1, len(self.ready))
        return int(self.ready[now:then].max()) if now < then else int(self.ready[-1])


def clairvoyant(
    rate_fps: NDArray[np.float64], service_fps: float, cold_s: float, step_s: float, headroom: float
) -> Clairvoyant:
    """Return the policy that knows a rate ahead.

    Args:
        rate_fps: that will come, step by step.
        service_fps: of one replica.
        cold_s: that a replica takes to start.
        step_s: of the rate.
        headroom: replicas beyond the load's own work, in square roots of it: the fewest that keep
            the queue short, whatever the size of the fleet.

    Source: square-root staffing; Halfin and Whitt, Heavy-traffic limits for queues with many
    exponential servers, Operations Research 29 (1981).
    """
    work = rate_fps / service_fps
    ready = np.ceil(np.maximum(work + headroom * np.sqrt(np.maximum(work, 0)), 1)).astype(np.int64)
    return Clairvoyant(ready, cold_s, step_s)


def _since(before_s: float | None, now_s: float, is_so: bool) -> float | None:
    if not is_so:
        return None
    return now_s if before_s is None else before_s
