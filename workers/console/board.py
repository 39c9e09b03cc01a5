"""What the console shows, put together from decisions; knows nothing of Redis and HTTP.

All of it is figured from what stands in the decision streams, by the server's clock, so that every
replica shows the same. It is bounded: in seconds, in cameras, and in what is kept of each.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from workers.wire.decision import Decision, Outcome, Reason

KEPT_S = 300
_RECENT_S = 60
_MAX_CAMERAS = 5000
_STRIP = 20
_SCORE_BINS = 20
_SCORE_MINUTES = 60
_RECENT_MINUTES = 5
_SILENT_S = 15.0
_SILENT_INTERVALS = 10
_AHEAD_MS, _BEHIND_MS = -300.0, 1500.0
_SMOOTHING = 0.2
_LETTER = {Outcome.BONA_FIDE: "b", Outcome.ATTACK: "a", Outcome.NO_DECISION: "n"}
# Without proof of whose a frame is, it belongs to no camera's tile.
_UNPROVEN = frozenset(
    {Reason.BAD_SIGNATURE, Reason.UNKNOWN_CAMERA, Reason.MALFORMED, Reason.TOO_LARGE}
)


@dataclass(slots=True)
class _Second:
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Camera:
    last: Decision
    strip: deque[str] = field(default_factory=lambda: deque(maxlen=_STRIP))
    reasons: deque[str] = field(default_factory=lambda: deque(maxlen=_STRIP))
    interval_s: float = 0.0
    late_ms: float | None = None
    health: str = "ok"
    detail: str = ""
    changed_ms: int = 0


class Board:
    """The state of a deployment as its decisions show it."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seconds: dict[int, _Second] = {}
        self._samples: dict[int, tuple[int, int, int]] = {}
        self._cameras: dict[str, _Camera] = {}
        self._scores: dict[int, list[int]] = {}

    def take(self, decision: Decision, now_ms: int) -> None:
        """Take in one decision.

        Args:
            decision: from a stream.
            now_ms: the server's clock, Unix ms.
        """
        at_s = decision.decided_at_ms // 1000
        if at_s > now_ms // 1000 - KEPT_S:
            self._count(self._seconds.setdefault(at_s, _Second()), decision)
        if decision.score is not None and 0 <= decision.score <= 1:
            bins = self._scores.setdefault(at_s // 60, [0] * _SCORE_BINS)
            bins[min(int(decision.score * _SCORE_BINS), _SCORE_BINS - 1)] += 1
        if decision.camera_id and decision.reason not in _UNPROVEN:
            self._note(decision.camera_id, decision, now_ms)

    def sample(self, now_ms: int, waiting: int, pending: int, running: int) -> None:
        """Take in the backlog, and how many replicas run."""
        self._samples[now_ms // 1000] = (waiting, pending, running)

    def tick(self, now_ms: int) -> None:
        """Look at each camera's health, and forget what is old; once a second."""
        for camera in self._cameras.values():
            health, detail = _health(camera, now_ms)
            if (health, detail) != (camera.health, camera.detail):
                camera.health, camera.detail, camera.changed_ms = health, detail, now_ms
        oldest_s = now_ms // 1000 - KEPT_S
        for kept in (self._seconds, self._samples):
            for each in [second for second in kept if second < oldest_s]:
                del kept[each]
        for minute in [each for each in self._scores if each < oldest_s // 60 - _SCORE_MINUTES]:
            del self._scores[minute]

    def changes(self, since_ms: int, now_ms: int) -> dict[str, Any]:
        """Return what there is to show, in a form that JSON can hold.

        Args:
            since_ms: an earlier `now`, and of cameras and seconds only what is new since; 0: all.
            now_ms: the server's clock, Unix ms.
        """
        end_s = now_ms // 1000  # this second is not over
        first_s = max(since_ms // 1000, end_s - KEPT_S)
        recent = [self._seconds[s] for s in range(end_s - _RECENT_S, end_s) if s in self._seconds]
        return {
            "now": now_ms,
            "seconds": [self._second(each) for each in range(first_s, end_s)],
            "cameras": [
                _tile(name, camera)
                for name, camera in self._cameras.items()
                if camera.changed_ms >= since_ms
            ],
            "reasons": _sum(each.reasons for each in recent),
            "models": _sum(each.models for each in recent),
            "replicas": {
                name: round(count / _RECENT_S, 2)
                for name, count in _sum(each.replicas for each in recent).items()
            },
            "scores": self._distributions(end_s // 60),
        }

    def _count(self, second: _Second, decision: Decision) -> None:
        second.outcomes[decision.outcome] += 1
        second.reasons[decision.reason or decision.outcome] += 1
        second.replicas[decision.replica] += 1
        if decision.model:
            second.models[decision.model] += 1
        if (total_ms := decision.timing_ms.get("total")) is not None:
            second.latencies_ms.append(total_ms)

    def _note(self, name: str, decision: Decision, now_ms: int) -> None:
        camera = self._cameras.get(name)
        if camera is None:
            if len(self._cameras) >= _MAX_CAMERAS:
                return
            camera = self._cameras[name] = _Camera(decision)
        else:
            interval_s = (decision.decided_at_ms - camera.last.decided_at_ms) / 1000
            if interval_s >= 0:
                camera.interval_s = _smooth(camera.interval_s or interval_s, interval_s)
                camera.last = decision
        camera.strip.append(_LETTER[decision.outcome])
        camera.reasons.append(decision.reason or "")
        camera.changed_ms = now_ms
        arrived_ms = decision.entry_id.partition("-")[0]
        if decision.captured_at_ms is not None and arrived_ms.isdigit():
            late_ms = float(int(arrived_ms) - decision.captured_at_ms)
            known_ms = late_ms if camera.late_ms is None else camera.late_ms
            camera.late_ms = _smooth(known_ms, late_ms)

    def _second(self, at_s: int) -> list[float | None]:
        second = self._seconds.get(at_s, _Second())
        outcomes = [second.outcomes[each] for each in Outcome]
        latencies = sorted(second.latencies_ms)
        quantiles = [_quantile(latencies, share) for share in (0.5, 0.99)]
        return [at_s, *outcomes, *quantiles, *self._samples.get(at_s, (None, None, None))]

    def _distributions(self, minute: int) -> dict[str, Any]:
        """Return the last minutes' scores and those before, and how far apart they are."""
        recent, before = [0] * _SCORE_BINS, [0] * _SCORE_BINS
        for each, bins in self._scores.items():
            into = recent if each > minute - _RECENT_MINUTES else before
            into[:] = [a + b for a, b in zip(into, bins, strict=True)]
        return {"recent": recent, "before": before, "distance": _distance(recent, before)}


def _health(camera: _Camera, now_ms: int) -> tuple[str, str]:
    """Return what is wrong with a camera, the gravest first, and a word on it."""
    quiet_s = (now_ms - camera.last.decided_at_ms) / 1000
    if quiet_s > max(_SILENT_S, _SILENT_INTERVALS * camera.interval_s):
        return "silent", ""
    late_ms = camera.late_ms or 0.0
    if late_ms < _AHEAD_MS:
        return "clock", f"{-late_ms / 1000:.1f} s ahead"
    refused = [reason for reason in camera.reasons if reason]
    if len(camera.strip) >= 5 and 2 * len(refused) > len(camera.strip):
        return "refused", Counter(refused).most_common(1)[0][0]
    if late_ms > _BEHIND_MS:
        return "clock", f"{late_ms / 1000:.1f} s behind"
    return "ok", ""


def _tile(name: str, camera: _Camera) -> dict[str, Any]:
    last = camera.last
    return {
        "id": name,
        "at": last.decided_at_ms,
        "outcome": last.outcome,
        "reason": last.reason,
        "score": None if last.score is None else round(last.score, 4),
        "threshold": None if last.threshold is None else round(last.threshold, 4),
        "evidence": _evidence(last),
        "ms": last.timing_ms.get("total"),
        "strip": "".join(camera.strip),
        "health": camera.health,
        "detail": camera.detail,
    }


def _evidence(decision: Decision) -> Mapping[str, float]:
    """Return what each modality says: evidence, where decisions have it, or shares."""
    evidence: Mapping[str, float] = getattr(decision, "evidence", None) or getattr(
        decision, "weights", {}
    )
    return {name: round(value, 3) for name, value in evidence.items()}


def history_row(decision: Decision) -> dict[str, Any]:
    """Return one decision of a camera's history, in a form that JSON can hold."""
    return {
        "at": decision.decided_at_ms,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "score": decision.score,
        "threshold": decision.threshold,
        "evidence": _evidence(decision),
        "modalities": list(decision.modalities),
        "quality": dict(decision.quality),
        "timing_ms": dict(decision.timing_ms),
        "model": decision.model,
        "replica": decision.replica,
        "presentation_id": decision.presentation_id,
    }


def _sum(counters: Any) -> dict[str, int]:  # noqa: ANN401 - any iterable of them
    total: Counter[str] = Counter()
    for each in counters:
        total.update(each)
    return dict(total.most_common())


def _distance(recent: list[int], before: list[int]) -> float | None:
    """Return Kolmogorov and Smirnov's distance; None: too few scores to tell."""
    if min(sum(recent), sum(before)) < 100:
        return None
    gap = largest = 0.0
    for new, old in zip(recent, before, strict=True):
        gap += new / sum(recent) - old / sum(before)
        largest = max(largest, abs(gap))
    return round(largest, 3)


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None


def _smooth(old: float, new: float) -> float:
    return old + _SMOOTHING * (new - old)
