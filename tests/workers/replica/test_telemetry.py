"""What a replica tells: which series there are, and how many there can be."""

from collections import Counter
from typing import Any

import pytest

from workers.replica.shadow_tally import ShadowTally
from workers.replica.telemetry import MAX_CAMERAS, OTHER_CAMERAS, Telemetry
from workers.wire.decision import Decision, Outcome, Reason

Series = tuple[str, frozenset[tuple[str, str]]]


class Backend:
    """Keeps what it is told, as Ray does: `inc` refuses 0, and what it calls does not."""

    def __init__(self) -> None:
        self.totals: Counter[Series] = Counter()
        self.set: dict[Series, float] = {}
        self.edges: dict[str, list[float]] = {}

    def Counter(self, name: str, *_: Any) -> Any:  # noqa: N802
        return _Counter(name, self)

    def Gauge(self, name: str, *_: Any) -> Any:  # noqa: N802
        return _Counter(name, self)

    def Histogram(self, name: str, _: str, edges: list[float], __: Any) -> Any:  # noqa: N802
        if min(edges) <= 0:  # as Ray does
            raise ValueError(edges)
        self.edges[name] = edges
        return _Counter(name, self)

    def labels(self, name: str, label: str) -> set[str]:
        return {dict(tags)[label] for each, tags in self.totals if each == name}


class _Counter:
    def __init__(self, name: str, backend: Backend) -> None:
        self._name, self._backend = name, backend

    def inc(self, value: float = 1, tags: dict[str, str] | None = None) -> None:
        if value <= 0:
            raise ValueError
        self._record(value, tags or {})

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self._backend.set[self._name, frozenset((tags or {}).items())] = value

    def observe(self, value: float, tags: dict[str, str] | None = None) -> None:
        self._record(1, tags or {})

    def _record(self, value: float, tags: dict[str, str]) -> None:
        self._backend.totals[self._name, frozenset(tags.items())] += int(value)


def decision(camera_id: str, reason: Reason | None = None) -> Decision:
    return Decision(
        camera_id=camera_id,
        seq=1,
        presentation_id=None,
        entry_id="1-0",
        captured_at_ms=1,
        decided_at_ms=1,
        outcome=Outcome.NO_DECISION if reason else Outcome.ATTACK,
        reason=reason,
        score=None if reason else 0.25,
        threshold=None,
        modalities=("rgb", "ir"),
        evidence={},
        model="m@1",
        replica="r",
        batch_size=1,
        timing_ms={"total": 3.0},
    )


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def telemetry(backend: Backend) -> Telemetry:
    return Telemetry(backend, 1, deadline_ms=1234)


def test_every_counter_begins_at_0(backend: Backend, telemetry: Telemetry) -> None:
    assert set(backend.totals.values()) == {0}
    reasons = backend.labels("livegate_decisions_total", "reason")
    assert reasons == {*Reason, Outcome.ATTACK, Outcome.BONA_FIDE}


def test_a_shadow_has_its_series_from_the_start(backend: Backend) -> None:
    ShadowTally(backend)
    assert set(backend.totals.values()) == {0}
    assert len(backend.totals) == len(Outcome) ** 2 + 2
    tally = ShadowTally(backend)
    verdict = {"outcome": "bona_fide", "reason": "", "score": 0.75, "ms": 12.0}
    tally.compared(decision("gate-1"), "c@2", verdict)
    counted = {name: dict(tags) for (name, tags), count in backend.totals.items() if count}
    assert counted["livegate_shadow_frames_total"] == {
        "decided": "attack",
        "candidate": "bona_fide",
    }
    assert counted["livegate_shadow_score_shift"] == {"direction": "up"}


def test_the_deadline_is_an_edge_of_latency(backend: Backend, telemetry: Telemetry) -> None:
    edges = backend.edges["livegate_latency_seconds"]
    assert 1.234 in edges
    assert edges == sorted(set(edges))


def test_however_many_cameras_there_are_few_have_series(
    backend: Backend, telemetry: Telemetry
) -> None:
    for number in range(2 * MAX_CAMERAS):
        telemetry.committed([decision(f"gate-{number}")])
    cameras = backend.labels("livegate_camera_decisions_total", "camera")
    assert len(cameras) == MAX_CAMERAS + 1
    others = frozenset({"camera": OTHER_CAMERAS, "outcome": "attack"}.items())
    assert backend.totals["livegate_camera_decisions_total", others] == MAX_CAMERAS


@pytest.mark.parametrize(
    "reason",
    [Reason.BAD_SIGNATURE, Reason.UNKNOWN_CAMERA, Reason.MALFORMED, Reason.TOO_LARGE],
)
def test_a_camera_that_proves_nothing_gets_no_series(
    backend: Backend, telemetry: Telemetry, reason: Reason
) -> None:
    telemetry.committed([decision("forged", reason)])
    assert backend.labels("livegate_camera_decisions_total", "camera") == set()
    counted = frozenset({"outcome": "no_decision", "reason": reason.value}.items())
    assert backend.totals["livegate_decisions_total", counted] == 1


def test_a_bundle_that_was_replaced_is_told_no_longer(
    backend: Backend, telemetry: Telemetry
) -> None:
    telemetry.serves("old@1", "graph on cpu", "new@2")
    telemetry.gauge({})
    telemetry.serves("new@2", "eager on cpu")
    telemetry.gauge({})
    for gauge, wanted in (("bundle", {"old@1": 0, "new@2": 1}), ("candidate", {"new@2": 0})):
        told = {
            dict(tags)["model"]: value
            for (name, tags), value in backend.set.items()
            if name == f"livegate_{gauge}_info"
        }
        assert told == wanted
