"""What a replica tells of itself: metrics for Prometheus, figures for status and autoscaling.

The metrics are made by a backend handed in (`ray.serve.metrics` in a replica), so that this
module knows nothing of Ray. Labels are outcomes and reasons only: no camera, no face.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from workers.wire.decision import Decision

_LATENCY_MS = [1.0, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000]
_BATCH = [1.0, 2, 4, 8, 16, 32, 64, 128]
_SMOOTHING = 0.2
STAGES = ("queue", "decode", "batch", "infer", "commit", "total")


class MetricsBackend(Protocol):
    """Makes metrics, as `ray.serve.metrics` does."""

    @property
    def Counter(self) -> Callable[..., Any]:  # noqa: N802 - the backend's name
        """Make a counter with `inc(value, tags)`."""

    @property
    def Gauge(self) -> Callable[..., Any]:  # noqa: N802
        """Make a gauge with `set(value, tags)`."""

    @property
    def Histogram(self) -> Callable[..., Any]:  # noqa: N802
        """Make a histogram with `observe(value, tags)`."""


class ServiceRate:
    """How many frames a second a replica could do: what autoscaling divides by.

    Throughput says that only under full load. So this is figured from what a batch of each size
    took, smoothed: the best size's rate, bounded by what the decode threads can do.
    """

    def __init__(self, decode_threads: int) -> None:
        """Start with nothing known."""
        self._decode_threads = decode_threads
        self._infer_s: dict[int, float] = {}
        self._decode_s = 0.0

    def saw_batch(self, size: int, infer_s: float, decode_s: float) -> None:
        """Take in one batch: its size, its time in the network, and a frame's decode time."""
        self._infer_s[size] = _smooth(self._infer_s.get(size, infer_s), infer_s)
        self._decode_s = _smooth(self._decode_s or decode_s, decode_s)

    @property
    def fps(self) -> float:
        """Frames a second; 0 while nothing is known."""
        if not self._infer_s:
            return 0.0
        network = max(size / max(infer_s, 1e-6) for size, infer_s in self._infer_s.items())
        return min(network, self._decode_threads / max(self._decode_s, 1e-6))


class Telemetry:
    """The metrics of one replica, and a copy of the figures that `status` shows."""

    def __init__(self, metrics: MetricsBackend, decode_threads: int) -> None:
        """Register the metrics with the backend."""
        self.service_rate = ServiceRate(decode_threads)
        self.tally: Tally[str] = Tally()
        self._started_at_s = time.monotonic()
        self._decisions = metrics.Counter(
            "livegate_decisions_total", "Committed decisions.", ("outcome", "reason")
        )
        self._refused = metrics.Counter(
            "livegate_commits_refused_total",
            "Commits refused because another replica had taken the entry over.",
            (),
        )
        self._reclaimed = metrics.Counter(
            "livegate_reclaimed_total", "Entries taken over from silent replicas.", ()
        )
        self._swaps = metrics.Counter(
            "livegate_bundle_swaps_total", "Bundles that were to take over.", ("result",)
        )
        self._dead = metrics.Counter("livegate_dead_letters_total", "Frames given up on.", ())
        self._latency = metrics.Histogram(
            "livegate_latency_ms", "Time of a frame in each stage, ms.", _LATENCY_MS, ("stage",)
        )
        self._batch_size = metrics.Histogram(
            "livegate_batch_size", "Frames in a batch.", _BATCH, ()
        )
        self._gauges = {
            name: metrics.Gauge(f"livegate_{name}", description, ())
            for name, description in {
                "in_flight": "Frames that this replica works on.",
                "pending": "Entries that some replica was given and has not committed yet.",
                "waiting": "Entries that no replica was given yet.",
                "oldest_age_ms": "How long the oldest entry has been in the stream, ms.",
                "service_rate_fps": "Frames a second that this replica could do.",
            }.items()
        }

    def committed(self, decision: Decision) -> None:
        """Count a decision that became visible."""
        self.tally[decision.reason or decision.outcome] += 1
        self._decisions.inc(
            1, {"outcome": decision.outcome, "reason": decision.reason or decision.outcome}
        )
        for stage, value_ms in decision.timing_ms.items():
            self._latency.observe(value_ms, {"stage": stage})

    def commit_refused(self) -> None:
        """Count a commit that came too late: the entry was another replica's by then."""
        self.tally["commits_refused"] += 1
        self._refused.inc()

    def reclaimed(self) -> None:
        """Count an entry taken over from a silent replica."""
        self.tally["reclaimed"] += 1
        self._reclaimed.inc()

    def gave_up(self) -> None:
        """Count a dead letter."""
        self.tally["dead_letters"] += 1
        self._dead.inc()

    def swapped(self, *, is_done: bool) -> None:
        """Count a bundle that took over, or that failed to."""
        result = "done" if is_done else "failed"
        self.tally[f"swaps_{result}"] += 1
        self._swaps.inc(1, {"result": result})

    def inferred(self, size: int, infer_s: float, decode_s: Sequence[float]) -> None:
        """Take in one batch: its size, its time in the network, its frames' decode times."""
        self.service_rate.saw_batch(size, infer_s, sum(decode_s) / len(decode_s))
        self._batch_size.observe(size)

    def gauge(self, values: Mapping[str, float]) -> None:
        """Set gauges by name, without their prefix."""
        for name, value in values.items():
            self._gauges[name].set(value)

    def figures(self) -> dict[str, float]:
        """Return counts since the start, uptime and service rate, for `status`."""
        return {
            **{str(name): count for name, count in sorted(self.tally.items())},
            "service_rate_fps": round(self.service_rate.fps, 1),
            "uptime_s": round(time.monotonic() - self._started_at_s, 1),
        }


def _smooth(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old)
