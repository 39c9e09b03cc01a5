"""How many replicas there should be: a Ray Serve policy on backlog and arrival rate.

`scale` is a pure function; `BacklogPolicy` is what the Serve controller calls with it. The policy
asks Redis itself, so it works with no replica running at all, and it never makes the controller
wait: a question is one task that runs between two calls.

There is one policy a deployment, so it is the policy that tells what is of the deployment as a
whole: its backlog, and each decision with its reasons.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.ray_internals import begin
from workers.replica.logs import log_with_serve
from workers.replica.telemetry import MetricsBackend
from workers.settings import ScalingSettings, StreamSettings
from workers.stream.backlog import Backlog, read_backlog, total
from workers.stream.connection import connect
from workers.stream.failure import FAILURES

SERVICE_RATE = "service_rate_fps"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, and what one replica can do.

    Attributes:
        arrival_fps: frames that arrive, a second.
        backlog: frames in the streams, waiting or pending.
        service_fps: frames a second that one replica could do.
    """

    arrival_fps: float
    backlog: int
    service_fps: float


def replicas_needed(load: Load, scaling: ScalingSettings) -> int:
    """Return how many replicas carry `load` within their bounds, without hysteresis.

    One replica carries `target_utilisation` of what it could do. The headroom grows with the square
    root of the work: the loads of many replicas don't all peak at once, so each needs less of it.

    Source: square-root staffing; Halfin and Whitt, Heavy-traffic limits for queues with many
    exponential servers, Operations Research 29 (1981).
    """
    if load.arrival_fps <= 0 and load.backlog == 0:
        return scaling.min_replicas
    demand_fps = load.arrival_fps + load.backlog / scaling.drain_s
    work = demand_fps / load.service_fps  # in replicas that never rest
    alone = scaling.target_utilisation
    headroom = (1 - alone) * math.sqrt(work / alone)  # makes 1 of alone
    needed = math.ceil(work + headroom - 1e-9)
    return min(max(needed, scaling.min_replicas, 1), scaling.max_replicas)


def scale(current: int, needs: Mapping[float, int], scaling: ScalingSettings, now_s: float) -> int:
    """Return the number of replicas to have now.

    Up to what was needed throughout the last `upscale_s`, down to what was enough throughout the
    last `downscale_s`: a short peak or dip changes nothing.

    Args:
        current: replicas wanted so far.
        needs: time, s, to what `replicas_needed` said then; the latest at or before `now_s`.
        scaling: what the operator wants; the bounds are in `needs` already.
        now_s: the time, on the clock of `needs`.

    Source: the stabilisation windows of Kubernetes' HorizontalPodAutoscaler.
    """
    floor = min(_in_force(needs, now_s - scaling.upscale_s))
    ceiling = max(_in_force(needs, now_s - scaling.downscale_s))
    if current < floor:
        return floor
    return min(current, ceiling)


@dataclass
class Scaler:
    """The policy as it goes on: `scale`, and as much memory of needs as that looks at."""

    _needs: dict[float, int] = field(default_factory=dict)

    def wanted(
        self, load: Load, scaling: ScalingSettings, current: int, now_s: float
    ) -> tuple[int, int]:
        """Take in a load; returns how many replicas carry it, and how many there are to be.

        Args:
            load: what there is to do now.
            scaling: what the operator wants.
            current: replicas wanted so far.
            now_s: the time, on a clock that never steps back.
        """
        if not self._needs:
            self._needs[now_s] = current
        self._needs[now_s] = needed = replicas_needed(load, scaling)
        self._forget(scaling, now_s)
        return needed, scale(current, self._needs, scaling, now_s)

    def _forget(self, scaling: ScalingSettings, now_s: float) -> None:
        """Let go of what `scale` would not look at: a day has many needs, few of them matter.

        Of what is older than `upscale_s`, only a need that was greater than all since counts, and
        the one after it, which says how long it held.
        """
        recent_s = now_s - scaling.upscale_s
        oldest_s = now_s - max(scaling.upscale_s, scaling.downscale_s)
        kept: list[tuple[float, int]] = []
        later: tuple[float, int] | None = None
        most, is_recent = -1, True
        for at_s in reversed(self._needs):
            each = (at_s, self._needs[at_s])
            if is_recent or each[1] > most:
                if later is not None and kept[-1] != later:
                    kept.append(later)
                kept.append(each)
                most = max(most, each[1])
            is_recent = is_recent and at_s > recent_s
            later = each
            if at_s <= oldest_s:
                break
        self._needs = dict(reversed(kept))


@dataclass
class ArrivalRate:
    """Frames a second, from a count that only grows, over the last `window_s`."""

    window_s: float = 2.0
    _counts: deque[tuple[float, int]] = field(default_factory=deque)

    def saw(self, count: int, at_s: float) -> float:
        """Take in the count of entries ever added and return the rate.

        A count that falls is that of a server which lost its data: it starts anew.
        """
        if self._counts and count < self._counts[-1][1]:
            self._counts.clear()
        self._counts.append((at_s, count))
        while len(self._counts) > 2 and at_s - self._counts[1][0] >= self.window_s:
            self._counts.popleft()
        first_s, first = self._counts[0]
        return (count - first) / (at_s - first_s) if at_s > first_s else 0.0


class DeploymentGauges:
    """The metrics of a deployment as a whole."""

    def __init__(self, metrics: MetricsBackend) -> None:
        """Register the metrics with the backend."""
        self._added: int | None = None
        self._gauges = {
            name: metrics.Gauge(f"livegate_{name}", description, ())
            for name, description in {
                "stream_up": "1 while the server of the streams tells its backlog, else 0.",
                "waiting_frames": "Entries that no replica was given yet.",
                "pending_frames": "Entries that a replica was given and has not committed yet.",
                "oldest_frame_age_seconds": "How long the oldest entry has been in the stream.",
                "arrival_fps": "Frames that arrive a second, as the policy sees it.",
                "replica_fps": "Frames a second that one replica could do, as the policy sees it.",
                "replicas_had": "Replicas that there were to be before the last decision.",
                "replicas_needed": "Replicas that would carry the load now, within the bounds.",
                "replicas_wanted": "Replicas that there are to be: needed, for long enough.",
                "replicas_max": "Replicas that there may be at most.",
            }.items()
        }
        self._arrived = metrics.Counter(
            "livegate_frames_total", "Frames that arrived in the stream.", ()
        )
        begin(self._arrived, {})

    def saw(self, backlog: Backlog | None) -> None:
        """Tell the backlog; None: the server does not."""
        self._gauges["stream_up"].set(0 if backlog is None else 1)
        if backlog is None:
            return
        self._gauges["waiting_frames"].set(backlog.waiting)
        self._gauges["pending_frames"].set(backlog.pending)
        self._gauges["oldest_frame_age_seconds"].set(backlog.oldest_age_ms / 1000)
        if self._added is not None and backlog.added > self._added:
            self._arrived.inc(backlog.added - self._added)
        self._added = backlog.added

    def decided(
        self, load: Load, scaling: ScalingSettings, had: int, needed: int, wanted: int
    ) -> None:
        """Tell a decision and its reasons."""
        for name, value in (
            ("replicas_max", scaling.max_replicas),
            ("arrival_fps", load.arrival_fps),
            ("replica_fps", load.service_fps),
            ("replicas_had", had),
            ("replicas_needed", needed),
            ("replicas_wanted", wanted),
        ):
            self._gauges[name].set(value)


class BacklogPolicy:
    """The autoscaling policy that `workers.app.build` gives the application."""

    def __init__(self, stream: Mapping[str, Any], scaling: Mapping[str, Any]) -> None:
        """Check the settings; nothing is asked yet.

        Serve makes it in its controller, and calls it there.

        Args:
            stream: as `workers.settings.StreamSettings`.
            scaling: as `workers.settings.ScalingSettings`.
        """
        from ray.util import metrics  # noqa: PLC0415 - a simulation of `scale` needs no Ray

        log_with_serve()
        self._gauges = DeploymentGauges(metrics)
        self._stream = StreamSettings.model_validate(stream)
        self._scaling = ScalingSettings.model_validate(scaling)
        self._service_fps = self._scaling.first_service_fps
        self._client = connect(self._stream.url, cluster=self._stream.cluster)
        self._rate = ArrivalRate()
        self._asking: asyncio.Task[None] | None = None
        self._ask_at_s = 0.0
        self._load: Load | None = None
        self._scaler = Scaler()

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - Ray's type
        """Return the number of replicas to have, given Serve's `AutoscalingContext`."""
        now_s = time.monotonic()
        if now_s >= self._ask_at_s and (self._asking is None or self._asking.done()):
            self._ask_at_s = now_s + self._scaling.poll_s
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        current = context.target_num_replicas
        if self._load is None:
            return current, {}  # Redis was never reached, or can't be now: keep what is there
        # Serve's bounds, not ours: it scales them with the target capacity of the cluster.
        scaling = self._scaling.model_copy(
            update={
                "min_replicas": context.capacity_adjusted_min_replicas,
                "max_replicas": context.capacity_adjusted_max_replicas,
            }
        )
        self._service_fps = _reported(context.aggregated_metrics) or self._service_fps
        load = Load(self._load.arrival_fps, self._load.backlog, self._service_fps)
        needed, wanted = self._scaler.wanted(load, scaling, current, now_s)
        self._gauges.decided(load, scaling, current, needed, wanted)
        if wanted != current:
            _log.info("replicas %d -> %d for %s", current, wanted, load)
        return wanted, {}

    async def _ask(self) -> None:
        try:
            figures = await read_backlog(self._client, range(self._stream.partitions))
        except FAILURES as error:
            self._load = None
            self._gauges.saw(None)
            _log.warning("the backlog can't be read, replicas stay as they are: %s", error)
            return
        backlog = total(figures)
        self._gauges.saw(backlog)
        arrival_fps = self._rate.saw(backlog.added, time.monotonic())
        self._load = Load(arrival_fps, backlog.entries, self._service_fps)


def _in_force(needs: Mapping[float, int], since_s: float) -> list[int]:
    """Return the needs that held at any time since then: also the one that held at its start."""
    start_s = max((at_s for at_s in needs if at_s <= since_s), default=since_s)
    return [needed for at_s, needed in needs.items() if at_s >= start_s]


def _reported(metrics: Mapping[str, Mapping[Any, float]] | None) -> float:
    rates = [rate for rate in (metrics or {}).get(SERVICE_RATE, {}).values() if rate > 0]
    return sum(rates) / len(rates) if rates else 0.0
