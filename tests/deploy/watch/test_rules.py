"""Each alert fires on what it is for, and none fires on a deployment that is well."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.watch.rules import Metrics, SelectorError, groups, render_rules
from tests.deploy.watch.prometheus import promtool

DEADLINE_S = 3.0
RUNBOOK = Path(__file__).parents[3] / "deploy" / "README.md"
NAMES = {
    rule["alert"]
    for group in groups(Metrics(), DEADLINE_S)
    for rule in group["rules"]
    if "alert" in rule
}

# Series of a deployment that is well, one value a minute: 600 frames a minute, of them 10 too slow
# an hour and none undecided, two replicas, two cameras.
LONG = 1600
WELL: dict[str, str] = {
    'latency_seconds_count{stage="total",replica="a"}': f"0+600x{LONG}",
    'latency_seconds_bucket{stage="total",replica="a",le="0.5"}': f"0+599.8x{LONG}",
    'latency_seconds_bucket{stage="total",replica="a",le="3.0"}': f"0+600x{LONG}",
    'decisions_total{outcome="bona_fide",reason="bona_fide"}': f"0+400x{LONG}",
    'decisions_total{outcome="attack",reason="attack"}': f"0+190x{LONG}",
    'decisions_total{outcome="no_decision",reason="low_quality"}': f"0+10x{LONG}",
    'decisions_total{outcome="no_decision",reason="worker_failed"}': f"0+0x{LONG}",
    'camera_decisions_total{camera="gate-1",outcome="bona_fide"}': f"0+300x{LONG}",
    'camera_decisions_total{camera="gate-1",outcome="no_decision"}': f"0+1x{LONG}",
    'camera_decisions_total{camera="gate-2",outcome="bona_fide"}': f"0+300x{LONG}",
    'camera_decisions_total{camera="other",outcome="bona_fide"}': f"0+0x{LONG}",
    'bona_fide_score_bucket{le="0.5"}': f"0+200x{LONG}",
    'bona_fide_score_bucket{le="1.0"}': f"0+600x{LONG}",
    'bona_fide_score_bucket{le="+Inf"}': f"0+600x{LONG}",
    "bona_fide_score_count": f"0+600x{LONG}",
    "waiting_frames": f"3+0x{LONG}",
    "pending_frames": f"8+0x{LONG}",
    "oldest_frame_age_seconds": f"0.1+0x{LONG}",
    "replica_fps": f"100+0x{LONG}",
    "replicas_wanted": f"2+0x{LONG}",
    "replicas_max": f"3+0x{LONG}",
    "stream_up": f"1+0x{LONG}",
    'in_flight_frames{replica="a"}': f"4+0x{LONG}",
    'in_flight_frames{replica="b"}': f"4+0x{LONG}",
    'bundle_info{replica="a",model="m@1"}': f"1+0x{LONG}",
    'bundle_info{replica="b",model="m@1"}': f"1+0x{LONG}",
    "dead_letters_total": f"0+0x{LONG}",
    "reclaimed_total": f"0+0x{LONG}",
    'bundle_swaps_total{result="failed"}': f"0+0x{LONG}",
}

# What is different where an alert has to fire; None: the series is not there.
ILL: dict[str, dict[str, str | None]] = {
    "LivegateWaitingGrows": {"waiting_frames": f"0+50x{LONG}"},
    "LivegatePendingGrows": {"pending_frames": f"200+0x{LONG}"},
    "LivegateFramesStuck": {"oldest_frame_age_seconds": f"0+60x{LONG}"},
    "LivegateDeadLetters": {"dead_letters_total": f"0+0x20 1+0x{LONG}"},
    "LivegateReplicasDie": {"reclaimed_total": f"0+6x{LONG}"},
    "LivegateStreamUnreachable": {"stream_up": f"1+0x20 0+0x{LONG}"},
    "LivegateNoReplica": {
        'in_flight_frames{replica="a"}': None,
        'in_flight_frames{replica="b"}': None,
    },
    "LivegateNotWatched": {"stream_up": None},
    "LivegateAtMaximum": {
        "waiting_frames": f"350+0x{LONG}",
        "replicas_wanted": f"3+0x{LONG}",
    },
    "LivegateCameraSilent": {
        'camera_decisions_total{camera="gate-2",outcome="bona_fide"}': f"0+300x70 21000+0x{LONG}",
    },
    "LivegateCameraRefused": {
        'camera_decisions_total{camera="gate-1",outcome="bona_fide"}': f"0+10x{LONG}",
        'camera_decisions_total{camera="gate-1",outcome="no_decision"}': f"0+290x{LONG}",
    },
    "LivegateQualityLow": {
        'decisions_total{outcome="no_decision",reason="low_quality"}': f"0+300x{LONG}",
    },
    "LivegateScoresDrift": {
        'bona_fide_score_bucket{le="0.5"}': f"0+200x600 120000+600x{LONG}",
    },
    "LivegateBundlesDiffer": {
        'bundle_info{replica="b",model="m@1"}': None,
        'bundle_info{replica="b",model="n@2"}': f"1+0x{LONG}",
    },
    "LivegateBundleRefused": {'bundle_swaps_total{result="failed"}': f"0+0x20 1+0x{LONG}"},
}
# Minutes after which it has to fire, where 30 are not enough, or too many.
AFTER = {
    "LivegateDeadLetters": 22,
    "LivegateBundleRefused": 22,
    "LivegateCameraSilent": 95,
    "LivegateQualityLow": 65,
    "LivegateScoresDrift": 720,
}


def burning(share: float, name: str) -> dict[str, str | None]:
    """Return the series of an objective, `share` of whose events are bad."""
    le = {"decided": "3.0", "latency": "0.5"}[name]
    bad = {f'latency_seconds_bucket{{stage="total",replica="a",le="{le}"}}': 600 * (1 - share)}
    return {series: f"0+{rate}x{LONG}" for series, rate in bad.items()}


def case(
    changes: Mapping[str, str | None], after_min: int, expr: str, samples: list[Any]
) -> dict[str, Any]:
    series = {**WELL, **changes}
    return {
        "interval": "1m",
        "input_series": [
            {"series": f"ray_livegate_{name}", "values": values}
            for name, values in series.items()
            if values is not None
        ],
        "promql_expr_test": [{"expr": expr, "eval_time": f"{after_min}m", "exp_samples": samples}],
    }


def firing(name: str, severity: str = ".*") -> str:
    return f'count(ALERTS{{alertname="{name}",alertstate="firing",severity=~"{severity}"}})'


def run(folder: Path, cases: list[dict[str, Any]], *, every_min: int = 1) -> None:
    rules = folder / "rules.yml"
    rules.write_text(render_rules(Metrics(), DEADLINE_S))
    tests = folder / "tests.yml"
    content = {"rule_files": [str(rules)], "evaluation_interval": f"{every_min}m", "tests": cases}
    tests.write_text(yaml.safe_dump(content))
    checked = promtool("test", "rules", str(tests))
    assert checked.returncode == 0, checked.stdout + checked.stderr


ONE = [{"labels": "{}", "value": 1}]


def test_each_alert_is_known_to_the_tests() -> None:
    assert {*ILL, "LivegateFramesNotDecided", "LivegateDecisionsSlow"} == NAMES


@pytest.mark.parametrize("name", sorted(ILL))
def test_an_alert_fires(name: str, tmp_path: Path) -> None:
    run(
        tmp_path,
        [case(ILL[name], AFTER.get(name, 30), firing(name), ONE)],
        every_min=5 if AFTER.get(name, 0) > 100 else 1,
    )


@pytest.mark.parametrize("name", ["decided", "latency"])
@pytest.mark.parametrize(
    ("severity", "burn", "after_min"), [("page", 15, 70), ("page", 7, 370), ("ticket", 3.5, 1450)]
)
def test_a_budget_that_burns_fires(
    name: str, severity: str, burn: float, after_min: int, tmp_path: Path
) -> None:
    budget = {"decided": 0.001, "latency": 0.01}[name]
    alert = {"decided": "LivegateFramesNotDecided", "latency": "LivegateDecisionsSlow"}[name]
    changes = burning(budget * burn, name)
    run(tmp_path, [case(changes, after_min, firing(alert, severity), ONE)], every_min=5)


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    well = [
        case({}, minutes, 'count by (alertname) (ALERTS{alertstate="firing"})', [])
        for minutes in (90, 1500)
    ]
    run(tmp_path, well, every_min=5)


def test_nothing_fires_while_an_application_sleeps(tmp_path: Path) -> None:
    asleep = {
        'in_flight_frames{replica="a"}': None,
        'in_flight_frames{replica="b"}': None,
        'bundle_info{replica="a",model="m@1"}': None,
        'bundle_info{replica="b",model="m@1"}': None,
        "replicas_wanted": f"0+0x{LONG}",
        "waiting_frames": f"0+0x{LONG}",
        "pending_frames": f"0+0x{LONG}",
    }
    expr = 'count by (alertname) (ALERTS{alertstate="firing"})'
    run(tmp_path, [case(asleep, 60, expr, [])])


def test_the_rules_are_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(render_rules(Metrics('namespace="door",job=~"ray.*"'), 1.5))
    checked = promtool("check", "rules", str(path))
    assert checked.returncode == 0, checked.stderr
    # Not one series of another deployment.
    assert not re.findall(r"ray_livegate_\w+(?!\w)(?!\{[^}]*namespace=\"door\")", path.read_text())


def test_each_alert_has_a_line_in_the_runbook() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    runbook = text[text.index("## Runbook") :]
    assert {name for name in NAMES if f"`{name}`" not in runbook} == set()
    told = set(re.findall(r"`(Livegate\w+)`", runbook))
    assert told <= NAMES


@pytest.mark.parametrize("selector", ["namespace=door", 'a="b', 'a="b"}', "x", 'a="b";c="d"'])
def test_a_selector_that_would_break_each_expression_is_refused(selector: str) -> None:
    with pytest.raises(SelectorError, match="label matchers"):
        Metrics(selector)
