"""The highest rate that keeps a promise: doubled until it is broken, then bisected.

Each rate is run again until it is clear, with 99 % confidence, that the percentile holds there or
that it doesn't; one that stays unclear counts as broken. A run that is invalid is repeated.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from loadtest.early_stopping import Verdict, early_verdict
from loadtest.errors import LoadtestError
from loadtest.histograms import Distribution
from loadtest.result import Result
from loadtest.scenario.scenario import Scenario

Runner = Callable[[Scenario], Awaitable[Result]]
_MOST_RUNS = 8
_MOST_INVALID = 3


class SearchError(LoadtestError):
    """There is nothing to be found; the message says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one rate came to.

    Attributes:
        fps: that was offered.
        verdict: `holds`, `fails`, `open` or `invalid`.
        why: in a few words.
        num_runs: it took.
        num_frames: decided in the steady windows.
        num_late: of them, beyond the limit.
        no_decision: share of good frames without a verdict.
        p50_ms: of all runs together.
        p99_ms: the same; and that of the promise.
        promised_ms: the promised percentile.
        goodput_fps: verdicts in time, a second.
    """

    fps: float
    verdict: str
    why: str
    num_runs: int
    num_frames: int
    num_late: int
    no_decision: float
    p50_ms: float | None
    p99_ms: float | None
    promised_ms: float | None
    goodput_fps: float


@dataclass(slots=True)
class Found:
    """What a search has found.

    Attributes:
        best_fps: the highest rate that holds; None: not even the first one does.
        next_fps: the lowest that does not; None: it was not reached.
        steps: in their order.
        environment: of the last run.
        scenario: that was varied.
        stopped: why the search ended early; empty: it did not.
    """

    best_fps: float | None = None
    next_fps: float | None = None
    steps: list[Step] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    scenario: dict[str, Any] = field(default_factory=dict)
    stopped: str = ""

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps({"version": 1, **asdict(self)}, indent=1) + "\n", "utf-8")


async def search(
    scenario: Scenario,
    run: Runner,
    *,
    precision: float = 0.05,
    most_fps: float = 100_000.0,
    tell: Callable[[Step], None] = lambda _: None,
) -> Found:
    """Find the highest rate that keeps the scenario's promise.

    Args:
        scenario: whose rate is varied; it begins with its own.
        run: runs a scenario.
        precision: the rate found and the next one that fails differ by this share at most.
        most_fps: no rate above it is tried.
        tell: called after each step.

    Raises:
        SearchError: the first rate is so low that it can't be halved any more.
    """
    found = Found(scenario=scenario.model_dump(mode="json", exclude={"name"}))
    base_fps, fps = scenario.arrivals.fps, scenario.arrivals.fps
    while fps <= most_fps:
        step, found.environment = await _step(scenario.scaled(by_rate=fps / base_fps), fps, run)
        found.steps.append(step)
        tell(step)
        if step.verdict == "invalid":
            found.stopped = f"at {fps:.4g} frames/s: {step.why}"
            return found
        if step.verdict == "holds":
            found.best_fps = fps
        else:
            found.next_fps = fps
        if found.best_fps is None:
            fps /= 2
            if fps < base_fps / 1024:
                raise SearchError(
                    f"not even {fps * 2:.3g} frames/s keep the promise ({step.why}): nothing can"
                )
        elif found.next_fps is None:
            fps *= 2
        elif found.next_fps / found.best_fps <= 1 + precision:
            return found
        else:
            fps = (found.best_fps + found.next_fps) / 2
    found.stopped = f"no rate above {most_fps:g} frames/s is tried"
    return found


async def _step(scenario: Scenario, fps: float, run: Runner) -> tuple[Step, dict[str, Any]]:
    """Run one rate until it is clear what it comes to."""
    slo, merged = scenario.slo, Distribution()
    verdicts = others = in_time = 0
    number = 0
    verdict: Verdict | Literal["invalid"] = "open"
    why = ""
    environment: dict[str, Any] = {}
    num_invalid = 0
    while verdict == "open" and number < _MOST_RUNS:
        seed = scenario.run.seed + 7919 * number
        again = scenario.model_copy(update={"run": scenario.run.model_copy(update={"seed": seed})})
        result = await run(again)
        number += 1
        environment = result.environment
        broken = [each for each in result.checks if not each.holds]
        if broken:  # it says nothing of the deployment; what disturbed it may be over next time
            num_invalid += 1
            if num_invalid == _MOST_INVALID:
                verdict, why = "invalid", f"{broken[0].name}? {broken[0].detail}"
            continue
        merged.merge(result.distribution("steady"))
        good = result.account["good_steady"]
        verdicts, others = verdicts + good["verdict"], others + good["no_decision"]
        in_time += result.account["in_time"]
        verdict, why = _judged(result, merged, slo.percentile, slo.within * 1000)
        share = others / max(verdicts + others, 1)
        if share > slo.no_decision:
            verdict, why = "fails", f"{share:.2%} of good frames got no verdict"
    if verdict == "open":
        why = f"unclear after {number} runs"
    step = Step(
        fps=round(fps, 3),
        verdict=verdict,
        why=why,
        num_runs=number,
        num_frames=merged.count,
        num_late=merged.above(slo.within * 1000),
        no_decision=round(others / max(verdicts + others, 1), 5),
        p50_ms=merged.at(50),
        p99_ms=merged.at(99),
        promised_ms=merged.at(slo.percentile),
        goodput_fps=round(in_time / (scenario.run.steady * max(1, number - num_invalid)), 2),
    )
    return step, environment


def _judged(
    result: Result, merged: Distribution, percentile: float, limit_ms: float
) -> tuple[Verdict, str]:
    account = result.account
    for name, told in (("lost", "lost"), ("doubled", "decided twice"), ("breaches", "breaches")):
        if account[name]:
            return "fails", f"{account[name]} {told}"
    num_late = merged.above(limit_ms)
    verdict = early_verdict(merged.count, num_late, percentile)
    return verdict, f"{num_late} of {merged.count} frames later than {limit_ms:g} ms"
