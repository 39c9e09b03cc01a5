"""The door's side: what opens it, and how it reads on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from tests.workers import frames
from tests.workers.wire.told import DECISION, VERDICT
from workers.client.door import Door, follow, opens_door
from workers.client.pictures import CameraError
from workers.errors import WorkerError
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, pack_decision
from workers.wire.presentation import pack_verdict
from workers.wire.signing import door_key, new_key, sign

NOW_MS = 1_700_000_001_000
DOOR_KEY = door_key(frames.KEY)
STREAM = keys.camera_decisions(keys.partition_of("gate-1", 2), "gate-1")
FRESH = replace(
    DECISION,
    camera_id="gate-1",
    outcome=Outcome.BONA_FIDE,
    reason=None,
    captured_at_ms=NOW_MS - 300,
    decided_at_ms=NOW_MS - 200,
)

FRESH_VERDICT = replace(
    VERDICT,
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
        {"captured_at_ms": NOW_MS + 1001},
        {"decided_at_ms": NOW_MS + 1001},
    ],
    ids=str,
)
def test_nothing_else_does(changes: dict[str, Any]) -> None:
    assert not opens_door(replace(FRESH, **changes), NOW_MS)


def test_a_door_opens_once_for_a_frame_of_its_own_camera() -> None:
    door = Door(connect("redis://127.0.0.1:1"), "gate-1", DOOR_KEY, partitions=2)
    assert not door.opens(replace(FRESH, camera_id="gate-2"), NOW_MS)
    assert not door.opens(replace(FRESH, seq=None), NOW_MS)
    assert [door.opens(FRESH, NOW_MS + late_ms) for late_ms in (0, 0, 1000, 2000)] == [
        True,
        False,
        False,
        False,
    ]
    later = replace(FRESH, seq=77, captured_at_ms=NOW_MS + 9000, decided_at_ms=NOW_MS + 9000)
    assert door.opens(later, NOW_MS + 9000)
    assert not door.opens(FRESH, NOW_MS + 9000)


def test_a_door_opens_once_for_a_verdict_on_a_presentation() -> None:
    door = Door(connect("redis://127.0.0.1:1"), "gate-1", DOOR_KEY, partitions=2)
    assert not door.opens(replace(FRESH_VERDICT, camera_id="gate-2"), NOW_MS)
    assert not door.opens(replace(FRESH_VERDICT, outcome=Outcome.ATTACK), NOW_MS)
    assert not door.opens(replace(FRESH_VERDICT, captured_at_ms=NOW_MS - 3001), NOW_MS)
    assert [door.opens(FRESH_VERDICT, NOW_MS) for _ in range(2)] == [True, False]
    # What one frame said is no reason not to open for what several say.
    assert door.opens(FRESH, NOW_MS)


@pytest.fixture
def client(stream_settings: StreamSettings) -> Iterator[Any]:
    with redis.Redis.from_url(stream_settings.url) as made:
        yield made


def show(client: Any, decision: Decision, key: bytes = DOOR_KEY, **fields: bytes) -> None:
    packed = pack_decision(decision)
    client.xadd(STREAM, {"d": packed, "s": sign(packed, key), **fields})


@asynccontextmanager
async def reading(url: str, after_id: str = "0") -> AsyncIterator[AsyncIterator[Decision]]:
    servers = connect(url, timeout_s=5)
    decisions = Door(servers, "gate-1", DOOR_KEY, partitions=2).decisions(after_id)
    try:
        yield decisions
    finally:
        await decisions.aclose()  # type: ignore[attr-defined]
        await servers.aclose()


async def test_new_decisions_come_in_order_and_none_is_skipped(
    stream_settings: StreamSettings, client: Any
) -> None:
    show(client, replace(FRESH, seq=0))
    async with reading(stream_settings.url, "$") as decisions:
        first: asyncio.Task[Decision] = asyncio.ensure_future(anext(decisions))  # type: ignore[arg-type]
        while not any(row["cmd"] == "xread" for row in client.client_list()):
            await asyncio.sleep(0)
        for seq in (1, 2, 3):
            show(client, replace(FRESH, seq=seq))
        seqs = [(await first).seq, (await anext(decisions)).seq, (await anext(decisions)).seq]
    assert seqs == [1, 2, 3]


async def test_what_is_forged_foreign_or_unreadable_is_skipped(
    stream_settings: StreamSettings, client: Any
) -> None:
    show(client, replace(FRESH, seq=1), key=frames.KEY)
    show(client, replace(FRESH, seq=2, camera_id="gate-2"))
    client.xadd(STREAM, {"d": pack_decision(replace(FRESH, seq=3))})
    client.xadd(STREAM, {"x": b"y"})
    client.xadd(STREAM, {"d": b"\xc1", "s": sign(b"\xc1", DOOR_KEY)})
    show(client, replace(FRESH, seq=4), later_versions=b"may add fields")
    async with reading(stream_settings.url) as decisions:
        assert (await anext(decisions)).seq == 4


async def test_decisions_and_verdicts_do_not_get_in_each_others_way(
    stream_settings: StreamSettings, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    forged = pack_verdict(FRESH_VERDICT)
    client.xadd(STREAM, {"p": forged, "s": sign(forged, frames.KEY)})
    client.xadd(STREAM, {"d": forged, "s": sign(forged, DOOR_KEY)})
    packed = pack_decision(FRESH)
    client.xadd(STREAM, {"p": packed, "s": sign(packed, DOOR_KEY)})
    assert caplog.records == []
    foreign = pack_verdict(replace(FRESH_VERDICT, camera_id="gate-2"))
    client.xadd(STREAM, {"p": foreign, "s": sign(foreign, DOOR_KEY)})
    show(client, replace(FRESH, seq=1))
    client.xadd(STREAM, {"p": forged, "s": sign(forged, DOOR_KEY)})
    show(client, replace(FRESH, seq=2))
    servers = connect(stream_settings.url, timeout_s=5)
    door = Door(servers, "gate-1", DOOR_KEY, partitions=2)
    decisions, verdicts = door.decisions("0"), door.verdicts("0")
    assert await anext(verdicts) == FRESH_VERDICT
    skipped = len(caplog.records)
    assert skipped == 3
    assert [(await anext(decisions)).seq for _ in range(2)] == [1, 2]
    assert len(caplog.records) == skipped + 1
    for reader in (decisions, verdicts):
        await reader.aclose()  # type: ignore[attr-defined]
    await servers.aclose()


async def test_while_a_key_is_rotated_the_door_takes_both(
    stream_settings: StreamSettings, client: Any
) -> None:
    new = new_key()
    for seq, key in enumerate((DOOR_KEY, door_key(new_key()), door_key(new))):
        show(client, replace(FRESH, seq=seq), key)
    servers = connect(stream_settings.url, timeout_s=5)
    decisions = Door(servers, "gate-1", [door_key(new), DOOR_KEY], partitions=2).decisions("0")
    assert [(await anext(decisions)).seq for _ in range(2)] == [0, 2]
    await decisions.aclose()  # type: ignore[attr-defined]
    await servers.aclose()


async def test_a_door_of_another_layout_says_so(
    stream_settings: StreamSettings, client: Any
) -> None:
    client.set(keys.layout(0), 8)
    async with reading(stream_settings.url, "$") as decisions:
        with pytest.raises(CameraError, match="pass partitions=8"):
            await anext(decisions)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"door_key": "00" * 32}, "bytes.fromhex"),
        ({"door_key": bytes(5)}, "32 bytes"),
        ({"door_key": []}, "no key"),
        ({"camera_id": "gate 1"}, "no camera id"),
        ({"partitions": 0}, "from 1 to 256"),
    ],
)
def test_what_can_not_be_used_is_refused_when_it_is_made(
    args: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"camera_id": "gate-1", "door_key": DOOR_KEY, "partitions": 2}
    with pytest.raises(WorkerError, match=message):
        Door(connect("redis://127.0.0.1:1"), **{**given, **args})


async def test_a_watcher_skips_what_it_can_not_read(
    stream_settings: StreamSettings, client: Any
) -> None:
    for fields in ({"d": b"\xc1"}, {"d": b"\x80"}, {"x": b""}):
        client.xadd(STREAM, fields)
    show(client, FRESH)
    servers = connect(stream_settings.url, timeout_s=5)
    stream = follow(servers, {STREAM: "0"})
    assert await anext(stream) == (client.xrevrange(STREAM, count=1)[0][0].decode(), FRESH)
    await stream.aclose()  # type: ignore[attr-defined]
    await servers.aclose()
