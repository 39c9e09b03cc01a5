"""The fleet: what it meant to send is in its account, whatever the server and its host do."""

import asyncio
import time

import pytest
import redis

from loadtest.account import account_of
from loadtest.fleet import Fleet, Phase
from loadtest.samples import load_samples
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.wire.signing import new_key

CAMERAS = {f"gate-{number}": new_key() for number in range(3)}
PARTS = ("acknowledged", "dropped", "unknown", "refused")


async def test_a_schedule_is_kept_and_each_frame_acknowledged(
    stream_settings: StreamSettings,
) -> None:
    client = connect(stream_settings.url)
    fleet = Fleet(client, CAMERAS, load_samples(), stream_settings.partitions)
    await fleet.play(lambda: iter([Phase(0.5, 20), Phase(0.5, 40, is_surge=True)]))
    await client.aclose()
    account = account_of(fleet.ledger)
    assert account["published"] == account["acknowledged"] == 3 * (10 + 20)
    assert sum(each.is_surge for each in fleet.ledger.published.values()) == 3 * 20
    assert account["send_late_max_ms"] >= account["send_late_p50_ms"] >= 0


async def test_a_server_that_is_away_costs_frames_that_are_counted() -> None:
    client = connect("redis://127.0.0.1:1", timeout_s=0.1)
    fleet = Fleet(client, CAMERAS, load_samples(), 2, close_s=0.2)
    playing = asyncio.create_task(fleet.play(lambda: iter([Phase(60, 50)])))
    while len(fleet.ledger.published) < 30:
        await asyncio.sleep(0.01)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    await client.aclose()
    account = account_of(fleet.ledger)
    assert account["published"] == account["dropped"] >= 30
    assert account["lost"] == 0


async def test_a_server_that_refuses_for_good_is_told_apart(
    stream_settings: StreamSettings,
) -> None:
    with redis.Redis.from_url(stream_settings.url) as admin:
        admin.execute_command("ACL SETUSER mute on >secret ~* +@connection")
        try:
            url = stream_settings.url.replace("redis://", "redis://mute:secret@")
            client = connect(url)
            fleet = Fleet(client, CAMERAS, load_samples(), stream_settings.partitions)
            await fleet.play(lambda: iter([Phase(0.2, 20)]))
            await client.aclose()
        finally:
            admin.execute_command("ACL DELUSER mute")
    account = account_of(fleet.ledger)
    assert account["published"] == account["refused"] == 3 * 4


async def test_a_generator_that_is_late_says_so(stream_settings: StreamSettings) -> None:
    client = connect(stream_settings.url)
    fleet = Fleet(client, CAMERAS, load_samples(), stream_settings.partitions)
    playing = asyncio.create_task(fleet.play(lambda: iter([Phase(0.6, 20)])))
    while not fleet.ledger.published:
        await asyncio.sleep(0.001)
    end_s = time.monotonic() + 0.3
    while time.monotonic() < end_s:  # whoever shares the event loop keeps it to himself
        pass
    await playing
    await client.aclose()
    account = account_of(fleet.ledger)
    assert account["published"] == account["acknowledged"] == 3 * 12
    assert account["send_late_max_ms"] >= 150


async def test_frames_that_were_due_when_a_run_was_ended_count_as_dropped(
    stream_settings: StreamSettings,
) -> None:
    client = connect(stream_settings.url)
    fleet = Fleet(client, CAMERAS, load_samples(), stream_settings.partitions)
    playing = asyncio.create_task(fleet.play(lambda: iter([Phase(60, 20)])))
    while not fleet.ledger.published:
        await asyncio.sleep(0.001)
    end_s = time.monotonic() + 0.3
    while time.monotonic() < end_s:
        pass
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    await client.aclose()
    account = account_of(fleet.ledger)
    assert fleet.ledger.num_unsent >= 3 * 5
    assert account["published"] == sum(account[part] for part in PARTS)
