"""`livegate bench`: what the parts cost on this machine; a table, and one JSON line last."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.commands.extras import needs

app = typer.Typer(name="bench", help="Benchmarks on this machine.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Compare within one run: machines are shared and noisy."""


@app.command()
@needs("serve")
def engine(
    bundle: Annotated[
        str, typer.Option(help="Folder of a bundle, or the name of a shipped one.")
    ] = "rendered-small",
    batch: Annotated[
        list[int] | None, typer.Option(min=1, max=1024, help="Faces in a call; 1 and 8, if none.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often the candidates take turns.")] = 5,
    calls: Annotated[int, typer.Option(min=1, help="Calls in a round.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a call.")] = 1,
) -> None:
    """Run a bundle's network as it was trained and as an exported graph, by size of batch."""
    from loadtest.bench.engine import bench_engine
    from loadtest.environment import environment
    from model.serving.folder import find_bundle

    console = Console(stderr=True)
    figures = bench_engine(
        find_bundle(bundle), batch or [1, 8], rounds, calls, threads, console.print
    )
    table = Table(title=figures["model"])
    for column in ("batch", "candidate", "wall ms", "cpu ms", "faces / cpu s", "ratio", "spread"):
        table.add_column(column, justify="left" if column == "candidate" else "right")
    for row in figures["rows"]:
        cells = (row["batch"], row["candidate"], row["wall_ms"], row["cpu_ms"])
        spread = f"{row['ratio_min']} to {row['ratio_max']}"
        table.add_row(*map(str, cells), str(row["faces_per_cpu_s"]), str(row["ratio"]), spread)
    console.print(table)
    typer.echo(json.dumps({**figures, "environment": environment()}))
