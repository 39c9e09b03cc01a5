"""What a run comes to: whether the promise was kept, and whether the load can be believed."""

from collections.abc import Sequence
from typing import Any

from loadtest.histograms import Distribution
from loadtest.result import Check, FaultLog, Second
from loadtest.scenario.scenario import Scenario

_BUSY_CORES = 0.97


def load_checks(
    scenario: Scenario, lateness: Distribution, timeline: Sequence[Second], num_senders: int
) -> list[Check]:
    """Judge the load: what was late because of it is not the deployment's."""
    limit_ms = scenario.run.lateness * 1000
    late_ms = lateness.at(99) or 0.0
    busy = max((each.sender_cpu for each in timeline), default=0.0)
    share = busy / max(1, num_senders)
    told = f"p99 of the lateness is {late_ms:.1f} ms, at most {limit_ms:g} ms is allowed"
    if late_ms > limit_ms:
        told += ": the senders, or the machine they share, were the bottleneck"
    return [
        Check("frames were sent when they were due", late_ms <= limit_ms, told),
        Check(
            "the senders had processor time to spare",
            share <= _BUSY_CORES,
            f"at most {share:.0%} of a core for each of {num_senders}",
        ),
    ]


def fault_check(faults: Sequence[FaultLog]) -> Check:
    """Judge whether all that was to be done to the deployment was done."""
    failed = [each for each in faults if each.event.startswith("failed")]
    told = "; ".join(f"{each.what}: {each.event}" for each in failed)
    return Check("each fault was played", not failed, told or "as scheduled")


def slo_checks(scenario: Scenario, account: dict[str, Any], steady: Distribution) -> list[Check]:
    """Return whether the promise was kept, part by part."""
    slo = scenario.slo
    value_ms, limit_ms = steady.at(slo.percentile), slo.within * 1000
    good = account["good_steady"]
    given = good["verdict"] + good["no_decision"]
    share = good["no_decision"] / given if given else 1.0
    told = "nothing was decided" if value_ms is None else f"{value_ms:.1f} ms"
    checks = [
        Check(
            f"p{slo.percentile:g} within {limit_ms:g} ms",
            value_ms is not None and value_ms <= limit_ms,
            told,
        ),
        Check(
            f"no verdict on at most {slo.no_decision:.2%} of good frames",
            share <= slo.no_decision,
            f"{good['no_decision']} of {given}, {share:.2%}",
        ),
        Check("no frame lost", account["lost"] == 0, f"{account['lost']} lost"),
        Check("no frame decided twice", account["doubled"] == 0, f"{account['doubled']} doubled"),
        Check(
            "no door opened that must not",
            account["breaches"] == account["unsigned"] == 0,
            f"{account['breaches']} breaches, {account['unsigned']} verdicts without a signature",
        ),
    ]
    if slo.wrong is not None:
        wrong = account["wrong_share"]
        holds = wrong is not None and wrong <= slo.wrong
        told = "nothing was judged" if wrong is None else f"{wrong:.2%}"
        checks.append(Check(f"at most {slo.wrong:.2%} of verdicts wrong", holds, told))
    return checks
