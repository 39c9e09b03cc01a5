"""What fails costs no more than itself: a key, a partition, a permission, an entry, a reply."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as LineError

from tests.workers import frames
from tests.workers.stream.bench import commit_of, read_all, reclaim, use_of
from tests.workers.stream.test_stream import add, joined
from workers.replica.pipeline import Pipeline
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.backlog import read_backlog
from workers.stream.connection import connect
from workers.stream.delivery import CommitResult, SeqUse
from workers.stream.layout import StreamError
from workers.stream.redis_stream import RedisStream
from workers.stream.scripts import script
from workers.testing import ConstantPredictor
from workers.wire import keys
from workers.wire.decision import unpack_decision
from workers.wire.signing import AcceptUnsigned

LAST_ID = f"{2**64 - 1}-{2**64 - 1}"


@pytest.fixture
def client(stream_settings: StreamSettings) -> Iterator[Any]:
    with redis.Redis.from_url(stream_settings.url) as made:
        yield made


@asynccontextmanager
async def replica(settings: StreamSettings) -> AsyncIterator[Pipeline]:
    made = Pipeline(
        stream=RedisStream(settings, "replica"),
        predictor=ConstantPredictor(),
        verifier=AcceptUnsigned(),
        telemetry=Telemetry(NoMetrics(), 1),
        settings=WorkerSettings(stream=settings, allow_unsigned=True),
        replica="replica",
    )
    running = asyncio.create_task(made.run())
    yield made
    made.drain()
    await running
    made.check()


def camera_of(partition: int) -> str:
    names = (f"gate-{number}" for number in range(99))
    return next(each for each in names if keys.partition_of(each, 2) == partition)


def publish(client: Any, camera_id: str, seq: int, entry_id: str = "*") -> str:
    seconds, microseconds = client.time()
    frame = frames.frame(camera_id, seq, seconds * 1000 + microseconds // 1000)
    name = keys.frames(keys.partition_of(camera_id, 2))
    return str(client.xadd(name, frames.fields(frame), id=entry_id).decode())


async def decisions(client: Any, partition: int, count: int) -> list[Any]:
    """Wait until a partition has so many decisions, and return them."""
    async with asyncio.timeout(60):
        while client.xlen(keys.decisions(partition)) < count:
            await asyncio.sleep(0.01)
    rows = client.xrange(keys.decisions(partition))
    return [unpack_decision(fields[b"d"]) for _, fields in rows]


class TestOneKey:
    async def test_frames_of_another_type_stop_their_partition_only(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        client.set(keys.frames(0), "something else")
        add(client, 1)
        async with joined(stream_settings, "one") as (stream,):
            assert {entry.partition for entry in await read_all(stream)} == {1}
            assert "[0]" in stream.troubles[0]
            asker = connect(stream_settings.url)
            first, second = await read_backlog(asker, [0, 1])
            await asker.aclose()
        assert (first.entries, second.entries) == (0, 1)

    async def test_dead_letters_do_not_stand_in_a_decision_s_way(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        client.set(keys.dead(0), "something else")
        add(client)
        async with joined(stream_settings, "one") as (stream,):
            (entry,) = await read_all(stream)
            assert await stream.commit([commit_of(entry, error="why")]) == [CommitResult.COMMITTED]

    @pytest.mark.parametrize("which", ["partition", "camera"])
    async def test_a_decision_stream_at_its_last_id(
        self, stream_settings: StreamSettings, client: Any, which: str
    ) -> None:
        camera, other = camera_of(0), camera_of(1)
        full = {"partition": keys.decisions(0), "camera": keys.camera_decisions(0, camera)}[which]
        client.xadd(full, {"d": "x"}, id=LAST_ID)
        publish(client, camera, 1)
        async with replica(stream_settings) as pipeline:
            publish(client, other, 1)
            await decisions(client, 1, 1)
            if which == "partition":
                async with asyncio.timeout(60):
                    while not pipeline._stream.troubles:  # type: ignore[attr-defined]
                        await asyncio.sleep(0.01)
                publish(client, other, 2)
                await decisions(client, 1, 2)
                assert client.xpending(keys.frames(0), keys.GROUP)["pending"] == 1
                client.delete(full)
            (decision,) = await decisions(client, 0, 1)
        assert decision.reason in (None, "worker_failed", "expired")
        assert client.xlen(keys.frames(0)) == 0

    async def test_what_is_refused_for_good_is_tried_less_and_less_often(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        client.xadd(keys.decisions(0), {"d": "x"}, id=LAST_ID)
        publish(client, camera_of(0), 1)
        calls: list[Any] = []
        began_s = time.monotonic()
        async with replica(stream_settings) as pipeline:
            stream: Any = pipeline._stream
            run = stream._servers.run

            async def counting(asked: Any, *args: Any) -> Any:
                calls.append(asked)
                return await run(asked, *args)

            stream._servers.run = counting
            for seq in range(1, 40):
                publish(client, camera_of(1), seq)
                await decisions(client, 1, seq)
            num_refused = sum(1 for each in calls if each is script("commit")) - 39
            took_s = time.monotonic() - began_s
            client.delete(keys.decisions(0))
            await decisions(client, 0, 1)
        # After 2 s, 4 s, 8 s: with a verdict, then without one.
        assert num_refused <= 2 * (1 + int(math.log2(took_s / 2 + 1)))

    async def test_members_of_another_type_are_told_and_stop_nothing(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        client.set(keys.members(0), "something else")
        publish(client, camera_of(0), 1)
        async with replica(stream_settings) as pipeline:
            await decisions(client, 0, 1)
            assert keys.members(0) in pipeline._stream.troubles[0]  # type: ignore[attr-defined]
            client.delete(keys.members(0))


class TestOneEntry:
    async def test_an_id_that_no_clock_made_is_decided_like_any_other(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        camera = camera_of(0)
        publish(client, camera, 1, entry_id=LAST_ID)
        async with replica(stream_settings):
            (decision,) = await decisions(client, 0, 1)
            assert decision.reason is None
            publish(client, camera_of(1), 1)
            await decisions(client, 1, 1)

    async def test_what_others_wrote_between_decisions_is_passed_over(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "r") as (stream,):
            client.xadd(keys.decisions(0), {"x": "no decision"})
            client.xadd(keys.decisions(0), {"d": b"\xc1"})
            add(client)
            (entry,) = await read_all(stream)
            with losing_reply(stream._servers, "commit"):
                assert await stream.commit([commit_of(entry)]) == [CommitResult.COMMITTED]

    async def test_what_is_ours_without_our_knowing_is_read(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            (entry_id,) = add(client)
            # As after a failover that undid a commit.
            client.xreadgroup(keys.GROUP, "one", {keys.frames(0): ">"})
            found: list[Any] = []
            async with asyncio.timeout(60):
                while not found:
                    assert await reclaim(stream) == []
                    found = await read_all(stream)
        assert [(each.id, each.deliveries) for each in found] == [(entry_id, 1)]


@contextmanager
def losing_reply(target: Any, name: str) -> Iterator[None]:
    """Run the next script of a name, by a `Server` or `Servers`, and lose its reply."""
    run = target.run

    async def losing(asked: Any, *args: Any) -> Any:
        answer = await run(asked, *args)
        if asked is script(name):
            target.run = run
            raise LineError("reply lost")
        return answer

    target.run = losing
    try:
        yield
    finally:
        target.run = run


class TestReplies:
    async def test_what_a_read_has_found_is_kept_when_its_next_step_fails(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            add(client, 0)
            add(client, 1)
            client.xgroup_destroy(keys.frames(1), keys.GROUP)
            with losing_reply(stream._servers, "join"):
                found = await read_all(stream)
            while len(found) < 2:
                found += await read_all(stream)
        assert [each.partition for each in found] == [0, 1]
        assert [each.deliveries for each in found] == [1, 1]

    async def test_a_commit_finds_that_the_data_are_lost_and_the_group_can_not_be_made(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            add(client)
            (entry,) = await read_all(stream)
            client.flushall()
            client.xadd(keys.frames(0), {"f": "x"})
            assert await stream.commit([commit_of(entry)]) == [CommitResult.NOT_OWNER]
            client.set(keys.frames(0), "something else")
            assert await stream.commit([commit_of(entry)]) == [CommitResult.BLOCKED]

    async def test_a_seq_is_not_looked_up_for_ever(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):

            async def away(*_: Any) -> Any:
                raise LineError("the server is away")

            run, stream._servers.run = stream._servers.run, away  # type: ignore[method-assign]
            use = SeqUse("gate-1", "key", 1, stream.now_ms(0) - 1)
            assert await stream.admit(use) is CommitResult.EXPIRED
            stream._servers.run = run  # type: ignore[method-assign]
            assert await stream.admit(use_of("gate-1", 1)) is CommitResult.COMMITTED


class TestStart:
    @pytest.mark.parametrize("command", ["xadd", "xdel", "xclaim", "zadd", "zcount", "xreadgroup"])
    async def test_a_command_that_is_not_allowed_is_named(
        self, stream_settings: StreamSettings, client: Any, command: str
    ) -> None:
        rules = ("on", "nopass", "~*", "&*", "+@all", f"-{command}")
        client.execute_command("ACL", "SETUSER", "short", *rules)
        url = stream_settings.url.replace("redis://", "redis://short:x@")
        stream = RedisStream(stream_settings.model_copy(update={"url": url}), "one")
        with pytest.raises(StreamError, match=f"(?i){command}"):
            await stream.join()
        await stream.leave()
        client.execute_command("ACL", "DELUSER", "short")

    async def test_a_cluster_is_told_from_a_single_server(
        self, stream_settings: StreamSettings
    ) -> None:
        stream = RedisStream(stream_settings.model_copy(update={"cluster": True}), "one")
        with pytest.raises(StreamError, match="cluster support disabled"):
            await stream.join()
        await stream.leave()

    async def test_time_that_has_been_told_is_not_forgotten(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        seconds, _ = client.time()
        ahead_ms = (seconds + 10) * 1000
        # The server's clock is set back by ten seconds, then a replica joins.
        client.hset(keys.members(0), "older", f"{ahead_ms}-7")
        async with joined(stream_settings, "younger") as (stream,):
            assert stream.now_ms(0) >= ahead_ms
