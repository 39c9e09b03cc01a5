"""Prometheus' rules: what is promised, what is wrong, and what dashboards read ready-made.

`livegate deploy rules` writes them. Each alert has a row in the runbook of deploy/README.md that
says what to do.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from deploy.errors import DeployError
from deploy.watch.slo import Objective, Rule

RUNBOOK = "deploy/README.md#runbook"
LATENCY_SLO_S = 0.5
_MATCHER = r'[a-zA-Z_]\w*(=|!=|=~|!~)"[^"\\\n]*"'
_SELECTOR = re.compile(f"{_MATCHER}(,{_MATCHER})*")
_PREFIX = "ray_livegate_"  # Ray's, and ours


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that an operator has to look at.

    Attributes:
        name: of the alert.
        expr: PromQL; fires where it has a value.
        lasting: how long it must have lasted.
        severity: `page` wakes somebody, `ticket` waits until the morning.
        summary: what the operator sees, with labels in `{{ }}`.
    """

    name: str
    expr: str
    lasting: str
    severity: Literal["page", "ticket"]
    summary: str

    def rule(self) -> Rule:
        """Return it in Prometheus' form."""
        return {
            "alert": self.name,
            "expr": self.expr,
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.summary},
        }


class SelectorError(DeployError):
    """A selector is none; the message shows one."""


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Names of our metrics as PromQL, each with the deployment's own selector.

    Attributes:
        selector: label matchers, such as `namespace="door"`; empty: there is one deployment.
    """

    selector: str = ""

    def __post_init__(self) -> None:
        """Refuse a selector that would break each expression.

        Raises:
            SelectorError: it is no list of label matchers.
        """
        if self.selector and not _SELECTOR.fullmatch(self.selector):
            raise SelectorError(
                f'--selector: must be label matchers such as namespace="door",job=~"ray.*", is '
                f"{self.selector!r:.80}"
            )

    def __call__(self, name: str, matchers: str = "") -> str:
        """Return the series of a metric, its name without prefix."""
        both = ",".join(filter(None, (matchers, self.selector)))
        return f"{_PREFIX}{name}" + (f"{{{both}}}" if both else "")


def objectives(m: Metrics, deadline_s: float) -> tuple[Objective, ...]:
    """Return what is promised of every frame.

    A frame that expired counts by how long it was here: one that came too old is its camera's.
    """

    def rate(name: str, matchers: str) -> str:
        return f"sum(rate({m(name, matchers)}[{{window}}]))"

    def within(limit_s: float) -> str:
        return rate("latency_seconds_bucket", f'stage="total",le="{float(limit_s)}"')

    total = rate("latency_seconds_count", 'stage="total"')
    failed = rate("decisions_total", 'reason="worker_failed"')
    return (
        Objective(
            "decided",
            "LivegateFramesNotDecided",
            0.999,
            f"{total} - {within(deadline_s)} + {failed}",
            total,
            "Frames get no verdict: they are past the deadline, or replicas fail on them.",
        ),
        Objective(
            "latency",
            "LivegateDecisionsSlow",
            0.99,
            f"{total} - {within(LATENCY_SLO_S)}",
            total,
            f"Decisions take longer than {LATENCY_SLO_S} s.",
        ),
    )


def alerts(m: Metrics) -> tuple[Alert, ...]:
    """Return what is watched beside the objectives."""
    carried = f"clamp_min({m('replica_fps')} * {m('replicas_wanted')}, 1)"
    of_camera = m("camera_decisions_total", 'camera!="other"')
    refused = m("camera_decisions_total", 'camera!="other",outcome="no_decision"')
    low = m("decisions_total", 'reason="low_quality"')
    failed = m("bundle_swaps_total", 'result="failed"')
    return (
        Alert(
            "LivegateWaitingGrows",
            f"{m('waiting_frames')} > 2 * {carried}",
            "1m",
            "page",
            "{{ $value }} frames wait: more than all replicas together decide in 2 s.",
        ),
        Alert(
            "LivegatePendingGrows",
            f"{m('pending_frames')} > 2 * sum({m('in_flight_frames')}) + 32",
            "2m",
            "page",
            "{{ $value }} frames are given out, and hardly a replica works on them.",
        ),
        Alert(
            "LivegateFramesStuck",
            f"{m('oldest_frame_age_seconds')} > 30",
            "1m",
            "page",
            "The oldest frame has been in the stream for {{ $value }} s.",
        ),
        Alert(
            "LivegateDeadLetters",
            f"sum(increase({m('dead_letters_total')}[10m])) > 0",
            "0s",
            "ticket",
            "Frames were given up on in the last 10 minutes.",
        ),
        Alert(
            "LivegateReplicasDie",
            f"sum(rate({m('reclaimed_total')}[5m])) > 0.05",
            "10m",
            "ticket",
            "Frames are taken over from silent replicas again and again.",
        ),
        Alert(
            "LivegateStreamUnreachable",
            f"{m('stream_up')} == 0",
            "1m",
            "page",
            "The server of the streams does not answer, or refuses.",
        ),
        Alert(
            "LivegateNoReplica",
            f"{m('replicas_wanted')} > 0 unless on() count({m('in_flight_frames')}) > 0",
            "2m",
            "page",
            "There are to be {{ $value }} replicas, and none tells anything.",
        ),
        Alert(
            "LivegateNotWatched",
            f"absent({m('stream_up')})",
            "5m",
            "page",
            "Nobody tells the backlog: Prometheus or Ray Serve's controller is not there.",
        ),
        Alert(
            "LivegateAtMaximum",
            f"{m('replicas_wanted')} >= {m('replicas_max')} and {m('waiting_frames')} > {carried}",
            "5m",
            "ticket",
            "All {{ $value }} replicas that are allowed are there, and frames wait.",
        ),
        Alert(
            "LivegateCameraSilent",
            f"sum by (camera) (increase({of_camera}[1h] offset 15m)) > 100\n"
            f"unless sum by (camera) (increase({of_camera}[15m])) > 0",
            "5m",
            "ticket",
            "{{ $labels.camera }} has sent nothing for 15 minutes.",
        ),
        Alert(
            "LivegateCameraRefused",
            f"sum by (camera) (increase({refused}[15m]))\n"
            f"/ (sum by (camera) (increase({of_camera}[15m])) > 50) > 0.5",
            "10m",
            "ticket",
            "More than half of the frames of {{ $labels.camera }} get no verdict.",
        ),
        Alert(
            "LivegateQualityLow",
            f"sum(rate({low}[30m])) / sum(rate({m('decisions_total')}[30m])) > 0.2",
            "30m",
            "ticket",
            "{{ $value | humanizePercentage }} of all frames show no usable face.",
        ),
        Alert(
            "LivegateScoresDrift",
            "livegate:bona_fide_score:drift > 0.2",
            "1h",
            "ticket",
            "Scores of the last hour are not distributed as those of the last week.",
        ),
        Alert(
            "LivegateBundlesDiffer",
            f"count(count by (model) ({m('bundle_info')} == 1)) > 1",
            "5m",
            "page",
            "Replicas judge with {{ $value }} different bundles.",
        ),
        Alert(
            "LivegateBundleRefused",
            f"sum(increase({failed}[10m])) > 0",
            "0s",
            "ticket",
            "A replica could not take a bundle over, and goes on with the old one.",
        ),
    )


def groups(m: Metrics, deadline_s: float) -> list[dict[str, Any]]:
    """Return all rules, in Prometheus' groups."""
    found: list[dict[str, Any]] = []
    for each in objectives(m, deadline_s):
        kinds = {
            "sli-recordings": each.recordings(),
            "meta-recordings": each.metadata(),
            "alerts": each.alerts(),
        }
        for kind, rules in kinds.items():
            found.append(
                {"name": f"sloth-slo-{kind}-livegate-{each.name}", "rules": _with_runbook(rules)}
            )
    found.append({"name": "livegate-judgement", "interval": "1m", "rules": list(_judgement(m))})
    rules = (each.rule() for each in alerts(m))
    found.append({"name": "livegate-alerts", "rules": _with_runbook(rules)})
    return found


def render_rules(m: Metrics, deadline_s: float) -> str:
    """Return the rule file.

    Args:
        m: names of the deployment's metrics.
        deadline_s: of the deployment.
    """
    head = "# Written by `livegate deploy rules`.\n"
    content = {"groups": groups(m, deadline_s)}
    return head + yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=100)


def _judgement(m: Metrics) -> Iterator[Rule]:
    """Yield how scores are distributed, and how far that is from a week's distribution.

    That is Kolmogorov and Smirnov's distance: the largest difference of the two functions.
    """
    for window in ("1h", "7d"):
        bucket = f"sum by (le) (rate({m('bona_fide_score_bucket')}[{window}]))"
        count = f"sum(rate({m('bona_fide_score_count')}[{window}]))"
        yield {
            "record": f"livegate:bona_fide_score:cdf{window}",
            "expr": f"{bucket}\n/ ignoring (le) group_left\n{count}",
        }
    enough = f"sum(increase({m('bona_fide_score_count')}[1h])) > 1000"
    yield {
        "record": "livegate:bona_fide_score:drift",
        "expr": "max(abs(livegate:bona_fide_score:cdf1h - livegate:bona_fide_score:cdf7d))\n"
        f"and on() {enough}",
    }
    bona_fide = m("decisions_total", 'outcome="bona_fide"')
    verdicts = m("decisions_total", 'outcome!="no_decision"')
    yield {
        "record": "livegate:bona_fide:ratio_rate1h",
        "expr": f"sum(rate({bona_fide}[1h]))\n/\nsum(rate({verdicts}[1h]))",
    }


def _with_runbook(rules: Iterator[Rule]) -> list[Rule]:
    found = []
    for rule in rules:
        if "alert" in rule:
            rule["annotations"] = {**rule["annotations"], "runbook": RUNBOOK}
        found.append(rule)
    return found
