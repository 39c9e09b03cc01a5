"""How many replicas there should be: a Ray Serve policy on backlog and arrival rate.

`scale` is a pure function; `BacklogPolicy` is what the Serve controller calls with it. The policy
asks Redis itself, so it works with no replica running at all, and it never makes the controller
wait: a question is one task that runs between two calls.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import connect
from workers.stream.failure import FAILURES

SERVICE_RATE = "service_rate_fps"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, and what one replica can do.

    Attributes:
        arrival_fps: frames that arrive, a second.
        backlog: frames in the streams, waiting or held.
        service_fps: frames a second that one replica could do.
    """

    arrival_fps: float
    backlog: int
    service_fps: float


@dataclass(frozen=True, slots=True)
class Rule:
    """What the operator wants of the scaling.

    Attributes:
        min_replicas: never fewer; 0 lets an idle application go to sleep.
        max_replicas: never more.
        drain_s: a backlog is to be worked off in this time.
        target_utilisation: part of its service rate that a replica is meant to carry, (0, 1].
        upscale_s: a need for more must have lasted this long.
        downscale_s: a need for fewer must have lasted this long.
    """

    min_replicas: int = 1
    max_replicas: int = 3
    drain_s: float = 2.0
    target_utilisation: float = 0.6
    upscale_s: float = 1.0
    downscale_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse values that would divide by zero or never scale."""
        if not 0 < self.target_utilisation <= 1:
            raise ValueError(
                f"target_utilisation must be above 0, at most 1, is {self.target_utilisation}"
            )
        if self.drain_s <= 0:
            raise ValueError(f"drain_s must be above 0, is {self.drain_s}")
        if not 0 <= self.min_replicas <= self.max_replicas:
            raise ValueError(
                f"min_replicas ({self.min_replicas}) must be from 0 to "
                f"max_replicas ({self.max_replicas})"
            )


def replicas_needed(load: Load, rule: Rule) -> int:
    """Return how many replicas carry `load` within the rule's bounds, without hysteresis."""
    if load.arrival_fps <= 0 and load.backlog == 0:
        return rule.min_replicas
    demand_fps = load.arrival_fps + load.backlog / rule.drain_s
    needed = math.ceil(demand_fps / (load.service_fps * rule.target_utilisation))
    return min(max(needed, rule.min_replicas, 1), rule.max_replicas)


def scale(current: int, needs: Mapping[float, int], rule: Rule, now_s: float) -> int:
    """Return the number of replicas to have now.

    Up to what was needed throughout the last `upscale_s`, down to what was enough throughout the
    last `downscale_s`: a short peak or dip changes nothing.

    Args:
        current: replicas wanted so far.
        needs: time, s, to what `replicas_needed` said then; the latest at or before `now_s`.
        rule: the operator's rule.
        now_s: the time, on the clock of `needs`.

    Source: the stabilisation windows of Kubernetes' HorizontalPodAutoscaler.
    """
    floor = min(_in_force(needs, now_s - rule.upscale_s))
    ceiling = max(_in_force(needs, now_s - rule.downscale_s))
    if current < floor:
        return floor
    return min(current, ceiling)


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


class BacklogPolicy:
    """The class that `ray_config.yaml` names as the autoscaling policy."""

    def __init__(
        self,
        stream: Mapping[str, Any],
        rule: Mapping[str, float],
        first_service_fps: float,
        poll_s: float = 0.5,
    ) -> None:
        """Check the arguments; nothing is asked yet.

        Args:
            stream: as `workers.settings.StreamSettings`.
            rule: as `Rule`, without its bounds: those are Serve's `min_replicas` and
                `max_replicas`.
            first_service_fps: taken for a replica's service rate until one reports its own.
            poll_s: how often Redis is asked.
        """
        self._stream = StreamSettings.model_validate(stream)
        self._rule = dict(rule)
        Rule(**self._rule)  # type: ignore[arg-type]
        self._service_fps = first_service_fps
        self._poll_s = poll_s
        self._client = connect(self._stream.url, cluster=self._stream.cluster)
        self._rate = ArrivalRate()
        self._asking: asyncio.Task[None] | None = None
        self._ask_at_s = 0.0
        self._load: Load | None = None
        self._needs: dict[float, int] = {}

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401 - Ray's type
        """Return the number of replicas to have, given Serve's `AutoscalingContext`."""
        now_s = time.monotonic()
        if now_s >= self._ask_at_s and (self._asking is None or self._asking.done()):
            self._ask_at_s = now_s + self._poll_s
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        current = context.target_num_replicas
        if self._load is None:
            return current, {}  # Redis was never reached, or can't be now: hold what is there
        rule = Rule(
            min_replicas=context.capacity_adjusted_min_replicas,
            max_replicas=context.capacity_adjusted_max_replicas,
            **self._rule,
        )
        self._service_fps = _reported(context.aggregated_metrics) or self._service_fps
        load = Load(self._load.arrival_fps, self._load.backlog, self._service_fps)
        if not self._needs:
            self._needs[now_s] = current
        self._needs[now_s] = replicas_needed(load, rule)
        horizon_s = now_s - max(rule.upscale_s, rule.downscale_s)
        oldest_s = max((at_s for at_s in self._needs if at_s <= horizon_s), default=horizon_s)
        self._needs = {at_s: n for at_s, n in self._needs.items() if at_s >= oldest_s}
        wanted = scale(current, self._needs, rule, now_s)
        if wanted != current:
            _log.info("replicas %d -> %d for %s", current, wanted, load)
        return wanted, {}

    async def _ask(self) -> None:
        try:
            figures = await read_backlog(self._client, range(self._stream.partitions))
        except FAILURES as error:
            self._load = None
            _log.warning("the backlog can't be read, replicas stay as they are: %s", error)
            return
        backlog = total(figures)
        arrival_fps = self._rate.saw(backlog.added, time.monotonic())
        self._load = Load(arrival_fps, backlog.entries, self._service_fps)


def _in_force(needs: Mapping[float, int], since_s: float) -> list[int]:
    """Return the needs that held at any time since then: also the one that held at its start."""
    start_s = max((at_s for at_s in needs if at_s <= since_s), default=since_s)
    return [needed for at_s, needed in needs.items() if at_s >= start_s]


def _reported(metrics: Mapping[str, Mapping[Any, float]] | None) -> float:
    rates = [rate for rate in (metrics or {}).get(SERVICE_RATE, {}).values() if rate > 0]
    return sum(rates) / len(rates) if rates else 0.0
