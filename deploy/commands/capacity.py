"""`livegate simulate` and `livegate plan`: what a fleet will need, before it is there."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.extras import needs

app = typer.Typer()


@app.command()
@needs("loadtest")
def simulate(
    cameras: Annotated[
        int, typer.Option(min=1000, max=10_000_000, help="Of the fleet.")
    ] = 1_000_000,
    utilisation: Annotated[
        float, typer.Option(min=0.1, max=1, help="The policy's target_utilisation.")
    ] = 0.6,
    cold_s: Annotated[float, typer.Option(min=0, max=3600, help="A replica takes to start.")] = 20,
    within_ms: Annotated[float, typer.Option(min=1, help="The promise.")] = 500,
    step_s: Annotated[float, typer.Option(min=0.5, max=60, help="Of the fluid model.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
) -> None:
    """Simulate a day of a large fleet: the autoscaling policy beside others, and a clairvoyant.

    The exit status is 1 if the policy is more than 15 % above the clairvoyant's replica-hours at
    equal misses, or a baseline has less than twice its misses at equal replica-hours.
    """
    from loadtest.report.simulation_page import Study, write_study
    from loadtest.simulation.model import Fleet
    from loadtest.simulation.study import check, judge, settings_for, study

    console = Console()
    fleet = Fleet(cold_s=cold_s, within_s=within_ms / 1000, step_s=step_s)
    scaling = settings_for(cameras, fleet, utilisation)
    points = study(
        cameras,
        fleet,
        scaling,
        tell=lambda each: console.print(
            f"{each.workload:13} {each.policy:12} {each.knob:5g}  missed {each.missed:10.4%}  "
            f"replica-hours {each.replica_hours:9.0f}",
            highlight=False,
        ),
    )
    judgements = judge(points, scaling)
    agreement = check(fleet, scaling)
    where = out or Path(f"simulation-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    page = write_study(Study(cameras, fleet, scaling, points, judgements, agreement), where)
    table = Table("workload", "replica-hours", "over clairvoyant", "missed", "baselines' misses")
    for each in judgements:
        table.add_row(
            each.workload,
            f"{each.point.replica_hours:.0f}",
            f"{each.hours_over_oracle - 1:+.1%}",
            f"{each.point.missed:.4%}",
            ", ".join(f"{name} {_times(of)}" for name, of in each.misses_of.items()),
        )
    console.print(table)
    console.print(
        f"frame by frame: replicas off by {agreement.replicas_off:.1%}, replica-hours by "
        f"{agreement.hours_off:+.1%}, misses {agreement.missed[0]:.3%}, {agreement.missed[1]:.3%}"
    )
    console.print(f"report: {page}", soft_wrap=True, highlight=False)
    if not all(each.is_good for each in judgements):
        raise typer.Exit(code=1)


def _times(of: float | None) -> str:
    return "needs more hours" if of is None else f"{of:.0f} times"


@app.command()
@needs("loadtest")
def plan(
    cameras: Annotated[int, typer.Argument(min=1, max=100_000_000, help="Of the fleet.")],
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Of a camera that is busy.")] = 5.0,
    busy: Annotated[
        float, typer.Option(min=0.0001, max=1, help="Share of the cameras that are, at the peak.")
    ] = 0.1,
    frame_kb: Annotated[float, typer.Option(min=1, max=1000, help="Of a frame, kB.")] = 30.0,
    within_ms: Annotated[float, typer.Option(min=1, help="p99 of the latency.")] = 500,
    utilisation: Annotated[
        float, typer.Option(min=0.1, max=1, help="The policy's target_utilisation.")
    ] = 0.6,
    figures: Annotated[Path | None, typer.Option(help="Measured figures, JSON.")] = None,
    machines: Annotated[Path | None, typer.Option(help="Kinds of machines, TOML.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Plan for a fleet: replicas, machines, shards, memory, network, and what bounds it."""
    from loadtest.planning.inputs import FIGURES, MACHINES, read_figures, read_machines
    from loadtest.planning.plan import Wanted
    from loadtest.planning.plan import plan as plan_for
    from loadtest.report.plan_table import show_plan

    wanted = Wanted(cameras, fps, busy, int(frame_kb * 1000), within_ms, utilisation)
    made = plan_for(wanted, read_figures(figures or FIGURES), read_machines(machines or MACHINES))
    if as_json:
        typer.echo(json.dumps(made.to_json()))
    else:
        show_plan(made, Console())
