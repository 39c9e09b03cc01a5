"""What the stream needs of its servers, checked before anything is read: version and layout."""

import asyncio
import re
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError

from workers.errors import WorkerError
from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Server, Servers
from workers.stream.scripts import script
from workers.wire import keys

_OLDEST = (7, 0)
_BULK_BYTES = 1 << 20
# What a door depends on; the second part says what is lost otherwise.
_WANTED = {
    "appendonly": (("yes",), "frames and decisions are lost when the server restarts"),
    "appendfsync": (
        ("always",),
        "what was acknowledged last can be lost, or decided again, when "
        "the server's machine fails or is killed amid a slow write",
    ),
    "maxmemory-policy": (("noeviction",), "a full server throws away whole streams"),
}


class StreamError(WorkerError):
    """The server refuses what this product needs of it; the message says what to change."""


async def lay_out(servers: Servers, settings: StreamSettings) -> list[str]:
    """Make what is missing on the servers and return what is wrong with their settings.

    Raises:
        StreamError: a server is too old or refuses a command, or frames of another layout wait.
        redis.exceptions.RedisError: a server can't be reached.
    """
    names = [keys.frames(partition) for partition in range(settings.partitions)]
    owners = [await servers.of(group[0]) for group in await servers.groups(names)]
    findings = [finding for server in owners for finding in await _check(server)]
    try:
        await _check_layout(servers, settings)
        await asyncio.gather(*(servers.run(script("join"), [name], [keys.GROUP]) for name in names))
    except NoPermissionError as error:
        raise StreamError(f"the server's ACL refuses what a replica needs: {error}") from error
    return findings


async def _check(server: Server) -> list[str]:
    info: Any = await server.execute("INFO", "server")
    version = str(info.get("redis_version", "0.0"))
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found < _OLDEST:
        raise StreamError(
            f"the server is Redis {version}: 7.0 is the oldest that can be used, or any Valkey"
        )
    try:
        rows: Any = await server.execute("CONFIG GET", *_WANTED, "proto-max-bulk-len")
    except (NoPermissionError, ResponseError):
        return []  # a hosted server does not tell; its settings are the operator's to check
    findings = [
        f"{name} is {rows[name]}, should be {' or '.join(wanted)}: {loss}"
        for name, (wanted, loss) in _WANTED.items()
        if name in rows and rows[name] not in wanted
    ]
    limit = int(rows.get("proto-max-bulk-len", _BULK_BYTES))
    if limit > _BULK_BYTES:
        findings.append(
            f"proto-max-bulk-len is {limit}, should be {_BULK_BYTES} (1mb): whoever may "
            "publish can fill the server with a few entries"
        )
    return findings


async def _check_layout(servers: Servers, settings: StreamSettings) -> None:
    """Refuse to start while frames wait where nobody would read them, or in the wrong place."""
    old = int(await servers.run(script("layout"), [keys.LAYOUT], [settings.partitions, ""]))
    if old == settings.partitions:
        return
    waiting = total(await read_backlog(servers, range(old))).entries
    if waiting:
        raise StreamError(
            f"{waiting} frames wait in {old} partitions, this deployment has "
            f"{settings.partitions}: run it with partitions: {old} until they are decided"
        )
    await servers.run(script("layout"), [keys.LAYOUT], [settings.partitions, "replace"])
