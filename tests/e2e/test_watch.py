"""What is watched on a real run: its metrics, scraped by a real Prometheus."""

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.local.ports import free_port
from deploy.watch.dashboards import dashboards
from deploy.watch.panels import Dashboard
from deploy.watch.rules import Metrics, render_rules
from tests.deploy.watch.prometheus import Prometheus, promtool, scraping
from tests.e2e.deployment import Deployment, deployed, watched
from workers.wire.decision import Reason

SLOW = {"LivegateDecisionsSlow", "LivegateFramesNotDecided", "LivegateWaitingGrows"}
DEADLINE_S = 30.0  # of the deployment in tests.e2e.deployment


@dataclass
class Scraped:
    """A deployment that has decided some frames, and the Prometheus that watched it."""

    deployment: Deployment
    prometheus: Prometheus
    metrics_url: str
    num_decided: int


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    folder, port = tmp_path_factory.mktemp("watched"), free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_metrics_report_interval_ms", "1000")
        rules = folder / "rules.yml"
        rules.write_text(render_rules(Metrics(), DEADLINE_S))
        with (
            scraping(folder / "prometheus", port, [rules]) as prometheus,
            deployed(folder, port) as deployment,
        ):
            num_decided = asyncio.run(_play(deployment))
            prometheus.until("sum(ray_livegate_decisions_total)", num_decided)
            yield Scraped(deployment, prometheus, f"http://127.0.0.1:{port}/metrics", num_decided)


async def _play(deployment: Deployment) -> int:
    async with watched(deployment) as cameras:
        await cameras.play((5, 40))
        await cameras.assert_exactly_once()
        return cameras.num_decided


def test_our_metrics_keep_the_rules_of_prometheus(scraped: Scraped) -> None:
    with urllib.request.urlopen(scraped.metrics_url, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    # Ray's own labels are its own: Component, NodeAddress, SessionName, Version, WorkerId.
    ours = [
        re.sub(r'[A-Z]\w*="[^"]*",?', "", line)
        for line in lines
        if re.match(r"(# \w+ )?ray_livegate_", line)
    ]
    assert len(ours) > 50
    checked = promtool("check", "metrics", stdin="\n".join(ours) + "\n")
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_each_frame_is_counted_once(scraped: Scraped) -> None:
    for counted in (
        "sum(ray_livegate_decisions_total)",
        "sum(ray_livegate_camera_decisions_total)",
        'sum(ray_livegate_latency_seconds_count{stage="total"})',
        "sum(ray_livegate_frames_total)",
    ):
        scraped.prometheus.until(counted, scraped.num_decided)


def test_counters_are_there_before_their_first_event(scraped: Scraped) -> None:
    for name in ("dead_letters", "commits_refused", "reclaimed"):
        scraped.prometheus.until(f"count(ray_livegate_{name}_total)", 2)
    for reason in Reason:
        counter = f'ray_livegate_decisions_total{{outcome="no_decision",reason="{reason}"}}'
        scraped.prometheus.until(f"count({counter})", 2)


def test_what_is_of_the_deployment_is_told_once(scraped: Scraped) -> None:
    for name in (
        "waiting_frames",
        "pending_frames",
        "oldest_frame_age_seconds",
        "arrival_fps",
        "replica_fps",
        "replicas_had",
        "replicas_needed",
        "replicas_wanted",
        "stream_up",
    ):
        scraped.prometheus.until(f"count(ray_livegate_{name})", 1)


def test_each_replica_tells_its_build_and_its_bundle(scraped: Scraped) -> None:
    model = scraped.deployment.status()["model"]
    info = f'ray_livegate_bundle_info{{model="{model}"}}'
    scraped.prometheus.until(f"sum({info})", 2)
    scraped.prometheus.until("sum(ray_livegate_build_info)", 2)


def test_the_deadline_is_a_limit_that_latency_is_counted_by(scraped: Scraped) -> None:
    assert scraped.deployment.config.settings.deadline_ms == DEADLINE_S * 1000
    within = f'ray_livegate_latency_seconds_bucket{{stage="total",le="{DEADLINE_S}"}}'
    scraped.prometheus.until(f"sum({within})", scraped.num_decided)


def test_every_rule_evaluates_and_nothing_is_found_wrong(scraped: Scraped) -> None:
    groups = scraped.prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert [rule for rule in rules if rule["health"] == "err"] == []
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing <= SLOW  # the machine's doing
    scraped.prometheus.until('count(slo:sli_error:ratio_rate5m{sloth_slo="decided"})', 1)


@pytest.mark.parametrize("dashboard", dashboards(Metrics()), ids=lambda each: each.uid)
def test_every_expression_of_a_dashboard_finds_something(
    scraped: Scraped, dashboard: Dashboard
) -> None:
    # What needs an hour of scores, a reason to refuse, or a candidate, has none here.
    may_be_empty = re.compile(r"drift|reason|slo:period|bona_fide:ratio|shadow")
    for expr in dashboard.expressions():
        filled = expr.replace("$__rate_interval", "1m").replace("$camera", "gate-1")
        if may_be_empty.search(expr):
            scraped.prometheus.query(filled)
        else:
            assert scraped.prometheus.until_any(filled), expr


def test_any_replica_serves_the_console_and_its_updates(scraped: Scraped) -> None:
    address = f"{scraped.deployment.config.http_url}/console/"
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"<title>Livegate</title>" in answer.read()
    for _ in range(4):  # two replicas
        with urllib.request.urlopen(f"{address}updates", timeout=60) as answer:
            data = next(line for line in answer if line.startswith(b"data: "))
        update = json.loads(data.removeprefix(b"data: "))
        assert {each["id"] for each in update["cameras"]} == set(scraped.deployment.camera_keys)
        assert update["troubles"] == []
