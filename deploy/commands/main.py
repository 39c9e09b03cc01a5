"""The `livegate` command: what an integrator, an operator and a model engineer type.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.commands import (
    bench,
    capacity,
    data,
    deploy,
    keys,
    lifecycle,
    loadtest,
    model,
    training,
)
from deploy.commands.errors import lines_for
from deploy.commands.extras import PACKAGE, needs
from deploy.errors import DeployError
from deploy.local import home
from deploy.local.ports import METRICS_PORT
from workers.wire.frame import CAMERA_ID
from workers.wire.server_url import ServerUrlError, parse_server_url


class NoKey(DeployError):
    """A camera has no key that its deployment would know; the message says how to get one."""


app = typer.Typer(
    name="livegate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(data.app)
app.add_typer(training.app)
app.add_typer(model.app)
app.add_typer(lifecycle.app)
app.add_typer(keys.app)
app.add_typer(deploy.app)
app.add_typer(loadtest.app)
app.add_typer(bench.app)
app.add_typer(capacity.app)


def _is_redis_url(url: str | None) -> str | None:
    if url is not None:
        try:
            parse_server_url(url)
        except ServerUrlError as error:
            raise typer.BadParameter(str(error)) from error
    return url


def _is_http_url(url: str | None) -> str | None:
    if url is not None and not url.startswith(("http://", "https://")):
        raise typer.BadParameter("an HTTP side is named http://host:port or https://host:port")
    return url


Folder = Annotated[
    Path | None,
    typer.Option(help=f"Folder of the deployment: keys, data, addresses; {home.DEFAULT}, if none."),
]
Redis = Annotated[
    str | None,
    typer.Option(
        callback=_is_redis_url, help="Server of a deployment elsewhere, redis:// or rediss://."
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="With --redis: that deployment's partitions; 4, if none."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PACKAGE} {metadata.version(PACKAGE)}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of any error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Face presentation attack detection for access-control cameras."""
    context.ensure_object(dict)["debug"] = debug


@app.command()
@needs("serve")
def demo(
    seconds: Annotated[
        float, typer.Option(envvar="DEMO_S", min=0, help="How long cameras send; 0: until Ctrl-C.")
    ] = 30,
) -> None:
    """Run a whole deployment on this machine with 8 simulated cameras, and account for it.

    The last line is one JSON object that tells what became of every frame. The exit status is 1
    if a frame was lost or decided twice.
    """
    from deploy.local.demo import run_demo

    account = run_demo(seconds, Console())
    typer.echo(json.dumps(account))
    if account["lost"] or account["duplicates"]:
        raise typer.Exit(code=1)


@app.command()
@needs("serve")
def up(
    config: Annotated[
        Path | None, typer.Option(help="Serve config; the shipped ray_config.yaml if not given.")
    ] = None,
    folder: Folder = None,
    redis: Annotated[
        str | None,
        typer.Option(
            callback=_is_redis_url,
            help="A server that runs. If not given: the one that the config names, which is "
            "started if it is on loopback.",
        ),
    ] = None,
    metrics_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where Prometheus finds the metrics.")
    ] = METRICS_PORT,
) -> None:
    """Start a deployment on this machine: server, Ray and replicas, until Ctrl-C.

    Connect a camera from another terminal with `livegate camera`, and watch with
    `livegate decisions --follow`.
    """
    from deploy.local.up import run_deployment

    run_deployment(home.Home(folder or home.DEFAULT), config, redis, Console(), metrics_port)


@app.command()
def camera(
    camera_id: Annotated[
        str, typer.Option("--id", help="Who sends: 1 to 64 of A-Z a-z 0-9 . _ -")
    ] = "camera-1",
    source: Annotated[
        str,
        typer.Option(
            help="What it sends: `rendered` (the sample set), a folder with the folders rgb, depth "
            "and ir, or a CASIA-SURF list file."
        ),
    ] = "rendered",
    fps: Annotated[float, typer.Option(min=0.01, max=1000, help="Frames a second.")] = 5,
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0: until Ctrl-C.")] = 0,
    depth_unit_mm: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=100, help="Of a folder or list: millimetres a count of 16-bit depth; 1."
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LIVEGATE_CAMERA_KEY_FILE", help="The camera's key, from `livegate keys export`."
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            callback=_is_http_url,
            help="HTTP side of a deployment elsewhere: post there, as a camera does that may not "
            "write to Redis.",
        ),
    ] = None,
    folder: Folder = None,
    redis: Redis = None,
    partitions: Partitions = None,
) -> None:
    """Publish frames as a camera does.

    A new camera of a deployment on this machine gets a key first. One elsewhere has to know the
    key already: with --redis or --http, give --key-file.
    """
    from deploy.local.signals import stop_event
    from loadtest.playback import play
    from loadtest.sources import RENDERED, open_source
    from workers.client.camera import Camera

    if source == RENDERED and depth_unit_mm is not None:
        raise typer.BadParameter(f"--depth-unit-mm is not of {RENDERED}: it has its own")
    where = home.Home(folder or home.DEFAULT)
    if http is not None and (folder, redis, partitions) != (None, None, None):
        raise typer.BadParameter("--http is all that names a deployment that is posted to")
    address = None if http else _address(folder, redis, partitions)
    home.check_camera_id(camera_id)
    key = _exported_key(key_file, http or redis, camera_id)
    frames = open_source(source, depth_unit_mm or 1.0)
    if address is None:
        sender = Camera(str(http), camera_id, key)
    else:
        sender = Camera(
            address.redis_url,
            camera_id,
            key or where.key_of(camera_id),
            partitions=address.partitions,
            cluster=address.cluster,
        )
    try:
        play(sender, frames, fps, seconds, stop_event())
    finally:
        sent = sender.close()
    typer.echo(
        f"acknowledged {sent.acknowledged}, dropped {sent.dropped}, unknown {sent.unknown}, "
        f"refused {sent.refused}" + (f"; last error: {sent.last_error}" if sent.last_error else "")
    )
    if not sent.acknowledged:
        raise typer.Exit(code=1)


@app.command()
def decisions(
    camera: Annotated[str | None, typer.Option(help="Of this camera only.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on with new ones until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option(min=0, max=10_000, help="How many of the past.")] = 20,
    as_json: AsJson = False,
    folder: Folder = None,
    redis: Redis = None,
    partitions: Partitions = None,
) -> None:
    """Show decisions, the oldest first."""
    from deploy.watch.terminal import show_decisions

    if camera is not None and not CAMERA_ID.fullmatch(camera):
        raise typer.BadParameter(f"--camera: {camera!r:.80} is no camera id")
    address = _address(folder, redis, partitions)
    show_decisions(address, camera, last=last, follow_on=follow, as_json=as_json)


@app.command()
def status(
    as_json: AsJson = False,
    folder: Folder = None,
    redis: Redis = None,
    partitions: Partitions = None,
) -> None:
    """Show the backlog, partition by partition, and what the replicas say of themselves."""
    from deploy.watch.terminal import show_status

    show_status(_address(folder, redis, partitions), as_json=as_json)


def main() -> None:
    """Run the command; an error that was foreseen is told in a line, or a line for each problem."""
    flags: dict[str, bool] = {}
    try:
        app(obj=flags)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read the output has seen enough; nothing is left to be flushed at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        lines = None if flags.get("debug") else lines_for(error)
        if lines is None:
            raise
        for line in lines:
            typer.echo(f"livegate: {line}", err=True)
        if type(error).__name__ == "RayGone":  # not imported here: see deploy.local.stack
            sys.stdout.flush()
            os._exit(2)
        sys.exit(2)


def _address(folder: Path | None, redis: str | None, partitions: int | None) -> home.Address:
    if redis is not None and folder is not None:
        raise typer.BadParameter("--folder and --redis both name a deployment: give one of them")
    if redis is not None:
        return home.Address(redis, partitions or 4)
    if partitions is not None:
        raise typer.BadParameter("--partitions goes with --redis: a deployment here tells its own")
    return home.Home(folder or home.DEFAULT).address()


def _exported_key(key_file: Path | None, elsewhere: str | None, camera_id: str) -> bytes | None:
    """Return the key of a key file, if one is given; a deployment elsewhere needs one."""
    from workers.wire.keyring import read_keys

    if key_file is None and elsewhere is None:
        return None
    exported = {} if key_file is None else read_keys(key_file)
    if camera_id not in exported:
        raise NoKey(
            f"no key of {camera_id}: where its deployment is, `livegate keys add {camera_id}` and "
            f"`livegate keys export {camera_id} --out FILE`; here, --key-file FILE"
        )
    return exported[camera_id][0]
