"""`livegate bench`: what the parts cost on this machine; a table, and one JSON line last."""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

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


@app.command()
@needs("serve")
def pipeline(
    bundle: Annotated[
        str, typer.Option(help="Folder of a bundle, or the name of a shipped one.")
    ] = "rendered-small",
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Largest micro-batch.")] = 16,
    frames: Annotated[int, typer.Option(min=50, help="Frames to decide in a run.")] = 800,
    rounds: Annotated[int, typer.Option(min=1, help="How often all cases take turns.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of an inference.")] = 1,
) -> None:
    """Run one replica without Ray on a full stream: what it keeps of the bare engine's speed."""
    from deploy.local.ports import free_port
    from deploy.local.server import embedded_server
    from deploy.local.signals import interrupt_on_stop
    from loadtest.bench.pipeline import bench_pipeline
    from loadtest.environment import environment
    from model.serving.engine import open_engine
    from model.serving.folder import find_bundle

    interrupt_on_stop()
    console = Console(stderr=True)
    predictor = open_engine(find_bundle(bundle), batch, threads)
    with (
        tempfile.TemporaryDirectory(prefix="livegate-bench-") as folder,
        embedded_server(Path(folder), free_port()) as server,
    ):
        figures = bench_pipeline(server.url, predictor, batch, frames, rounds, console.print)
    console.print(_streams(figures))
    console.print(_stages(figures))
    typer.echo(json.dumps({**figures, "environment": environment()}))


@app.command()
@needs("peers")
def peers(
    bundle: Annotated[
        str, typer.Option(help="Folder of a bundle, or the name of a shipped one.")
    ] = "rendered-small",
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Largest micro-batch.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="How often the peers take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of each turn.")] = 5.0,
) -> None:
    """Run Mosec, LitServe, Ray Serve by HTTP and a plain loop beside a replica of ours."""
    from deploy.local.environment import ray_environment
    from deploy.local.ports import free_port
    from deploy.local.server import embedded_server
    from deploy.local.signals import interrupt_on_stop
    from loadtest.bench.peers.compare import Turns, bench_peers, common_settings, peers_of
    from loadtest.environment import environment

    interrupt_on_stop()
    console = Console(stderr=True)
    with (
        tempfile.TemporaryDirectory(prefix="livegate-bench-") as name,
        embedded_server(Path(name) / "server", free_port()) as server,
    ):
        folder, ports = Path(name), [free_port() for _ in range(3)]
        settings = common_settings(server.url, bundle, batch, folder)
        figures = bench_peers(
            peers_of(settings, ports, ray_environment()),
            Turns(batch, rounds, seconds),
            folder,
            console.print,
        )
    console.print(_peers(figures))
    typer.echo(json.dumps({**figures, "environment": environment()}))


def _peers(figures: dict[str, Any]) -> Table:
    columns = ("peer", "ready s", "frames/s", "p50 ms", "p99 ms", "ours: frames/s", "p50", "p99")
    table = Table(
        title=f"saturated; then at {figures['rate_fps']:g} frames/s, 70 % of the slowest; "
        "ours to theirs"
    )
    for column in columns:
        table.add_column(column, justify="left" if column == "peer" else "right")
    for row in figures["rows"]:
        fps = f"{row['fps']} ({row['fps_min']} to {row['fps_max']})"
        cells = (row["peer"], row["ready_s"], fps, row["p50_ms"], row["p99_ms"])
        ratios = (row["fps_ratio"], row["p50_ratio"], row["p99_ratio"])
        table.add_row(*map(str, (*cells, *ratios)))
    return table


def _streams(figures: dict[str, Any]) -> Table:
    table = Table(title=f"{figures['model']}, batches of up to {figures['batch']}")
    columns = ("case", "planes", "frames/s", "cpu us", "server us", "batch", "ratio", "spread")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for row in figures["rows"]:
        cells = (row["case"], row["encoding"], row["fps"], row["cpu_us"], row["server_us"])
        spread = f"{row['ratio_min']} to {row['ratio_max']}"
        table.add_row(*map(str, cells), str(row["batch"]), str(row["ratio"]), spread)
    return table


def _stages(figures: dict[str, Any]) -> Table:
    table = Table(title="processor time a frame by stage, us")
    sizes = sorted({row["batch"] for row in figures["stages"]})
    table.add_column("stage")
    for size in sizes:
        table.add_column(f"batches of {size}", justify="right")
    costs = {(row["stage"], row["batch"]): row["cpu_us"] for row in figures["stages"]}
    for stage in dict.fromkeys(row["stage"] for row in figures["stages"]):
        table.add_row(stage, *(str(costs[stage, size]) for size in sizes))
    return table
