"""`livegate model`: which bundle judges in a deployment that runs.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.commands.extras import needs
from deploy.local import home

if TYPE_CHECKING:
    from deploy.models.control import Control
    from deploy.models.fleet import Fleet

app = typer.Typer(
    name="model", help="Which bundle judges in a deployment that runs.", no_args_is_help=True
)

Folder = Annotated[
    Path | None,
    typer.Option(help=f"Folder of a deployment on this machine; {home.DEFAULT}, if none."),
]
Http = Annotated[
    str | None, typer.Option(help="HTTP side of a deployment elsewhere: http://HOST:8000.")
]
Dashboard = Annotated[
    str | None,
    typer.Option(
        help="With --http: the dashboard of its Ray cluster, http://HOST:8265; Ray's token is in "
        "RAY_AUTH_TOKEN."
    ),
]
Bundle = Annotated[
    str,
    typer.Argument(help="As `livegate model push` prints it; on this machine a folder, too."),
]


@app.command()
@needs("serve")
def push(
    bundle: Annotated[str, typer.Argument(help="Bundle: a folder, or a shipped bundle's name.")],
    place: Annotated[str, typer.Argument(help="A folder, s3://BUCKET/PATH or gs://BUCKET/PATH.")],
) -> None:
    """Test a bundle, and copy it under its hash to where replicas fetch it from."""
    from deploy.models.push import push as run

    url, model = run(bundle, place)
    typer.echo(f"{model} is at\n{url}")


@app.command()
@needs("serve")
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    folder: Folder = None,
    http: Http = None,
) -> None:
    """Show what each replica judges with; exit 1 if they are not all the same, and as they should.

    With --http, a deployment elsewhere is asked.
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    found = _fleet(folder, http).look()
    faults = found.faults()
    if as_json:
        replicas = [asdict(each) for each in found.replicas]
        typer.echo(json.dumps({"replicas": replicas, "faults": faults}))
    else:
        table = Table()
        for name in ("replica", "judges with", "runs on", "beside it", "state"):
            table.add_column(name, overflow="fold")
        for each in found.replicas:
            table.add_row(each.name, each.model, each.runs_on, each.candidate or "-", each.state)
        Console(soft_wrap=True).print(table)
        for fault in faults:
            typer.echo(f"not right: {fault}")
    if faults:
        raise typer.Exit(code=1)


@app.command()
@needs("serve")
def swap(
    bundle: Bundle,
    folder: Folder = None,
    http: Http = None,
    dashboard: Dashboard = None,
) -> None:
    """Let a bundle take over in all replicas; if one of them refuses it, none judges with it."""
    from deploy.models.swap import swap as run

    control, fleet = _deployment(folder, http, dashboard)
    name, model = _checked(bundle, is_here=http is None)
    judges = run(control, fleet, name, model, typer.echo)
    typer.echo(f"all replicas judge with {judges}; back: livegate model rollback")
    if http is not None:
        typer.echo(f"keep it: put `bundle: {name}` where that deployment's config is kept")


@app.command()
@needs("serve")
def rollback(folder: Folder = None, http: Http = None, dashboard: Dashboard = None) -> None:
    """Go back to the bundle that judged before the last swap."""
    from deploy.models.swap import rollback as run

    control, fleet = _deployment(folder, http, dashboard)
    typer.echo(f"all replicas judge with {run(control, fleet, typer.echo)}")


@app.command()
@needs("serve")
def shadow(
    bundle: Bundle,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the frames; 0 ends it.")] = 0.1,
    folder: Folder = None,
    http: Http = None,
    dashboard: Dashboard = None,
) -> None:
    """Have a bundle judge a share of the frames, too, when there is time; no door sees it.

    `livegate model report` tells after a while whether to swap.
    """
    from deploy.models.trial import try_out

    control, fleet = _deployment(folder, http, dashboard)
    name, model = _checked(bundle, is_here=http is None)
    found = try_out(control, fleet, name, model, typer.echo, shadow=share)
    typer.echo(f"{found.replicas[0].candidate} is shown {share:.0%} of the frames")


@app.command()
@needs("serve")
def canary(
    bundle: Bundle,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of the cameras; 0 ends it.")] = 0.05,
    folder: Folder = None,
    http: Http = None,
    dashboard: Dashboard = None,
) -> None:
    """Have a bundle decide for a share of the cameras, by their names: their doors go by it.

    Each decision says in `model` which bundle made it. A larger share has all cameras of a smaller
    one.
    """
    from deploy.models.trial import try_out

    control, fleet = _deployment(folder, http, dashboard)
    name, model = _checked(bundle, is_here=http is None)
    found = try_out(control, fleet, name, model, typer.echo, canary=share)
    typer.echo(f"{found.replicas[0].candidate} decides for {share:.0%} of the cameras")


@app.command()
@needs("serve")
def drop(folder: Folder = None, http: Http = None, dashboard: Dashboard = None) -> None:
    """Try the candidate no more: neither in the shadow nor on any camera."""
    from deploy.models.trial import drop as run

    control, fleet = _deployment(folder, http, dashboard)
    run(control, fleet, typer.echo)


@app.command()
@needs("serve")
def report(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    folder: Folder = None,
    http: Http = None,
) -> None:
    """Tell by its shadow whether a candidate may take over; exit 1 if it may not, or not yet."""
    from deploy.models.report import report_on

    found = report_on(_fleet(folder, http).look().shadow)
    typer.echo(json.dumps(found.figures) if as_json else found.text())
    if found.verdict != "swap":
        raise typer.Exit(code=1)


def _fleet(folder: Path | None, http: str | None) -> "Fleet":
    from deploy.models.fleet import Fleet

    if http is None:
        return Fleet(home.Home(folder or home.DEFAULT).address().http_url)
    if folder is not None:
        raise typer.BadParameter("--folder and --http both name a deployment: give one of them")
    if not http.startswith(("http://", "https://")):
        raise typer.BadParameter("--http: an HTTP side is http://host:port or https://host:port")
    return Fleet(http)


def _deployment(
    folder: Path | None, http: str | None, dashboard: str | None
) -> tuple["Control", "Fleet"]:
    from deploy.models.control import FolderControl, ServeControl

    fleet = _fleet(folder, http)
    if (http is None) != (dashboard is None):
        raise typer.BadParameter("a deployment elsewhere is named by --http and --dashboard both")
    if dashboard is not None:
        return ServeControl(dashboard), fleet
    return FolderControl(home.Home(folder or home.DEFAULT), fleet), fleet


def _checked(bundle: str, *, is_here: bool) -> tuple[str, str]:
    """Return a bundle's name as its replicas find it, and what its model id must be or end with.

    What is on this machine is looked at before anybody is told of it. Elsewhere each replica
    fetches it and checks its hash by itself.
    """
    from deploy.models.swap import pinned
    from model.serving.served import read_bundle
    from workers.replica.bundles import resolve_bundle

    if is_here:
        model = read_bundle(resolve_bundle(bundle)).model_id
        folder = Path(bundle)
        return (pinned(str(folder.resolve()), model) if folder.exists() else bundle), model
    if "://" not in bundle:
        raise typer.BadParameter(
            f"{bundle}: replicas elsewhere see no folder of this machine: `livegate model push` it"
        )
    return bundle, bundle.rpartition("@")[2]
