"""Reads the decisions of a sender's partitions, and checks who signed them."""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgpack

from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.stream.server import is_cancelled
from workers.wire import keys
from workers.wire.decision import VERSION

_PAGE = 1000
_BLOCK_MS = 200
_PAUSE_S = 0.05

Body = Mapping[str, Any]
OnDecision = Callable[[Body, str, bytes, bytes | None, float, int], None]


async def newest_ids(servers: Servers, partitions: Sequence[int]) -> dict[int, str]:
    """Return the id of each partition's last decision: `read_decisions` goes on from there.

    Raises:
        redis.exceptions.RedisError: a server can't be reached, or refuses.
    """
    found = {}
    for partition in partitions:
        name = keys.decisions(partition)
        rows = await servers.execute(name, "XREVRANGE", name, "+", "-", "COUNT", 1)
        found[partition] = rows[0][0].decode() if rows else "0"
    return found


async def read_decisions(
    servers: Servers,
    after: Mapping[int, str],
    on_decision: OnDecision,
    on_verdict: Callable[[bytes], None],
    on_error: Callable[[str], None],
) -> None:
    """Read decisions for ever; a server that is away is waited for.

    Args:
        servers: from `connect`, with a time-out above a second.
        after: partition to the last id known.
        on_decision: called with a decision's body, its entry (partition and id), its bytes, its
            signature, when it was read, monotonic, and how long the server had the frame until it
            had the decision, ms by the server's clock.
        on_verdict: called with the bytes of a verdict on a presentation.
        on_error: called with what went wrong.
    """
    # One read covers one slot of a cluster.
    groups = [[each] for each in after] if servers.is_cluster else [list(after)]
    async with asyncio.TaskGroup() as readers:
        for group in groups:
            last = {keys.decisions(each): after[each] for each in group}
            readers.create_task(_read(servers, last, on_decision, on_verdict, on_error))


async def _read(
    servers: Servers,
    last: dict[str, str],
    on_decision: OnDecision,
    on_verdict: Callable[[bytes], None],
    on_error: Callable[[str], None],
) -> None:
    names = list(last)
    head = ("XREAD", "COUNT", _PAGE, "BLOCK", _BLOCK_MS, "STREAMS", *names)
    while not is_cancelled():
        try:
            answer = await servers.execute(names[0], *head, *last.values())
        except FAILURES as error:
            on_error(f"decisions can't be read: {error}")
            await asyncio.sleep(_PAUSE_S)
            continue
        read_s = time.monotonic()
        for raw_name, rows in answer or ():
            name = raw_name.decode()
            partition = name[name.index("{") + 1 : name.index("}")]
            for decided_id, fields in rows:
                if b"p" in fields:  # a verdict on a presentation
                    on_verdict(fields[b"p"])
                    continue
                packed = fields.get(b"d", b"")
                try:
                    body = _read_body(packed)
                    entry_id = body["entry_id"]
                    inside_ms = _ms_of(decided_id.decode()) - _ms_of(entry_id)
                    entry = f"{partition} {entry_id}"
                    on_decision(body, entry, packed, fields.get(b"s"), read_s, inside_ms)
                except (ValueError, KeyError, TypeError) as error:
                    on_error(f"a decision can't be read: {type(error).__name__}")
            last[name] = rows[-1][0].decode()
        await asyncio.sleep(0)


def is_signed(packed: bytes, signature: bytes | None, door_key: bytes | None) -> bool:
    """Say whether a decision is signed as its camera's door wants it."""
    if door_key is None:
        return True
    return signature is not None and hmac.compare_digest(
        hmac.digest(door_key, packed, "sha256"), signature
    )


def _ms_of(entry_id: str) -> int:
    return int(entry_id[: entry_id.index("-")])


def _read_body(packed: bytes) -> Body:
    body: Body = msgpack.unpackb(packed)
    if body["v"] != VERSION:
        raise ValueError("a decision of another version")
    return body
