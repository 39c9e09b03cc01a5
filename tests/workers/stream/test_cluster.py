"""The promises on a real cluster: whatever happens to a server, each frame is decided once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from tests.workers import frames
from tests.workers.stream.cluster import Cluster, until
from workers.client.camera import AsyncCamera, Camera, SendResult
from workers.client.door import Door, follow
from workers.replica.pipeline import Pipeline
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.connection import Servers, connect
from workers.stream.redis_stream import RedisStream
from workers.testing import ConstantPredictor
from workers.wire import keys
from workers.wire.decision import Decision
from workers.wire.signing import AcceptUnsigned

PLANES = {"rgb": frames.planes()["rgb"]}


class Run:
    """Two replicas, cameras on every partition, and the account of what became of each frame."""

    def __init__(self, cluster: Cluster, partitions: int) -> None:
        cluster.empty()
        stream = StreamSettings(
            url=cluster.url, cluster=True, partitions=partitions, lease_ms=600, max_deliveries=100
        )
        self.settings = WorkerSettings(
            stream=stream, allow_unsigned=True, deadline_ms=600_000, max_camera_fps=10_000
        )
        self.servers: Servers = connect(cluster.url, cluster=True, timeout_s=2.0)
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        self.decided: Counter[tuple[str, str]] = Counter()
        self.decisions: list[Decision] = []
        self.replicas = [
            Pipeline(
                stream=RedisStream(stream, f"replica-{number}"),
                predictor=ConstantPredictor(max_batch=16),
                verifier=AcceptUnsigned(),
                telemetry=Telemetry(NoMetrics(), 1),
                settings=self.settings,
                replica=f"replica-{number}",
            )
            for number in range(2)
        ]
        self.cameras = [self._camera(f"gate-{number}") for number in range(12)]

    def _camera(self, camera_id: str) -> AsyncCamera:
        return AsyncCamera(
            self.servers,
            camera_id,
            None,
            partitions=self.settings.stream.partitions,
            max_waiting=10_000,
            on_result=lambda result: self._sent(camera_id, result),
        )

    def _sent(self, camera_id: str, result: SendResult) -> None:
        if result.status == "acknowledged":
            self.acknowledged.update([(camera_id, result.entry_id)])

    def publish(self) -> None:
        for camera in self.cameras:
            camera.publish(PLANES)

    async def read(self) -> None:
        names = [keys.decisions(each) for each in range(self.settings.stream.partitions)]
        async for _, decision in follow(self.servers, dict.fromkeys(names, "0")):
            self.decided.update([(str(decision.camera_id), decision.entry_id)])
            self.decisions.append(decision)

    async def decided_all(self) -> None:
        """Wait until every acknowledged frame has a decision."""
        async with asyncio.timeout(120):
            while self.acknowledged.keys() - self.decided.keys():
                await asyncio.sleep(0.02)

    async def decided_more(self, partition: int, count: int) -> None:
        """Publish until a partition has had so many more decisions."""

        def had() -> int:
            return sum(
                keys.partition_of(str(each.camera_id), self.settings.stream.partitions) == partition
                for each in self.decisions
            )

        goal = had() + count
        async with asyncio.timeout(120):
            while had() < goal:
                self.publish()
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(cluster: Cluster, partitions: int = 4) -> AsyncIterator[Run]:
    run = Run(cluster, partitions)
    tasks = [asyncio.create_task(replica.run()) for replica in run.replicas]
    reading = asyncio.create_task(run.read())
    try:
        yield run
        await run.decided_all()
        for camera in run.cameras:
            await camera.close(30)
        await run.decided_all()
        assert run.acknowledged
        assert run.decided.keys() >= run.acknowledged.keys()
        assert [key for key, count in run.decided.items() if count > 1] == []
        assert {str(each.reason) for each in run.decisions} == {"None"}
    finally:
        for replica in run.replicas:
            replica.drain()
        await asyncio.gather(*tasks)
        reading.cancel()
        await asyncio.wait([reading])
        await run.servers.aclose()
    for replica in run.replicas:
        replica.check()


@pytest.mark.parametrize("partitions", [1, 4, 64, 256])
async def test_any_number_of_partitions(cluster: Cluster, partitions: int) -> None:
    async with running(cluster, partitions) as run:
        for _ in range(10):
            run.publish()
            await asyncio.sleep(0)


async def test_a_primary_that_is_killed_is_followed_to_its_replica(cluster: Cluster) -> None:
    async with running(cluster) as run:
        await run.decided_more(0, 5)
        victim = cluster.primary_of(keys.frames(0))
        await asyncio.to_thread(cluster.kill, victim)
        try:
            await run.decided_more(0, 5)
        finally:
            await asyncio.to_thread(victim.restart)


async def test_a_camera_and_its_door_are_followed_too(cluster: Cluster) -> None:
    camera_id = next(each for each in map(str, range(99)) if keys.partition_of(each, 4) == 0)
    servers = connect(cluster.url, cluster=True)
    camera = Camera(cluster.url, camera_id, None, partitions=4, cluster=True)
    try:
        async with running(cluster) as run:
            decisions = Door(servers, camera_id, None, partitions=4).decisions()
            coming = asyncio.ensure_future(anext(decisions))  # type: ignore[arg-type]
            victim = cluster.primary_of(keys.frames(0))
            for after_kill in (False, True):
                if after_kill:
                    await asyncio.to_thread(cluster.kill, victim)
                seq = camera.publish(PLANES)
                async with asyncio.timeout(120):
                    while not coming.done() or (coming.result().seq or 0) < seq:
                        if coming.done():
                            coming = asyncio.ensure_future(anext(decisions))  # type: ignore[arg-type]
                        # One whose reply got lost with its server is not sent again.
                        camera.publish(PLANES)
                        await asyncio.sleep(0.05)
            await run.decided_more(0, 1)
            await decisions.aclose()  # type: ignore[attr-defined]
    finally:
        await asyncio.to_thread(camera.close, 10)
        await servers.aclose()
    await asyncio.to_thread(victim.server.start)


async def test_a_server_that_hangs_does_not_hold_up_the_others(cluster: Cluster) -> None:
    async with running(cluster) as run:
        await run.decided_more(0, 5)
        victim = cluster.primary_of(keys.frames(0))
        others = [
            each for each in range(4) if cluster.primary_of(keys.frames(each)).port != victim.port
        ]
        with cluster.hung(victim):
            await run.decided_more(others[0], 5)
        await run.decided_more(0, 5)


async def test_a_planned_failover_is_followed_by_who_has_nothing_to_do(cluster: Cluster) -> None:
    async with running(cluster) as run:
        for partition in range(4):
            await run.decided_more(partition, 1)
        await run.decided_all()
        primary = cluster.primary_of(keys.frames(3))  # no copy of the members is there
        replica = await asyncio.to_thread(cluster.replica_of, primary)
        replica.client.execute_command("CLUSTER", "FAILOVER")
        await asyncio.to_thread(until, lambda: replica.is_primary)
        await run.decided_more(3, 5)


async def test_a_slot_that_moves_is_followed(cluster: Cluster) -> None:
    async with running(cluster) as run:
        await run.decided_more(0, 5)
        source = cluster.primary_of(keys.frames(0))
        target = next(
            each for each in cluster.nodes if each.is_primary and each.port != source.port
        )
        moving = asyncio.create_task(
            asyncio.to_thread(cluster.migrate, key_slot(keys.frames(0).encode()), source, target)
        )
        await run.decided_more(0, 5)
        await moving
        await run.decided_more(0, 5)
