"""Reading and reclaiming on a real cluster while servers hang and partitions move."""

import asyncio

from redis.crc import key_slot

from tests.workers.stream.cluster import Cluster
from workers.settings import StreamSettings
from workers.stream.redis_stream import RedisStream
from workers.wire import keys


def settings_of(cluster: Cluster) -> StreamSettings:
    cluster.empty()
    return StreamSettings(url=cluster.url, cluster=True, partitions=4, lease_ms=600)


async def add_to(cluster: Cluster, partition: int) -> None:
    node = await asyncio.to_thread(cluster.primary_of, keys.frames(partition))
    node.client.xadd(keys.frames(partition), {"f": "x"})


async def test_who_is_silent_is_known_while_any_server_hangs(cluster: Cluster) -> None:
    """The beats are in several copies: none of them is needed."""
    settings = settings_of(cluster)
    owners = [cluster.primary_of(keys.frames(each)) for each in range(4)]
    for hung in {each.port: each for each in owners}.values():
        partition = next(each for each in range(4) if owners[each].port != hung.port)
        names = [f"{who} {hung.port}" for who in ("silent", "alive")]
        silent, alive = (RedisStream(settings, name) for name in names)
        await silent.join()
        await alive.join()
        await add_to(cluster, partition)
        async with asyncio.timeout(60):
            while not await silent.read(silent.group_of(partition), 4):
                pass
        with cluster.hung(hung):
            async with asyncio.timeout(60):
                while not (taken := await alive.reclaim(alive.group_of(partition), 4)):
                    await alive.beat()
                    await asyncio.sleep(0.05)
            assert [each.partition for each in taken] == [partition]
        await asyncio.to_thread(cluster.agree)
        for stream in (silent, alive):
            await stream.leave()
        settings_of(cluster)


async def test_a_replica_joins_while_a_server_hangs(cluster: Cluster) -> None:
    settings = settings_of(cluster)
    hung = cluster.primary_of(keys.frames(0))
    other = next(
        each for each in range(4) if cluster.primary_of(keys.frames(each)).port != hung.port
    )
    await add_to(cluster, other)
    await add_to(cluster, 0)
    stream = RedisStream(settings, "late")
    with cluster.hung(hung):
        async with asyncio.timeout(60):
            await stream.join()
            while not await stream.read(stream.group_of(other), 4):
                pass
            assert not stream.is_available(stream.group_of(0)) or stream.findings
    async with asyncio.timeout(60):
        while not await stream.read(stream.group_of(0), 4):
            pass
    await stream.leave()


async def test_a_partition_that_moved_hangs_with_its_new_server(cluster: Cluster) -> None:
    # So many that each server has some, whatever other tests have moved.
    settings = settings_of(cluster).model_copy(update={"partitions": 64})
    stream = RedisStream(settings, "one")
    await stream.join()
    stayed, moved = next(group for group in stream.groups if len(group) > 1)[:2]
    source = await asyncio.to_thread(cluster.primary_of, keys.frames(moved))
    target = next(each for each in cluster.nodes if each.is_primary and each.port != source.port)
    slot = key_slot(keys.frames(moved).encode())
    await asyncio.to_thread(cluster.migrate, slot, source, target)
    try:
        async with asyncio.timeout(60):
            while stream.group_of(moved) == stream.group_of(stayed):
                await stream.read(stream.group_of(moved), 4)
        with cluster.hung(target):
            await add_to(cluster, stayed)
            assert await stream.read(stream.group_of(stayed), 4)
        await asyncio.to_thread(cluster.agree)
        await add_to(cluster, moved)
        async with asyncio.timeout(60):
            while not await stream.read(stream.group_of(moved), 4):
                pass
    finally:
        await stream.leave()


async def test_who_waits_asks_a_server_and_not_each_partition(cluster: Cluster) -> None:
    settings = settings_of(cluster).model_copy(update={"partitions": 64})
    stream = RedisStream(settings, "one")
    await stream.join()

    def num_commands() -> int:
        primaries = [each.client for each in cluster.nodes if each.is_primary]
        return sum(int(each.info("stats")["total_commands_processed"]) for each in primaries)

    for group in 2 * stream.groups:
        await stream.read(group, 4)
    before = num_commands()
    for group in 10 * stream.groups:
        assert await stream.read(group, 4) == []
    assert num_commands() - before < 3 * settings.partitions  # 10 looks at each would be 640
    await add_to(cluster, 63)
    async with asyncio.timeout(60):
        while not await stream.read(stream.group_of(63), 4):
            pass
    await stream.leave()
