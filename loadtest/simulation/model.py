"""What is simulated: how long a frame takes, how long a replica takes to start, when it fails."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ServiceTimes:
    """How long a replica takes for a micro-batch, as measured.

    Attributes:
        batch_ms: by batch size, from 1: the mean time of a batch of that size.
        spread: standard deviation of a batch's time over its mean.
        overhead_ms: of a frame besides: reading, decoding, committing; it overlaps with others'.
        source: where it was measured, and on what.
    """

    batch_ms: tuple[float, ...]
    spread: float
    overhead_ms: float
    source: str

    @property
    def max_batch(self) -> int:
        """Frames of the largest batch."""
        return len(self.batch_ms)

    @property
    def slots(self) -> int:
        """Frames that a replica holds at most; see `workers.replica.pipeline.Pipeline`."""
        return 2 * self.max_batch - max(1, self.max_batch // 4)

    @property
    def service_fps(self) -> float:
        """Frames a second that a replica can do: at the best batch size."""
        return self.best_fps[-1]

    @cached_property
    def best_fps(self) -> tuple[float, ...]:
        """The best rate of batches of up to each size, from 1, frames a second."""
        rates = (self.fps_at(size) for size in range(1, self.max_batch + 1))
        return tuple(accumulate(rates, max))

    def fps_at(self, size: int) -> float:
        """Return the rate of batches of one size, frames a second."""
        return 1000 * size / self.batch_ms[size - 1]

    def size_at(self, fps: float) -> int:
        """Return the size of the batches that form by themselves at a rate of one replica."""
        return min(bisect_left(self.best_fps, fps) + 1, self.max_batch)

    def draw_s(self, size: int, random: np.random.Generator) -> float:
        """Return a batch's time, s: lognormal around the mean of its size."""
        sigma = np.sqrt(np.log1p(self.spread**2))
        drawn = random.lognormal(-(sigma**2) / 2, sigma)
        return float(self.batch_ms[size - 1] * drawn / 1000)


# ONNX Runtime, one thread, of the shipped bundle: batches 1 and 8 measured, the others on the line.
CPU_REPLICA = ServiceTimes(
    tuple(3.5 + (29.0 - 3.5) / 7 * size for size in range(16)), 0.12, 6.0,
    "exported graph, ONNX Runtime, one thread, AVX2 server core",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is simulated besides the load and the policy.

    Attributes:
        service: of a replica.
        cold_s: from when a replica is asked for until it decides its first frame.
        stop_s: how long a replica that is told to stop still costs: it drains.
        mean_life_s: mean time between failures of one replica.
        within_s: a frame that takes longer has missed the promise.
        deadline_s: a frame that is older is not inferred any more.
        step_s: of the fluid model.
        noise: standard deviation of a second's load over its mean, besides the arrivals' own; it
            stays alike for about a minute.
    """

    service: ServiceTimes = CPU_REPLICA
    cold_s: float = 20.0
    stop_s: float = 3.0
    mean_life_s: float = 7 * 86_400.0
    within_s: float = 0.5
    deadline_s: float = 3.0
    step_s: float = 1.0
    noise: float = 0.01


def noisy(
    rate_fps: NDArray[np.float64], fleet: Fleet, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return how many frames arrive in each step, around a rate."""
    keep = np.exp(-fleet.step_s / 60)
    kicks = random.normal(0, fleet.noise * np.sqrt(1 - keep**2), len(rate_fps))
    wander = np.empty(len(rate_fps))
    last = 0.0
    for index, kick in enumerate(kicks.tolist()):
        last = keep * last + kick
        wander[index] = last
    mean = np.maximum(rate_fps * (1 + wander), 0) * fleet.step_s
    return random.poisson(mean).astype(np.float64)
