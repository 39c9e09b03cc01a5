"""The `livegate` command: what an integrator, an operator and a model engineer type.

Heavy libraries are imported where they are used, so that `--help` answers at once.
"""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from deploy.commands import acl, keys
from deploy.commands import model as science
from deploy.commands.extras import PACKAGE, missing_extra, needs
from deploy.errors import DeployError
from deploy.local import home


class NoKey(DeployError):
    """A camera has no key that its deployment would know; the message says how to get one."""


app = typer.Typer(
    name="livegate",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(science.app)
app.add_typer(keys.app)
app.add_typer(acl.app)

Folder = Annotated[
    Path, typer.Option(help="Folder of the deployment: its keys, data and addresses.")
]
Redis = Annotated[
    str | None, typer.Option(help="Server of a deployment elsewhere, redis:// or rediss://.")
]
Partitions = Annotated[
    int, typer.Option(min=1, max=256, help="With --redis: that deployment's partitions.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PACKAGE} {metadata.version(PACKAGE)}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Face presentation attack detection for access-control cameras."""


@app.command()
@needs("serve")
def demo(
    seconds: Annotated[
        float, typer.Option(envvar="DEMO_S", min=0, help="How long cameras send; 0: until Ctrl-C.")
    ] = 30,
) -> None:
    """Run a whole deployment on this machine with 8 simulated cameras, and account for it.

    The last line printed is one JSON object with what became of every frame; the exit status is
    1 if a frame was lost or decided twice.
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
    folder: Folder = home.DEFAULT,
    redis: Annotated[
        str | None,
        typer.Option(help="Server to use; an embedded one on loopback is started if not given."),
    ] = None,
) -> None:
    """Start a deployment on this machine: server, Ray and replicas, until Ctrl-C.

    Connect a camera from another terminal with `livegate camera`, and watch with
    `livegate decisions --follow`.
    """
    from deploy.local.up import run_deployment

    run_deployment(home.Home(folder), config, redis, Console())


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
        float, typer.Option(min=0.001, max=100, help="Millimetres a count of 16-bit depth.")
    ] = 1.0,
    key_file: Annotated[
        Path | None,
        typer.Option(
            envvar="LIVEGATE_CAMERA_KEY_FILE", help="The camera's key, from `livegate keys export`."
        ),
    ] = None,
    folder: Folder = home.DEFAULT,
    redis: Redis = None,
    partitions: Partitions = 4,
) -> None:
    """Publish frames as a camera does.

    A new camera of a deployment on this machine gets a key first. One elsewhere has to know the
    key already: with --redis, give --key-file.
    """
    from deploy.watch.terminal import publish

    address = _address(folder, redis, partitions)
    key = _exported_key(key_file, redis, camera_id) or home.Home(folder).key_of(camera_id)
    sent = publish(address, camera_id, key, source, fps, seconds, depth_unit_mm)
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
    folder: Folder = home.DEFAULT,
    redis: Redis = None,
    partitions: Partitions = 4,
) -> None:
    """Show decisions, the oldest first."""
    from deploy.watch.terminal import show_decisions

    address = _address(folder, redis, partitions)
    show_decisions(address, camera, last=last, follow_on=follow, as_json=as_json)


@app.command()
def status(
    as_json: AsJson = False,
    folder: Folder = home.DEFAULT,
    redis: Redis = None,
    partitions: Partitions = 4,
) -> None:
    """Show the backlog, partition by partition, and what the replicas say of themselves."""
    from deploy.watch.terminal import show_status

    show_status(_address(folder, redis, partitions), as_json=as_json)


def main() -> None:
    """Run the command; an error that was foreseen is told in one line."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        _end(missing)
    except Exception as error:
        if not _is_foreseen(error):
            raise
        _end(error)


def _end(error: Exception) -> NoReturn:
    typer.echo(f"livegate: {error}", err=True)
    sys.exit(2)


def _is_foreseen(error: Exception) -> bool:
    from redis.exceptions import RedisError

    own = type(error).__module__.partition(".")[0] in ("model", "workers", "loadtest", "deploy")
    return own or isinstance(error, RedisError | FileExistsError | FileNotFoundError | ValueError)


def _address(folder: Path, redis: str | None, partitions: int) -> home.Address:
    if redis is not None:
        return home.Address(redis, partitions)
    return home.Home(folder).address()


def _exported_key(key_file: Path | None, redis: str | None, camera_id: str) -> bytes | None:
    """Return the key of a key file, if one is given; a deployment elsewhere needs one."""
    from workers.wire.keyring import read_keys

    if key_file is None and redis is None:
        return None
    exported = {} if key_file is None else read_keys(key_file)
    if camera_id not in exported:
        raise NoKey(
            f"no key of {camera_id}: where its deployment is, `livegate keys add {camera_id}` and "
            f"`livegate keys export {camera_id} --out FILE`; here, --key-file FILE"
        )
    return exported[camera_id][0]
