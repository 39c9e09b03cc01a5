"""Faults of servers, done by commands that they take themselves."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.stream.server import Server
from workers.wire import keys

_UNDO_S = 30.0
_PAUSE_S = 0.1


async def fail_over(servers: Servers, order: random.Random) -> None:
    """Let a replica of one of a cluster's primaries take over, with nothing lost.

    Raises:
        redis.exceptions.RedisError: no primary has a replica, or it refuses.
    """
    server = await servers.of(keys.frames(0))
    rows: Any = await server.execute("CLUSTER SLOTS")
    replicas = [each for row in rows for each in row[3:]]
    if not replicas:
        raise RedisError("no primary of the cluster has a replica")
    host, port = order.choice(replicas)[:2]
    name = host.decode() if isinstance(host, bytes) else str(host)
    replica = servers.at((name or "127.0.0.1", int(port)))
    await replica.execute("CLUSTER FAILOVER")


@asynccontextmanager
async def undone(undo: Callable[[], Any]) -> AsyncIterator[None]:
    """Undo at the end, however long the server takes to be there again."""
    try:
        yield
    finally:
        for _ in range(int(_UNDO_S / _PAUSE_S)):
            try:
                await undo()
                break
            except FAILURES:
                await asyncio.sleep(_PAUSE_S)


async def config(server: Server, name: str) -> str:
    """Return one of a server's settings."""
    rows: Any = await server.execute("CONFIG GET", name)
    return str(rows[name])


@asynccontextmanager
async def cannot_save(server: Server) -> AsyncIterator[None]:
    """Have snapshots fail, as on a full disk: the server takes no writes (MISCONF).

    A folder stands where the snapshot should go. Nothing is filled, so nothing else suffers.
    """
    save = await config(server, "save")
    file = Path(await config(server, "dir")) / await config(server, "dbfilename")
    aside = file.with_name(f"{file.name}.aside")

    async def undo() -> None:
        if file.is_dir():
            (file / "inside").rmdir()
            file.rmdir()
        await _snapshot(server, "ok")
        if aside.exists():
            aside.replace(file)
        await server.execute("CONFIG SET", "save", save)

    async with undone(undo):
        if file.is_file():
            file.replace(aside)
        (file / "inside").mkdir(parents=True)
        await server.execute("CONFIG SET", "save", "3600 1")
        await _snapshot(server, "err")
        yield


async def _snapshot(server: Server, wanted: str) -> None:
    """Have the server save until that comes out as wanted: "ok" or "err"."""
    for _ in range(int(_UNDO_S / _PAUSE_S)):
        info: Any = await server.execute("INFO", "persistence")
        if not info["rdb_bgsave_in_progress"]:
            if info["rdb_last_bgsave_status"] == wanted:
                return
            await server.execute("BGSAVE")
        await asyncio.sleep(_PAUSE_S)
