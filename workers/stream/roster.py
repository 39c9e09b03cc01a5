"""The roster: what each replica says of itself, where any other one can read it out.

Serve hands a request to any one replica, and its controller knows whether a replica runs, not what
it runs. So each one signs in once a second, and whoever is asked tells of all.
"""

import json
from collections.abc import Mapping
from typing import Any

from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.stream.layout import copies
from workers.wire import keys

_SILENT_MS = 5_000
_GONE_MS = 60_000

Row = dict[str, Any]


async def sign_in(servers: Servers, name: str, row: Mapping[str, Any], now_ms: int) -> None:
    """Leave a replica's row, wherever that can be done.

    Args:
        servers: of the streams.
        name: of the replica.
        row: what it says of itself, in a form that JSON can hold.
        now_ms: the server's clock, Unix ms.

    Raises:
        redis.exceptions.RedisError: there is no server on which it can.
    """
    told = json.dumps({"name": name, "at_ms": now_ms, **row})
    await _wherever(servers, "HSET", name, told)


async def sign_out(servers: Servers, name: str) -> None:
    """Take a replica's row away.

    Raises:
        redis.exceptions.RedisError: there is no server on which it can be done.
    """
    await _wherever(servers, "HDEL", name)


async def read_roster(servers: Servers, now_ms: int) -> list[Row]:
    """Return the rows of all replicas that signed in lately, by name; old ones are taken away.

    Raises:
        redis.exceptions.RedisError: no server tells.
    """
    failed: Exception | None = None
    for copy in copies(servers):
        key = keys.replicas(copy)
        try:
            told = await servers.execute(key, "HGETALL", key)
            rows = {name: _row(content) for name, content in told.items()}
            if gone := [name for name, row in rows.items() if _is_gone(row, now_ms)]:
                await servers.execute(key, "HDEL", key, *gone)
        except FAILURES as error:
            failed = error
            continue
        found = [row for row in rows.values() if row and now_ms - row["at_ms"] <= _SILENT_MS]
        return sorted(found, key=lambda row: str(row["name"]))
    assert failed is not None  # noqa: S101 - there is a first copy
    raise failed


async def _wherever(servers: Servers, command: str, *args: str) -> None:
    failed: Exception | None = None
    num_done = 0
    for copy in copies(servers):
        key = keys.replicas(copy)
        try:
            await servers.execute(key, command, key, *args)
            num_done += 1
        except FAILURES as error:
            failed = error
    if failed is not None and not num_done:
        raise failed


def _row(told: bytes) -> Row:
    try:
        row = json.loads(told)
    except ValueError:
        return {}
    is_row = isinstance(row, dict) and isinstance(row.get("at_ms"), int) and "name" in row
    return row if is_row else {}


def _is_gone(row: Row, now_ms: int) -> bool:
    return not row or now_ms - row["at_ms"] > _GONE_MS
