"""A fleet of one process: what was due is in its account, whatever the server and its host do."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from loadtest.account import account_in_brief
from loadtest.book import Book
from loadtest.counts import Kind
from loadtest.fleet import Fleet
from loadtest.histograms import Distribution
from loadtest.scenario.arrivals import even_times
from loadtest.target import Target
from loadtest.task import lone_task
from tests.loadtest.test_sending import null_replica
from workers.settings import StreamSettings
from workers.wire.decision import Decision, unpack_decision
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

PARTS = ("acknowledged", "dropped", "unknown", "refused")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    write_keys(tmp_path / "keys.json", {f"gate-{number}": new_key() for number in range(3)})
    return tmp_path / "keys.json"


def target_of(url: str, partitions: int, key_file: Path) -> Target:
    return Target(url, partitions, key_file=key_file)


def account_of(fleet: Fleet) -> dict[str, object]:
    lateness = Distribution()
    lateness.add(fleet.seen.lateness_ms)
    return account_in_brief(fleet.book, Distribution(), Distribution(), lateness)


def due(account: dict[str, object]) -> int:
    total = sum(account[part] for part in PARTS)  # type: ignore[misc]
    assert account["published"] == total
    return total


@contextmanager
def logged_in(url: str, rights: str) -> Iterator[str]:
    """Yield the URL of a user who may do so much."""
    with redis.Redis.from_url(url) as admin:
        admin.execute_command(f"ACL SETUSER fleet on >secret ~* {rights}")
        try:
            yield url.replace("redis://", "redis://fleet:secret@")
        finally:
            admin.execute_command("ACL DELUSER fleet")


@pytest.mark.parametrize("has_login", [False, True])
async def test_a_schedule_is_kept_and_each_frame_decided(
    stream_settings: StreamSettings, key_file: Path, has_login: bool
) -> None:
    with ExitStack() as cleanup:
        url = stream_settings.url
        if has_login:
            url = cleanup.enter_context(logged_in(url, "+@all"))
        await keep_a_schedule(stream_settings, target_of(url, stream_settings.partitions, key_file))


async def keep_a_schedule(stream_settings: StreamSettings, target: Target) -> None:
    key_file = target.key_file
    assert key_file is not None
    told: list[Decision] = []
    asked_s: list[float] = []
    fleet = Fleet(
        lone_task(target, 3, 30.0), lambda packed, *_: told.append(unpack_decision(packed))
    )

    def phases() -> Iterator[tuple[float, float]]:
        for phase in ((0.5, 60.0), (0.5, 120.0)):
            asked_s.append(fleet.now_s)
            yield phase

    with null_replica(stream_settings, key_file):
        async with fleet:
            fleet.start_at(time.monotonic())
            await fleet.play(even_times(phases()), from_s=0.0)
            assert await fleet.settle(60.0)
    assert not fleet.seen.errors
    account = account_of(fleet)
    assert due(account) == account["acknowledged"] == account["decided"] == len(told) == 90
    assert (account["lost"], account["duplicates"], account["no_decision"]) == (0, 0, 0)
    assert fleet.book.counts.unsigned == 0
    assert asked_s[1] >= 0.45  # when the first was nearly over
    assert account["send_late_max_ms"] >= account["send_late_p50_ms"] >= 0  # type: ignore[operator]


async def test_a_server_that_is_away_fails_before_anything_is_sent(key_file: Path) -> None:
    fleet = Fleet(lone_task(target_of("redis://127.0.0.1:1", 2, key_file), 3, 0.2))
    with pytest.raises(redis.exceptions.ConnectionError):
        async with fleet:
            raise AssertionError("there is no server")
    assert fleet.book.size == 0


async def test_a_server_that_refuses_for_good_is_told_apart(
    stream_settings: StreamSettings, key_file: Path
) -> None:
    with logged_in(stream_settings.url, "+@all -xadd") as url:
        target = target_of(url, stream_settings.partitions, key_file)
        async with Fleet(lone_task(target, 3, 30.0)) as fleet:
            await fleet.play(even_times([(0.2, 60)]))
            assert await fleet.settle(30.0)
    account = account_of(fleet)
    assert due(account) == account["refused"] == 12


async def test_a_generator_that_is_late_says_so(
    stream_settings: StreamSettings, key_file: Path
) -> None:
    target = target_of(stream_settings.url, stream_settings.partitions, key_file)
    async with Fleet(lone_task(target, 3, 30.0)) as fleet:
        playing = asyncio.create_task(fleet.play(even_times([(0.6, 60)])))
        while not fleet.book.size:
            await asyncio.sleep(0.001)
        keep_the_loop(0.3)
        await playing
        while fleet.num_waiting:
            await asyncio.sleep(0.001)
    account = account_of(fleet)
    assert due(account) == account["acknowledged"] == account["lost"] == 36
    assert account["send_late_max_ms"] >= 150  # type: ignore[operator]


async def test_frames_that_were_due_when_a_run_was_ended_count_as_dropped(
    stream_settings: StreamSettings, key_file: Path
) -> None:
    target = target_of(stream_settings.url, stream_settings.partitions, key_file)
    async with Fleet(lone_task(target, 3, 30.0)) as fleet:
        playing = asyncio.create_task(fleet.play(even_times([(60, 60)])))
        while not fleet.book.size:
            await asyncio.sleep(0.001)
        fleet.stop()
        keep_the_loop(0.3)
        await playing
    account = account_of(fleet)
    assert account["dropped"] >= 15  # type: ignore[operator]
    due(account)


def keep_the_loop(seconds: float) -> None:
    """As whoever shares the event loop and keeps it to himself."""
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        pass


def test_every_frame_appears_in_the_brief_account() -> None:
    book = Book(0.0, 3.0)
    numbers = [book.due(1.0, Kind.BONA_FIDE) for _ in range(9)]
    for number in numbers[:6]:
        book.begin(number)
    for number in numbers[:4]:
        book.added(number, f"0 {number}-0")
    book.lost_sight(numbers[4])
    book.lost_sight(numbers[5])
    book.refuse(numbers[6])
    book.drop(numbers[7])
    book.drop(numbers[8])
    for number, said in enumerate(("bona_fide", "attack", "expired")):
        book.decide(number, said, 1.25)
    book.decide(0, "bona_fide", 1.5)
    book.decide(5, "bona_fide", 1.5)  # the reply to it got lost, the frame did not
    book.close()
    lateness = Distribution()
    lateness.add([7.0, 7.0, 10.0])
    account = account_in_brief(book, Distribution(), Distribution(), lateness)
    assert [account[part] for part in PARTS] == [4, 2, 2, 1]
    assert due(account) == 9
    assert (account["decided"], account["unknown_decided"], account["lost"]) == (4, 1, 1)
    assert account["acknowledged"] + account["unknown_decided"] == 4 + account["lost"]
    assert (account["duplicates"], account["correct_ratio"]) == (1, round(2 / 3, 4))
    assert (account["bona_fide"], account["attack"], account["no_decision"]) == (2, 1, 1)
    assert account["expired"] == 1
    assert (account["send_late_p50_ms"], account["send_late_max_ms"]) == (7.0, 10.0)
    assert account["p99_ms"] is None
    assert json.loads(json.dumps(account)) == account
