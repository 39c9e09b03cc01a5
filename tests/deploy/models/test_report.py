"""The report on a shadow: what it takes to be told to swap, and what speaks against it."""

from typing import Any

import pytest

from deploy.models.report import ENOUGH, NoShadow, report_on


def shadow(both: int, opens: int = 0, refuses: int = 0, failed: int = 0) -> dict[str, Any]:
    counts = {
        "outcomes:bona_fide:bona_fide": both // 2,
        "outcomes:attack:attack": both - both // 2,
        "outcomes:attack:bona_fide": opens,
        "outcomes:bona_fide:no_decision": refuses,
        "dropped:failed": failed,
        "dropped:busy": 7,
        "decided:19": both,
        "candidate:18": both // 2,
        "candidate:19": both - both // 2,
        "latency:2": both // 2,
        "latency:4": both - both // 2,
    }
    return {"model": "m@1", "candidate": "c@2", "counts": counts}


@pytest.mark.parametrize(
    ("counts", "verdict", "why"),
    [
        (shadow(2000), "swap", ""),
        (shadow(ENOUGH - 1), "not yet", "999 of 1000 frames"),
        (shadow(10_000, opens=20), "swap", ""),
        (shadow(2000, opens=5), "not yet", "that it opens alone on at most 0.5% is not shown"),
        (shadow(2000, opens=30), "do not swap", "opens alone on more than 0.5%"),
        (shadow(200, opens=30), "do not swap", "opens alone on more than 0.5%"),
        (shadow(2000, refuses=80), "do not swap", "refuses alone on more than 2.0%"),
        (shadow(20_000, refuses=300), "swap", ""),
        (shadow(2000, failed=1), "do not swap", "its process ended"),
    ],
)
def test_little_difference_has_to_be_shown(counts: dict[str, Any], verdict: str, why: str) -> None:
    found = report_on(counts)
    assert found.verdict == verdict
    assert ("; ".join(found.why)).startswith(why)
    assert bool(found.why) == (verdict != "swap")
    assert verdict in found.text().splitlines()[-1]


def test_it_tells_what_differs() -> None:
    figures = report_on(shadow(1980, opens=10, refuses=10)).figures
    assert figures["frames"] == 2000
    assert figures["agreement"] == pytest.approx(0.99)
    assert figures["opens"]["share"] == pytest.approx(0.005)
    assert figures["opens"]["lower"] < 0.005 < figures["opens"]["upper"]
    assert figures["score"]["distance"] == pytest.approx(0.5)
    assert figures["score"]["decided"] == pytest.approx(0.975)
    assert figures["latency_s"] == {"p50": 0.01, "p99": 0.05}
    assert figures["dropped"] == {"busy": 7, "failed": 0}


@pytest.mark.parametrize("empty", [{}, {"model": "m@1", "candidate": "c@2", "counts": {}}])
def test_without_a_shadow_there_is_nothing_to_say(empty: dict[str, Any]) -> None:
    with pytest.raises(NoShadow, match="livegate model shadow"):
        report_on(empty)
