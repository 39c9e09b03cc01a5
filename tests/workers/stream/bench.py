"""One server, in memory or real, as the contract of the streams needs to handle it."""

from typing import Any, Protocol

import redis.asyncio

from workers.settings import PresentationSettings, StreamSettings
from workers.stream.delivery import Commit, CommitResult, Entry, FrameStream, SeqUse
from workers.stream.redis_stream import RedisStream
from workers.testing import MemoryServer, MemoryStream
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, pack_decision, unpack_decision
from workers.wire.presentation import PresentationVerdict, unpack_verdict

FIELDS = {b"f": b"frame", b"s": b"signature"}
MAX_SEQ = 2**64 - 1
MAX_SEQS = 40
# No test is so slow that a presentation is over by itself.
PRESENTATION = PresentationSettings(max_frames=8, silence_ms=600_000, max_refused=2, refused_s=3600)


class Bench(Protocol):
    """One server of either kind, as the contract needs to handle it."""

    async def join(self, consumer: str) -> FrameStream: ...

    async def add(self, partition: int = 0) -> str: ...

    async def let_lease_pass(self, *alive: FrameStream) -> None: ...

    async def let_time_pass(self, by_ms: int) -> None: ...

    async def decisions(self, partition: int = 0) -> list[Decision]: ...

    async def camera_decisions(self, camera_id: str) -> list[Decision]: ...

    async def verdicts(self, camera_id: str) -> list[PresentationVerdict]: ...

    async def dead(self) -> list[str]: ...

    async def num_frames(self, partition: int = 0) -> int: ...


class MemoryBench:
    def __init__(self, settings: StreamSettings) -> None:
        self.server = MemoryServer(settings)

    async def join(self, consumer: str) -> FrameStream:
        stream = MemoryStream(self.server, consumer)
        await stream.join()
        return stream

    async def add(self, partition: int = 0) -> str:
        return self.server.add(partition, FIELDS)

    async def let_lease_pass(self, *alive: FrameStream) -> None:
        self.server.clock.advance(self.server.settings.lease_ms + 1)
        for stream in alive:
            await stream.beat()

    async def let_time_pass(self, by_ms: int) -> None:
        self.server.clock.advance(by_ms)

    async def decisions(self, partition: int = 0) -> list[Decision]:
        return self.server.decisions[partition]

    async def camera_decisions(self, camera_id: str) -> list[Decision]:
        return self.server.camera_decisions(camera_id)

    async def verdicts(self, camera_id: str) -> list[PresentationVerdict]:
        return [each for each in self.server.verdicts if each.camera_id == camera_id]

    async def dead(self) -> list[str]:
        return [error for _, error in self.server.dead]

    async def num_frames(self, partition: int = 0) -> int:
        return len(self.server.entries[partition])

    async def close(self) -> None:
        return


class RedisBench:
    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings.model_copy(
            update={"max_seqs": MAX_SEQS, "presentation": PRESENTATION}
        )
        self.client = redis.asyncio.Redis.from_url(settings.url)
        self.streams: list[RedisStream] = []
        self.now_s = 0.0

    async def join(self, consumer: str) -> FrameStream:
        stream = RedisStream(self.settings, consumer, monotonic=lambda: self.now_s)
        await stream.join()
        self.streams.append(stream)
        return stream

    async def add(self, partition: int = 0) -> str:
        entry_id: Any = await self.client.xadd(keys.frames(partition), dict(FIELDS))  # type: ignore[arg-type]
        return str(entry_id.decode())

    async def let_lease_pass(self, *alive: FrameStream) -> None:
        for stream in alive:
            await stream.beat()
        self.now_s += self.settings.lease_ms / 1000 + 0.001
        for stream in alive:
            await stream.beat()

    async def let_time_pass(self, by_ms: int) -> None:
        self.now_s += by_ms / 1000

    async def decisions(self, partition: int = 0) -> list[Decision]:
        return await self._unpack(keys.decisions(partition))

    async def camera_decisions(self, camera_id: str) -> list[Decision]:
        partition = keys.partition_of(camera_id, self.settings.partitions)
        return await self._unpack(keys.camera_decisions(partition, camera_id))

    async def verdicts(self, camera_id: str) -> list[PresentationVerdict]:
        partition = keys.partition_of(camera_id, self.settings.partitions)
        shown = await self._verdicts(keys.camera_decisions(partition, camera_id))
        of_partition = await self._verdicts(keys.decisions(partition))
        found = [each for each in of_partition if each.camera_id == camera_id]
        assert shown == found[len(found) - len(shown) :]  # of a camera, only the last ones are kept
        return found

    async def _verdicts(self, name: str) -> list[PresentationVerdict]:
        rows: Any = await self.client.xrange(name)
        return [unpack_verdict(fields[b"p"]) for _, fields in rows if b"p" in fields]

    async def dead(self) -> list[str]:
        rows: Any = await self.client.xrange(keys.dead(0))
        return [fields[b"error"].decode() for _, fields in rows]

    async def num_frames(self, partition: int = 0) -> int:
        return int(await self.client.xlen(keys.frames(partition)))

    async def close(self) -> None:
        for stream in self.streams:
            await stream.leave()
        await self.client.aclose()

    async def _unpack(self, name: str) -> list[Decision]:
        rows: Any = await self.client.xrange(name)
        return [unpack_decision(fields[b"d"]) for _, fields in rows if b"d" in fields]


def camera_in(partition: int) -> str:
    return next(
        f"cam-{number}"
        for number in range(99)
        if keys.partition_of(f"cam-{number}", 2) == partition
    )


def commit_of(entry: Entry, **changes: Any) -> Commit:
    decision = Decision(
        camera_id=changes.get("camera_id"),
        seq=changes["seq"].seq if changes.get("seq") else None,
        presentation_id=None,
        entry_id=entry.id,
        captured_at_ms=1,
        decided_at_ms=2,
        outcome=Outcome.ATTACK,
        reason=None,
        score=0.25,
        threshold=0.5,
        modalities=("rgb",),
        evidence={"rgb": 1.0},
        model="m@0",
        replica="r",
        batch_size=1,
        timing_ms={"total": 1.0},
    )
    return Commit(entry, pack_decision(decision), **changes)


async def read_all(stream: FrameStream, slots: int = 8) -> list[Entry]:
    return [entry for group in stream.groups for entry in await stream.read(group, slots)]


async def reclaim(stream: FrameStream, slots: int = 8) -> list[Entry]:
    return [entry for group in stream.groups for entry in await stream.reclaim(group, slots)]


def use_of(camera_id: str, seq: int, until_ms: int = 2**41) -> SeqUse:
    return SeqUse(camera_id, "key", seq, until_ms)


async def commit_one(stream: FrameStream, commit: Commit) -> CommitResult:
    (result,) = await stream.commit([commit])
    return result
