"""`livegate loadtest`: how much a deployment holds, and what happens when it is hit."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deploy.commands.extras import needs
from deploy.commands.target_options import TargetOptions, with_target

if TYPE_CHECKING:
    from loadtest.result import Result
    from loadtest.scenario.scenario import Scenario
    from loadtest.search import Found
    from loadtest.target import Target

app = typer.Typer(
    name="loadtest", help="How much a deployment holds, and what it does when it is hit.",
    no_args_is_help=True,
)  # fmt: skip
_MISSED, _INVALID = 1, 3

ScenarioName = Annotated[
    str, typer.Argument(help="A scenario: a TOML file, or the name of a shipped one.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the report; named by date, if none.")]
Faster = Annotated[
    float, typer.Option(min=1, max=1000, help="All times of the schedule divided by it.")
]
Rate = Annotated[float, typer.Option(min=0.001, max=1000, help="All rates multiplied by it.")]


@app.callback()
def loadtest() -> None:
    """How much a deployment holds, and what it does when it is hit."""


@app.command(name="list")
@needs("loadtest")
def list_scenarios() -> None:
    """List the scenarios that are shipped."""
    from loadtest.scenario.scenario import load_scenario, shipped

    for name in shipped():
        typer.echo(f"{name:22} {' '.join(load_scenario(name).about.split())}")


@app.command()
@needs("loadtest")
@with_target()
def run(
    scenario: ScenarioName,
    out: Out = None,
    faster: Faster = 1.0,
    rate: Rate = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="End with the result as JSON.")] = False,
    *,
    options: TargetOptions,
) -> None:
    """Run a scenario and write its report.

    The exit status is 0 if what it promises was kept, 1 if not, and 3 if the run is invalid: if
    the load itself was the bottleneck, or the account does not agree with the server's.
    """
    from deploy.commands.loadtest_local import target_of
    from loadtest.report.page import write_report
    from loadtest.report.terminal import summarise, teller
    from loadtest.scenario.scenario import load_scenario

    console = Console(stderr=as_json)
    wanted = load_scenario(scenario).scaled(rate, 1 / faster)
    with target_of(wanted, options) as target:
        result = asyncio.run(_run(wanted, target, teller(console)))
    page = write_report(result, out or _folder(wanted.name))
    summarise(result, console)
    console.print(f"\nreport: {page}", soft_wrap=True, highlight=False)
    if as_json:
        typer.echo(json.dumps(result.to_json()))
    if result.verdict != "met":
        raise typer.Exit(code=_MISSED if result.verdict == "missed" else _INVALID)


@app.command()
@needs("loadtest")
@with_target()
def search(
    scenario: ScenarioName = "steady",
    out: Out = None,
    seconds: Annotated[float, typer.Option(min=5, help="Steady window of each run, s.")] = 30,
    from_fps: Annotated[float | None, typer.Option(min=0.1, help="Rate to begin with.")] = None,
    within_ms: Annotated[float | None, typer.Option(min=1, help="Another latency limit.")] = None,
    precision: Annotated[float, typer.Option(min=0.01, max=0.5, help="Of the rate found.")] = 0.05,
    *,
    options: TargetOptions,
) -> None:
    """Find the highest rate that keeps the scenario's promise: doubling, then bisecting.

    The exit status is 0 if one was found, 1 if none holds, and 3 if the load itself was the
    bottleneck.
    """
    from deploy.commands.loadtest_local import target_of
    from loadtest.report.search_page import write_search
    from loadtest.scenario.scenario import load_scenario
    from loadtest.search import Step, search

    console = Console()
    wanted = _for_search(load_scenario(scenario), seconds, from_fps, within_ms)

    def tell(step: Step) -> None:
        p99 = "-" if step.p99_ms is None else f"{step.p99_ms:.1f}"
        console.print(
            f"{step.fps:9.1f} frames/s  {step.verdict:7}  p99 {p99:>8} ms  {step.why}",
            highlight=False,
        )

    with target_of(wanted, options) as target:

        async def go() -> "Found":
            return await search(
                wanted,
                lambda each: _run(each, target, lambda _: None),
                precision=precision,
                tell=tell,
            )

        found = asyncio.run(go())
    page = write_search(found, out or _folder(f"search-{wanted.name}"))
    console.print(f"highest rate that holds: {found.best_fps} frames/s", highlight=False)
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
    if found.stopped:
        console.print(f"the search ended early {found.stopped}")
    if found.best_fps is None or found.stopped:
        raise typer.Exit(code=_INVALID if found.stopped else _MISSED)


@app.command()
@needs("mlperf")
@with_target(without="http")
def mlperf(
    scenario: ScenarioName = "steady",
    out: Out = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long.")] = 60,
    fps: Annotated[
        float | None, typer.Option(min=0.1, help="Rate; the scenario's, if none.")
    ] = None,
    within_ms: Annotated[float | None, typer.Option(min=1, help="Another latency limit.")] = None,
    *,
    options: TargetOptions,
) -> None:
    """Measure the same with `loadtest run` and MLPerf LoadGen, one after the other."""
    from deploy.commands.loadtest_local import target_of
    from loadtest.mlperf import run_loadgen
    from loadtest.report.page import write_report
    from loadtest.scenario.scenario import load_scenario

    console = Console()
    wanted = _for_search(load_scenario(scenario), seconds, fps, within_ms)
    where = out or _folder(f"mlperf-{wanted.name}")
    with target_of(wanted, options) as target:
        ours = asyncio.run(_run(wanted, target, lambda _: None))
        write_report(ours, where)
        theirs = run_loadgen(wanted, target, where / "loadgen")
    steady = ours.distribution("steady")
    p99_ms = steady.at(99) or 0.0
    console.print(f"loadtest run: {ours.verdict}, p50 {steady.at(50)} ms, p99 {p99_ms:.2f} ms")
    console.print(
        f"LoadGen: {theirs.verdict}, p50 {theirs.p50_ms:.2f} ms, p99 {theirs.p99_ms:.2f} ms, "
        f"{theirs.num_frames} frames, {theirs.num_unanswered} unanswered"
    )
    console.print(f"p99 of LoadGen over ours: {theirs.p99_ms / max(p99_ms, 1e-9):.3f}")


def _for_search(
    scenario: "Scenario", seconds: float, from_fps: float | None, within_ms: float | None
) -> "Scenario":
    from loadtest.scenario.arrivals import Constant

    slo = scenario.slo
    if within_ms is not None:
        within = within_ms / 1000
        slo = slo.model_copy(update={"within": within, "deadline": max(within, slo.deadline)})
    fps = from_fps or scenario.arrivals.fps
    run = scenario.run.model_copy(update={"steady": seconds, "warm_up": min(10.0, seconds / 3)})
    arrivals = Constant(fps=fps, spacing="poisson")
    return scenario.model_copy(update={"arrivals": arrivals, "run": run, "slo": slo, "faults": ()})


@app.command()
@needs("serve")
def validate(
    out: Annotated[
        Path | None, typer.Option(help="File for the comparison, JSON; none, if not given.")
    ] = None,
    faster: Annotated[
        float, typer.Option(min=1, max=10, help="The length of the runs divided by it.")
    ] = 1.0,
) -> None:
    """Compare `plan` and `simulate` with real runs on this machine, of about 5 minutes.

    Server, stream, pipelines and the autoscaling policy are real; the network waits, as the host
    of a GPU does, so that this machine's processor decides nothing. The exit status is 1 if a
    figure is farther off than is promised.
    """
    from dataclasses import asdict

    from deploy.commands.loadtest_local import empty_server
    from deploy.local.signals import interrupt_on_stop
    from loadtest.environment import environment
    from loadtest.report.terminal import tell_comparison
    from loadtest.validation.check import validate as compare_all
    from loadtest.validation.real import Bench

    console = Console()
    interrupt_on_stop()
    with empty_server() as (url, key_file):
        bench = Bench(url, key_file)
        tell = tell_comparison(console)
        found = asyncio.run(compare_all(bench, 1 / faster, tell))
    if out is not None:
        told = {"environment": environment(), "compared": [asdict(each) for each in found]}
        out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if not all(each.holds for each in found):
        raise typer.Exit(code=_MISSED)


@app.command()
@needs("loadtest")
def compare(
    before: Annotated[
        Path, typer.Argument(help="Result, or folder, of the run that counts as good.")
    ],
    after: Annotated[Path, typer.Argument(help="The one that is judged.")],
    tolerance: Annotated[
        float, typer.Option(min=0, max=1, help="A change within it is none.")
    ] = 0.05,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Compare two runs of one scenario: is the second one slower, and is that certain?

    The exit status is 0 if it is not, 1 if it is, and 3 if that can't be told, or a run is invalid.
    """
    from dataclasses import asdict

    from loadtest.compare import compare as compare_runs
    from loadtest.result import read_result

    first, second = (
        read_result(each / "result.json" if each.is_dir() else each) for each in (before, after)
    )
    found = compare_runs(first, second, tolerance)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        low, high = found.interval
        typer.echo(
            f"{found.outcome}: p{found.percentile:g} {found.before_ms:g} ms, then "
            f"{found.after_ms:g} ms: {found.ratio:.3f} times, 95 % interval {low:.3f} to {high:.3f}"
        )
        for note in found.notes:
            typer.echo(f"  {note}")
    is_valid = first.is_valid and second.is_valid
    if found.outcome == "regressed":
        raise typer.Exit(code=_MISSED)
    if found.outcome == "unclear" or not is_valid:
        raise typer.Exit(code=_INVALID)


async def _run(scenario: "Scenario", target: "Target", tell: Any) -> "Result":  # noqa: ANN401
    """Run a scenario; Ctrl-C ends the sending, and what was sent is still accounted for."""
    from deploy.local.signals import stop_signals
    from loadtest.run import run_scenario

    stop = asyncio.Event()
    for number in stop_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return await run_scenario(scenario, target, tell, stop)


def _folder(name: str) -> Path:
    return Path(f"loadtest-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
