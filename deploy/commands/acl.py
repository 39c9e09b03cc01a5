"""`livegate deploy acl`: accounts for everyone who has to speak to the server."""

from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster.acl import Account, write_acl
from workers.wire.keyring import read_keys


def acl(
    out: Annotated[Path, typer.Argument(help="Folder for the ACL file and the passwords.")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            envvar="LIVEGATE_CAMERA_KEYS",
            help="The deployment's key file: each of its cameras gets an account for its door.",
        ),
    ] = None,
    direct_cameras: Annotated[
        bool,
        typer.Option(help="Let cameras write to the server themselves, instead of posting."),
    ] = False,
    partitions: Annotated[int, typer.Option(min=1, max=256, help="Of the deployment.")] = 4,
    cluster: Annotated[bool, typer.Option(help="The server is a Redis Cluster.")] = False,
) -> None:
    """Write an ACL file for the server, and a password file for each account in it.

    Programs take a password by `?password_file=PATH` in their URL, or from the environment's
    LIVEGATE_REDIS_PASSWORD_FILE.
    """
    accounts = [
        Account("admin"),
        Account("worker"),
        Account("gateway"),
        Account("operator"),
        Account("console"),
    ]
    for camera_id in [] if key_file is None else sorted(read_keys(key_file)):
        accounts.append(Account("door", camera_id))
        if direct_cameras:
            accounts.append(Account("camera", camera_id))
    path = write_acl(out, accounts, partitions, cluster=cluster)
    typer.echo(f"wrote {path}: {len(accounts)} accounts, each with its NAME.password beside it")
    typer.echo(f"in the server's configuration: aclfile {path.resolve()}")
