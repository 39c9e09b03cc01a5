"""The door's side: what an integrator imports to read decisions and to act on them.

async for decision in decisions_of(client, "gate-1", partitions=4):
if opens_door(decision, now_ms=time.time() * 1000):
unlock()
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from workers.stream.connection import UNAVAILABLE, AsyncClient
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, unpack_decision

_BLOCK_MS = 500
_RETRY_S = 0.2
_PAGE = 500

_log = logging.getLogger(__name__)


def opens_door(decision: Decision, now_ms: float, max_age_ms: int = 3000) -> bool:
    """Say whether a door may open on `decision`: only on a fresh `bona_fide`.

    Args:
        decision: of this door's camera.
        now_ms: the door controller's clock, Unix ms.
        max_age_ms: how long after its capture a frame may still open the door. A decision that
            was read late, say after a network failure, opens nothing.
    """
    is_fresh = (
        decision.captured_at_ms is not None
        and now_ms - decision.captured_at_ms <= max_age_ms
        and now_ms - decision.decided_at_ms <= max_age_ms
    )
    return decision.outcome is Outcome.BONA_FIDE and is_fresh


async def decisions_of(
    client: AsyncClient, camera_id: str, partitions: int, after_id: str = "$"
) -> AsyncIterator[Decision]:
    """Yield one camera's decisions as they are committed, for ever.

    Args:
        client: from `workers.stream.connection.connect`, with a time-out above 1 s.
        camera_id: the camera of this door.
        partitions: the deployment's number of partitions.
        after_id: id of the last decision known; "$": only new ones; "0": all that are kept.
    """
    name = keys.camera_decisions(keys.partition_of(camera_id, partitions), camera_id)
    after = await last_ids(client, [name]) if after_id == "$" else {name: after_id}
    async for _, decision in follow(client, after):
        yield decision


async def last_ids(client: AsyncClient, names: Iterable[str]) -> dict[str, str]:
    """Return the id of each stream's newest entry: `follow` it from now on.

    The server's own "$" would skip what is added between two reads.
    """
    newest: dict[str, str] = {}
    for name in names:
        rows: Any = await client.xrevrange(name, count=1)
        newest[name] = rows[0][0].decode() if rows else "0"
    return newest


async def follow(
    client: AsyncClient, after: Mapping[str, str]
) -> AsyncIterator[tuple[str, Decision]]:
    """Yield (entry id, decision) of several decision streams of one server, for ever.

    An unreachable server is waited for; what was committed meanwhile comes afterwards.

    Args:
        client: from `workers.stream.connection.connect`, with a time-out above 1 s.
        after: the last entry id known, by the stream's name.
    """
    last: Any = dict(after)
    while True:
        try:
            answer: Any = await client.xread(last, count=_PAGE, block=_BLOCK_MS)
        except UNAVAILABLE as error:
            _log.warning("decisions can't be read, trying again: %s", error)
            await asyncio.sleep(_RETRY_S)
            continue
        for name, rows in answer:
            for entry_id, fields in rows:
                last[name.decode()] = entry_id.decode()
                yield entry_id.decode(), unpack_decision(fields[b"d"])
