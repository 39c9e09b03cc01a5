"""`livegate keys`: who may sign frames, from the first key of a camera to the last.

A key is never an argument, and is shown by `export` alone. Everything else names a key by its id,
which tells nothing about it.
"""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.errors import DeployError
from deploy.local import home
from workers.wire.keyring import (
    MAX_KEYS,
    CameraKeys,
    changing_keys,
    checked_id,
    read_keys,
    write_keys,
)
from workers.wire.signing import door_key, key_id, new_key

app = typer.Typer(name="keys", help="The cameras' keys.", no_args_is_help=True)

_KEY_FILE = "LIVEGATE_CAMERA_KEYS"

Cameras = Annotated[list[str], typer.Argument(help="Camera ids.", metavar="CAMERA...")]
Camera = Annotated[str, typer.Argument(help="Camera id.", metavar="CAMERA")]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--file",
        help="The deployment's key file; if neither it nor --folder is given, the one that "
        f"{_KEY_FILE} names.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help=f"Folder of a deployment on this machine, with its key file; {home.DEFAULT}, if none."
    ),
]


class NoSuchKey(DeployError):
    """A camera or a key is not on file, or is already; the message names both and the file."""


@app.command()
def add(cameras: Cameras, file: KeyFile = None, folder: Folder = None) -> None:
    """Give new cameras a key each; running replicas know it at once."""
    with changing_keys(_path(file, folder, make=True), may_create=True) as keys:
        for camera in cameras:
            if camera in keys:
                raise NoSuchKey(f"{camera} has a key already: `livegate keys rotate {camera}`")
            keys[checked_id(_path(file, folder), camera)] = (new_key(),)
        told = _ids(keys, cameras)
    _tell("added", told)


@app.command()
def rotate(camera: Camera, file: KeyFile = None, folder: Folder = None) -> None:
    """Give a camera one more key. The old ones hold until they are revoked.

    Then export the new key to the camera and to its door, and revoke the old one.
    """
    path = _path(file, folder)
    with changing_keys(path) as keys:
        several = _of(keys, camera, path)
        if len(several) == MAX_KEYS:
            raise NoSuchKey(
                f"{camera} has {MAX_KEYS} keys: revoke one first, see `livegate keys list`"
            )
        keys[camera] = (new_key(), *several)
        told = _ids(keys, [camera])
    _tell("rotated", told)


@app.command()
def revoke(
    camera: Camera,
    key: Annotated[str | None, typer.Option(help="Id of one key; all, if not given.")] = None,
    file: KeyFile = None,
    folder: Folder = None,
) -> None:
    """Take a key away, or all keys of a camera; replicas refuse it within two seconds."""
    path = _path(file, folder)
    with changing_keys(path) as keys:
        several = _of(keys, camera, path)
        gone = [each for each in several if key in (None, key_id(each))]
        if not gone:
            raise NoSuchKey(f"{path}: {camera} has no key {key}: it has {_ids(keys, [camera])}")
        keys[camera] = tuple(each for each in several if each not in gone)
        if not keys[camera]:
            del keys[camera]
    _tell("revoked", {camera: list(map(key_id, gone))})


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    file: KeyFile = None,
    folder: Folder = None,
) -> None:
    """Show the ids of each camera's keys, the newest first."""
    keys = read_keys(_path(file, folder))
    told = _ids(keys, sorted(keys))
    if as_json:
        typer.echo(json.dumps(told))
        return
    table = Table("camera", "keys, the newest first")
    for camera, ids in told.items():
        table.add_row(camera, " ".join(ids))
    Console().print(table)


@app.command()
def export(
    cameras: Cameras,
    door: Annotated[
        bool, typer.Option("--door", help="The keys that its door checks decisions with.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write, for its owner alone; else it is printed.")
    ] = None,
    file: KeyFile = None,
    folder: Folder = None,
) -> None:
    """Hand out keys, as a key file: a camera's newest, or with --door all that its door needs."""
    path = _path(file, folder)
    keys = read_keys(path)
    handed: CameraKeys = {}
    for camera in cameras:
        several = _of(keys, camera, path)
        handed[camera] = tuple(map(door_key, several)) if door else several[:1]
    if out is not None:
        write_keys(out, handed)
        typer.echo(f"wrote {out}")
        return
    typer.echo(json.dumps({name: [key.hex() for key in some] for name, some in handed.items()}))


def _path(file: Path | None, folder: Path | None, *, make: bool = False) -> Path:
    if file is not None and folder is not None:
        raise typer.BadParameter("--file and --folder name two key files: pass one of them")
    if file is None and folder is None and (named := os.environ.get(_KEY_FILE)):
        file = Path(named)
    if file is not None:
        return file
    place = home.Home(folder or home.DEFAULT)
    if make:
        place.prepare()
    return place.key_file


def _of(keys: CameraKeys, camera: str, path: Path) -> tuple[bytes, ...]:
    if camera not in keys:
        raise NoSuchKey(f"{path}: no key of {camera!r:.80} is on file: `livegate keys add`")
    return keys[camera]


def _ids(keys: CameraKeys, cameras: list[str]) -> dict[str, list[str]]:
    return {camera: list(map(key_id, keys[camera])) for camera in cameras}


def _tell(what: str, ids: dict[str, list[str]]) -> None:
    for camera, some in ids.items():
        typer.echo(f"{what}: {camera}  {' '.join(some)}")
