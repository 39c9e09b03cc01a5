"""The door's side: what opens it, and how it reads on."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import redis

from tests.workers.wire.test_wire import DECISION
from workers.client.door import decisions_of, opens_door
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, pack_decision

NOW_MS = 1_700_000_001_000
FRESH = replace(
    DECISION,
    outcome=Outcome.BONA_FIDE,
    reason=None,
    captured_at_ms=NOW_MS - 300,
    decided_at_ms=NOW_MS - 200,
)


def test_a_fresh_bona_fide_opens() -> None:
    assert opens_door(FRESH, NOW_MS)


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": Outcome.ATTACK},
        {"outcome": Outcome.NO_DECISION},
        {"captured_at_ms": NOW_MS - 3001},
        {"captured_at_ms": None},
        {"decided_at_ms": NOW_MS - 3001},
    ],
    ids=str,
)
def test_nothing_else_does(changes: dict[str, Any]) -> None:
    assert not opens_door(replace(FRESH, **changes), NOW_MS)


async def test_new_decisions_come_in_order_and_none_is_skipped(
    stream_settings: StreamSettings,
) -> None:
    name = keys.camera_decisions(keys.partition_of("gate-1", 2), "gate-1")
    reader = connect(stream_settings.url, timeout_s=5)
    with redis.Redis.from_url(stream_settings.url) as client:

        def commit(seq: int) -> None:
            client.xadd(name, {"d": pack_decision(replace(FRESH, seq=seq))})

        commit(0)
        stream = decisions_of(reader, "gate-1", partitions=2)
        first: asyncio.Task[Decision] = asyncio.ensure_future(anext(stream))  # type: ignore[arg-type]
        while not client.client_list(_type="normal") or not any(
            row["cmd"] == "xread" for row in client.client_list()
        ):
            await asyncio.sleep(0)
        for seq in (1, 2, 3):
            commit(seq)
        seqs = [(await first).seq, (await anext(stream)).seq, (await anext(stream)).seq]
    assert seqs == [1, 2, 3]
    await stream.aclose()  # type: ignore[attr-defined]
    await reader.aclose()
