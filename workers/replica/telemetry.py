"""What a replica tells of itself: metrics for Prometheus, figures for status and autoscaling.

The metrics are made by a backend handed in (`ray.serve.metrics` in a replica), so that this
module knows nothing of Ray. Ray puts `ray_` before each name, and the labels `deployment`,
`replica` and `application` beside ours; deploy/README.md lists them all. What is of the whole
deployment, such as its backlog, is told once, by the policy in `workers/autoscale.py`.

Every series is there from the start: a counter that begins with its first event has no rate then.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

from workers.ray_internals import begin
from workers.wire.decision import Decision, Outcome, Reason

# What service levels may be promised at; the deadline joins them.
_LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
_BATCH = [1.0, 2, 4, 8, 16, 32, 64, 128]
_SCORE = [0.01, 0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.98, 0.99, 1.0]
# One scale for all figures of a face: ratios, px, grey values and mm.
_QUALITY = [0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0, 2, 5, 10, 20, 50, 100, 150, 200, 250, 500, 1000]
_SMOOTHING = 0.2
STAGES = ("queue", "decode", "batch", "infer", "commit", "total")
# A frame with one of these has not proven whose it is: anybody could fill the cameras' labels.
_UNPROVEN = frozenset(
    {Reason.BAD_SIGNATURE, Reason.UNKNOWN_CAMERA, Reason.MALFORMED, Reason.TOO_LARGE}
)
MAX_CAMERAS = 200
OTHER_CAMERAS = "other"


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


class NoMetrics:
    """A metrics backend that keeps nothing: for a replica that nobody watches."""

    def __getattr__(self, name: str) -> Callable[..., Any]:  # noqa: D105
        return lambda *_, **__: self

    def __call__(self, *_: Any, **__: Any) -> None:  # noqa: ANN401, D102
        return None


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

    def __init__(
        self, metrics: MetricsBackend, decode_threads: int, deadline_ms: int = 3000
    ) -> None:
        """Register the metrics with the backend.

        Args:
            metrics: the backend.
            decode_threads: of the replica.
            deadline_ms: of the deployment; a limit that latency is counted by. A node of Ray keeps
                the limits that it first heard of, so a new deadline is one in a new Ray cluster.
        """
        self.service_rate = ServiceRate(decode_threads)
        self.tally: Tally[str] = Tally()
        self._started_at_s = time.monotonic()
        self._cameras: set[str] = set()
        self._infos: list[tuple[Any, dict[str, str]]] = []
        self._version = version("livegate")
        self._decisions = metrics.Counter(
            "livegate_decisions_total", "Committed decisions.", ("outcome", "reason")
        )
        self._of_cameras = metrics.Counter(
            "livegate_camera_decisions_total",
            f"Committed decisions on frames of proven origin, of {MAX_CAMERAS} cameras a replica.",
            ("camera", "outcome"),
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
            "livegate_latency_seconds",
            "Time of a frame in each stage, of one frame a commit; "
            "total, of all: from its arrival to its commit.",
            sorted({*_LATENCY_S, deadline_ms / 1000}),
            ("stage",),
        )
        self._batch_size = metrics.Histogram(
            "livegate_batch_frames", "Frames in a batch.", _BATCH, ()
        )
        self._score = metrics.Histogram(
            "livegate_bona_fide_score",
            "Bona fide scores of frames that had one.",
            _SCORE,
            ("modalities",),
        )
        self._quality = metrics.Histogram(
            "livegate_face_quality",
            "Figures of faces, of one frame a batch and of all that were refused for them.",
            _QUALITY,
            ("figure",),
        )
        self._bundle = metrics.Gauge(
            "livegate_bundle_info",
            "1 for the bundle that this replica judges with, and what runs its network.",
            ("model", "runs_on"),
        )
        self._tried = metrics.Gauge(
            "livegate_candidate_info", "1 for the bundle that is tried beside it.", ("model",)
        )
        self._build = metrics.Gauge("livegate_build_info", "1, of this version.", ("version",))
        self._gauges = {
            name: metrics.Gauge(f"livegate_{name}", description, ())
            for name, description in {
                "in_flight_frames": "Frames that this replica works on.",
                "service_rate_fps": "Frames a second that this replica could do.",
            }.items()
        }
        self._begin()

    def _begin(self) -> None:
        for outcome in (Outcome.BONA_FIDE, Outcome.ATTACK):
            begin(self._decisions, {"outcome": outcome, "reason": outcome})
        for reason in Reason:
            begin(self._decisions, {"outcome": Outcome.NO_DECISION, "reason": reason})
        for result in ("done", "failed"):
            begin(self._swaps, {"result": result})
        for counter in (self._refused, self._reclaimed, self._dead):
            begin(counter, {})

    def serves(self, model_id: str, runs_on: str, candidate: str | None = None) -> None:
        """Note which bundle judges from now on, on what, and which one is tried beside it."""
        for gauge, tags in self._infos:
            gauge.set(0, tags)
        self._infos = [(self._bundle, {"model": model_id, "runs_on": runs_on})]
        if candidate:
            self._infos.append((self._tried, {"model": candidate}))

    def committed(self, decisions: Sequence[Decision]) -> None:
        """Count decisions that became visible at once.

        The time in each stage is told of one of them: its neighbours were read, judged and
        committed with it, and each figure of each frame would cost as much as its commit.
        """
        told = Tally((each.outcome, each.reason or each.outcome) for each in decisions)
        for (outcome, reason), count in told.items():
            self.tally[reason] += count
            self._decisions.inc(count, {"outcome": outcome, "reason": reason})
        of_cameras = Tally(
            (self._camera(each.camera_id), each.outcome)
            for each in decisions
            if each.camera_id and each.reason not in _UNPROVEN
        )
        for (camera, outcome), count in of_cameras.items():
            self._of_cameras.inc(count, {"camera": camera, "outcome": outcome})
        for stage, value_ms in decisions[0].timing_ms.items():
            if stage != "total":
                self._latency.observe(value_ms / 1000, {"stage": stage})
        for each in decisions:
            self._latency.observe(each.timing_ms.get("total", 0.0) / 1000, {"stage": "total"})
            if each.score is not None:
                self._score.observe(each.score, {"modalities": "+".join(each.modalities)})
            self._measured(each.quality)

    def commit_refused(self) -> None:
        """Count a commit that came too late: the entry was another replica's by then."""
        self.tally["commits_refused"] += 1
        self._refused.inc()

    def reclaimed(self, count: int) -> None:
        """Count entries taken over from silent replicas."""
        self.tally["reclaimed"] += count
        self._reclaimed.inc(count)

    def gave_up(self) -> None:
        """Count a dead letter."""
        self.tally["dead_letters"] += 1
        self._dead.inc()

    def swapped(self, *, is_done: bool) -> None:
        """Count a bundle that took over, or that failed to."""
        result = "done" if is_done else "failed"
        self.tally[f"swaps_{result}"] += 1
        self._swaps.inc(1, {"result": result})

    def inferred(
        self,
        size: int,
        infer_s: float,
        decode_s: Sequence[float],
        quality: Mapping[str, float] | None = None,
    ) -> None:
        """Take in one batch: its size, its time in the network, its frames' decode times.

        Args:
            size: number of its frames.
            infer_s: what the network took.
            decode_s: of each frame.
            quality: figures of one of them: each figure of each frame would cost more than reading
                the frame.
        """
        self.service_rate.saw_batch(size, infer_s, sum(decode_s) / len(decode_s))
        self._batch_size.observe(size)
        self._measured(quality or {})

    def gauge(self, values: Mapping[str, float]) -> None:
        """Set gauges by name, without their prefix, and say again what does not change.

        Ray forgets a gauge that was not set for two of its reports, 20 s: so a replica that is gone
        tells no longer what it was.
        """
        for name, value in values.items():
            self._gauges[name].set(value)
        self._build.set(1, {"version": self._version})
        for gauge, tags in self._infos:
            gauge.set(1, tags)

    def figures(self) -> dict[str, float]:
        """Return counts since the start, uptime and service rate, for `status`."""
        return {
            **{str(name): count for name, count in sorted(self.tally.items())},
            "service_rate_fps": round(self.service_rate.fps, 1),
            "uptime_s": round(time.monotonic() - self._started_at_s, 1),
        }

    def _camera(self, camera_id: str) -> str:
        if camera_id not in self._cameras:
            if len(self._cameras) >= MAX_CAMERAS:
                return OTHER_CAMERAS
            self._cameras.add(camera_id)
            for outcome in Outcome:
                begin(self._of_cameras, {"camera": camera_id, "outcome": outcome})
        return camera_id

    def _measured(self, quality: Mapping[str, float]) -> None:
        for figure, value in quality.items():
            self._quality.observe(value, {"figure": figure})


def _smooth(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old)
