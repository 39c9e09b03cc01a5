"""The door's side: what an integrator imports to read decisions and to act on them.

async for decision in decisions_of(client, "gate-1", partitions=4):
if opens_door(decision, now_ms=time.time() * 1000):
...
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

from workers import keys
from workers.connection import UNAVAILABLE, AsyncClient
from workers.decision import Decision, Outcome, unpack_decision

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
        client: from `workers.connection.connect`, with a time-out above 1 s.
        camera_id: the camera of this door.
        partitions: the deployment's number of partitions.
        after_id: id of the last decision known; "$": only new ones; "0": all that are kept.
    """
    partition = keys.partition_of(camera_id, partitions)
    name = keys.camera_decisions(partition, camera_id)
    async for _, decision in follow(client, [name], after_id):
        yield decision


async def follow(
    client: AsyncClient, names: Sequence[str], after_id: str = "$"
) -> AsyncIterator[tuple[str, Decision]]:
    """Yield (entry id, decision) of several decision streams of one server, for ever.

    An unreachable server is waited for; what was committed meanwhile comes afterwards.
    """
    last = dict.fromkeys(names, after_id)
    if after_id == "$":
        # "$" would skip what is added between two reads: begin at a fixed id instead.
        last = {name: await _last_id(client, name) for name in names}
    while True:
        cursor: Any = dict(last)
        try:
            answer: Any = await client.xread(cursor, count=_PAGE, block=_BLOCK_MS)
        except UNAVAILABLE as error:
            _log.warning("decisions can't be read, trying again: %s", error)
            await asyncio.sleep(_RETRY_S)
            continue
        for name, rows in answer:
            for entry_id, fields in rows:
                last[name.decode()] = entry_id.decode()
                yield entry_id.decode(), unpack_decision(fields[b"d"])


async def _last_id(client: AsyncClient, name: str) -> str:
    rows: Any = await client.xrevrange(name, count=1)
    return str(rows[0][0].decode()) if rows else "0"
