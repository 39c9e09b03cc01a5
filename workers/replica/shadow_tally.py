"""What a candidate would have decided, beside what was decided: as metrics, and as counts to keep.

The counts of all replicas are added up in Redis under the names of both bundles, so that a report
covers days, whatever replicas come and go.
"""

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from typing import Any

from workers.ray_internals import begin
from workers.replica.telemetry import MetricsBackend
from workers.stream.connection import Servers
from workers.stream.scripts import packed, script
from workers.wire import keys
from workers.wire.decision import Decision, Outcome

SCORE_BINS = 20
LATENCY_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_SHIFT = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0]
_KEEP_MS = 30 * 24 * 3_600_000


class ShadowTally:
    """Counts of one replica; those that were not kept yet are added to the deployment's."""

    def __init__(self, metrics: MetricsBackend) -> None:
        """Register the metrics with the backend."""
        self._frames = metrics.Counter(
            "livegate_shadow_frames_total",
            "Frames that a candidate judged, too: what was decided, and what it would have.",
            ("decided", "candidate"),
        )
        self._dropped = metrics.Counter(
            "livegate_shadow_dropped_total",
            "Frames that the candidate was to judge and did not: no time, or it failed.",
            ("reason",),
        )
        self._shift = metrics.Histogram(
            "livegate_shadow_score_shift",
            "How far the candidate's bona fide score is above or below that of the decision.",
            _SHIFT,  # Ray takes no limits below 0
            ("direction",),
        )
        self._latency = metrics.Histogram(
            "livegate_shadow_latency_seconds",
            "Time in which the candidate decodes and judges one frame, at the lowest priority.",
            list(LATENCY_S),
            (),
        )
        for decided in Outcome:
            for candidate in Outcome:
                begin(self._frames, {"decided": decided, "candidate": candidate})
        for reason in ("busy", "failed"):
            begin(self._dropped, {"reason": reason})
        self._kept: dict[tuple[str, str], Counter[str]] = {}

    def compared(self, decision: Decision, candidate: str, verdict: dict[str, Any]) -> None:
        """Count a frame that both have judged.

        Args:
            decision: as it was made.
            candidate: model id of the other bundle.
            verdict: from `workers.replica.shadow_process.judge`.
        """
        outcome, score, took_s = Outcome(verdict["outcome"]), verdict["score"], verdict["ms"] / 1000
        self._frames.inc(1, {"decided": decision.outcome, "candidate": outcome})
        self._latency.observe(took_s, {})
        counts = self._kept.setdefault((decision.model, candidate), Counter())
        counts[f"outcomes:{decision.outcome}:{outcome}"] += 1
        counts[f"latency:{bisect_left(LATENCY_S, took_s)}"] += 1
        if decision.score is not None and score is not None:
            shift = score - decision.score
            self._shift.observe(abs(shift), {"direction": "up" if shift >= 0 else "down"})
            counts[f"decided:{_bin(decision.score)}"] += 1
            counts[f"candidate:{_bin(score)}"] += 1

    def dropped(self, model: str, candidate: str, reason: str) -> None:
        """Count a frame that the candidate did not judge: `busy` or `failed`."""
        self._dropped.inc(1, {"reason": reason})
        self._kept.setdefault((model, candidate), Counter())[f"dropped:{reason}"] += 1

    async def keep(self, servers: Servers) -> None:
        """Add what was counted since to the deployment's counts.

        Raises:
            redis.exceptions.RedisError: the server can't be reached, or refuses; it is kept here.
        """
        for pair in list(self._kept):
            counts = self._kept.pop(pair)
            about = json.dumps({"model": pair[0], "candidate": pair[1]})
            args = packed(
                fields=list(counts), counts=list(counts.values()), about=about, keep_ms=_KEEP_MS
            )
            try:
                await servers.run(script("tally"), [_key(*pair)], [args])
            except BaseException:
                self._kept.setdefault(pair, Counter()).update(counts)
                raise


async def read_tally(servers: Servers, model: str, candidate: str) -> dict[str, int]:
    """Return the deployment's counts of a pair of bundles, by field; {}: there are none.

    Raises:
        redis.exceptions.RedisError: the server can't be reached, or refuses.
    """
    key = _key(model, candidate)
    found = await servers.execute(key, "HGETALL", key)
    return {name.decode(): int(value) for name, value in found.items() if name != b"about"}


def _key(model: str, candidate: str) -> str:
    return keys.shadow(hashlib.sha256(f"{model}\n{candidate}".encode()).hexdigest()[:16])


def _bin(score: float) -> int:
    return min(int(max(score, 0.0) * SCORE_BINS), SCORE_BINS - 1)
