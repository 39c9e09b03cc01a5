"""What every `FrameStream` promises: run against the one in memory and against a real server."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

import pytest
import redis.asyncio

from workers.settings import StreamSettings
from workers.stream.delivery import NO_PARTITION, Commit, Entry, Fate, FrameStream
from workers.stream.redis_stream import RedisStream
from workers.testing import MemoryServer, MemoryStream
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, pack_decision, unpack_decision

FIELDS = {b"f": b"frame", b"s": b"signature"}
MAX_SEQ = 2**64 - 1


class Bench(Protocol):
    """One server of either kind, as the contract needs to handle it."""

    async def join(self, consumer: str) -> FrameStream: ...

    async def add(self, partition: int = 0) -> str: ...

    async def let_lease_pass(self) -> None: ...

    async def decisions(self, partition: int = 0) -> list[Decision]: ...

    async def camera_decisions(self, camera_id: str) -> list[Decision]: ...

    async def dead(self) -> list[str]: ...

    async def num_frames(self, partition: int = 0) -> int: ...


class MemoryBench:
    def __init__(self, settings: StreamSettings) -> None:
        self.server = MemoryServer(settings)

    async def join(self, consumer: str) -> FrameStream:
        return MemoryStream(self.server, consumer)

    async def add(self, partition: int = 0) -> str:
        return self.server.add(partition, FIELDS)

    async def let_lease_pass(self) -> None:
        self.server.clock.advance(self.server.settings.lease_ms + 1)

    async def decisions(self, partition: int = 0) -> list[Decision]:
        return self.server.decisions[partition]

    async def camera_decisions(self, camera_id: str) -> list[Decision]:
        return self.server.camera_decisions(camera_id)

    async def dead(self) -> list[str]:
        return [error for _, error in self.server.dead]

    async def num_frames(self, partition: int = 0) -> int:
        return len(self.server.entries[partition])

    async def close(self) -> None:
        return


class RedisBench:
    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.client = redis.asyncio.Redis.from_url(settings.url)
        self.streams: list[RedisStream] = []

    async def join(self, consumer: str) -> FrameStream:
        stream = RedisStream(self.settings, consumer)
        await stream.join()
        self.streams.append(stream)
        return stream

    async def add(self, partition: int = 0) -> str:
        entry_id: Any = await self.client.xadd(keys.frames(partition), dict(FIELDS))  # type: ignore[arg-type]
        return str(entry_id.decode())

    async def let_lease_pass(self) -> None:
        # XCLAIM can say how long an entry has been idle: no test has to wait for it.
        for partition in range(self.settings.partitions):
            name = keys.frames(partition)
            for row in await self.client.xpending_range(name, keys.GROUP, "-", "+", 100):
                await self.client.xclaim(
                    name,
                    keys.GROUP,
                    row["consumer"],
                    0,
                    [row["message_id"]],
                    idle=self.settings.lease_ms + 1,
                    justid=True,
                )

    async def decisions(self, partition: int = 0) -> list[Decision]:
        return await self._unpack(keys.decisions(partition))

    async def camera_decisions(self, camera_id: str) -> list[Decision]:
        partition = keys.partition_of(camera_id, self.settings.partitions)
        return await self._unpack(keys.camera_decisions(partition, camera_id))

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
        return [unpack_decision(fields[b"d"]) for _, fields in rows]


@pytest.fixture(
    params=["memory", "stream_settings", "redis_settings"], ids=["memory", "valkey", "redis"]
)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        made: MemoryBench | RedisBench = MemoryBench(
            StreamSettings(partitions=2, lease_ms=200, block_ms=20)
        )
    else:
        made = RedisBench(request.getfixturevalue(request.param))
    yield made
    await made.close()


def camera_in(partition: int) -> str:
    return next(
        f"cam-{number}"
        for number in range(99)
        if keys.partition_of(f"cam-{number}", 2) == partition
    )


def commit_of(entry: Entry, **changes: Any) -> Commit:
    decision = Decision(
        camera_id=changes.get("camera_id"),
        seq=changes.get("seq"),
        presentation_id=None,
        entry_id=entry.id,
        captured_at_ms=1,
        decided_at_ms=2,
        outcome=Outcome.ATTACK,
        reason=None,
        score=0.25,
        threshold=0.5,
        modalities=("rgb",),
        weights={"rgb": 1.0},
        model="m@0",
        replica="r",
        batch_size=1,
        timing_ms={"total": 1.0},
    )
    return Commit(entry, pack_decision(decision), **changes)


async def read_all(stream: FrameStream, places: int = 8) -> list[Entry]:
    return [entry for lane in stream.lanes for entry in await stream.read(lane, places)]


async def commit_one(stream: FrameStream, commit: Commit) -> Fate:
    (fate,) = await stream.commit([commit])
    return fate


class TestContract:
    async def test_an_entry_is_handed_to_one_consumer_only(self, bench: Bench) -> None:
        first, second = await bench.join("first"), await bench.join("second")
        entry_id = await bench.add()
        (entry,) = await read_all(first)
        assert (entry.id, dict(entry.fields or {}), entry.deliveries) == (entry_id, FIELDS, 1)
        assert await read_all(second) == []

    async def test_no_more_is_read_than_there_are_places(self, bench: Bench) -> None:
        stream = await bench.join("one")
        for _ in range(5):
            await bench.add(0)
            await bench.add(1)
        (lane,) = stream.lanes
        assert len(await stream.read(lane, 1)) <= 1
        assert len(await stream.read(lane, 4)) <= 4

    async def test_all_partitions_are_read_with_a_single_place(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add(0)
        await bench.add(1)
        seen: set[int] = set()
        (lane,) = stream.lanes
        for _ in range(8):
            seen |= {entry.partition for entry in await stream.read(lane, 1)}
        assert seen == {0, 1}

    async def test_a_commit_shows_one_decision_and_deletes_the_frame(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        assert await commit_one(stream, commit_of(entry)) is Fate.COMMITTED
        assert [each.entry_id for each in await bench.decisions()] == [entry.id]
        assert await bench.num_frames() == 0

    async def test_a_second_commit_is_refused(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        await stream.commit([commit_of(entry)])
        assert await commit_one(stream, commit_of(entry)) is Fate.NOT_OWNER
        assert len(await bench.decisions()) == 1

    async def test_fates_come_in_the_order_of_the_commits(self, bench: Bench) -> None:
        stream, other = await bench.join("one"), await bench.join("other")
        for partition in (0, 1, 0, 1):
            await bench.add(partition)
        entries = await read_all(stream)
        await other.commit([commit_of(entries[1])])
        await stream.commit([commit_of(entries[1])])
        fates = await stream.commit([commit_of(entry) for entry in entries])
        assert [fate is Fate.COMMITTED for fate in fates] == [True, False, True, True]

    async def test_only_the_owner_commits(self, bench: Bench) -> None:
        owner, thief = await bench.join("owner"), await bench.join("thief")
        await bench.add()
        (entry,) = await read_all(owner)
        assert await commit_one(thief, commit_of(entry)) is Fate.NOT_OWNER
        assert await bench.decisions() == []
        assert await bench.num_frames() == 1

    async def test_a_silent_consumer_loses_its_entry(self, bench: Bench) -> None:
        silent, heir = await bench.join("silent"), await bench.join("heir")
        await bench.add()
        (entry,) = await read_all(silent)
        await bench.let_lease_pass()
        (taken,) = await heir.reclaim()
        assert (taken.id, taken.deliveries, dict(taken.fields or {})) == (entry.id, 2, FIELDS)
        assert await commit_one(silent, commit_of(entry)) is Fate.NOT_OWNER
        assert await commit_one(heir, commit_of(taken)) is Fate.COMMITTED
        assert len(await bench.decisions()) == 1

    async def test_one_entry_is_reclaimed_at_a_time(self, bench: Bench) -> None:
        silent, heir = await bench.join("silent"), await bench.join("heir")
        for partition in (0, 0, 1):
            await bench.add(partition)
        await read_all(silent)
        await bench.let_lease_pass()
        taken = [await heir.reclaim() for _ in range(4)]
        assert [len(each) for each in taken] == [1, 1, 1, 0]

    async def test_held_entries_are_not_reclaimed(self, bench: Bench) -> None:
        holder, heir = await bench.join("holder"), await bench.join("heir")
        await bench.add()
        entries = await read_all(holder)
        await bench.let_lease_pass()
        assert await holder.hold(entries) == set()
        assert await heir.reclaim() == []

    async def test_hold_tells_what_is_lost(self, bench: Bench) -> None:
        holder, heir = await bench.join("holder"), await bench.join("heir")
        await bench.add()
        (entry,) = await read_all(holder)
        await bench.let_lease_pass()
        (taken,) = await heir.reclaim()
        assert await holder.hold([entry]) == {entry.id}
        assert await heir.hold([taken]) == set()

    async def test_an_entry_handed_out_too_often_comes_without_its_content(
        self, bench: Bench
    ) -> None:
        await bench.add()
        first = await bench.join("consumer-0")
        await read_all(first)
        deliveries: list[tuple[int, bool]] = []
        for number in range(1, 5):
            await bench.let_lease_pass()
            (entry,) = await (await bench.join(f"consumer-{number}")).reclaim()
            deliveries.append((entry.deliveries, entry.fields is None))
        assert deliveries == [(2, False), (3, False), (4, False), (4, True)]

    async def test_a_seq_counts_once(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        await bench.add()
        await bench.add()
        first, second = await read_all(stream)
        assert await commit_one(stream, commit_of(first, camera_id=camera, seq=7)) is Fate.COMMITTED
        again = await commit_one(stream, commit_of(second, camera_id=camera, seq=7))
        assert again is Fate.REPLAYED
        assert await bench.num_frames() == 1
        assert await commit_one(stream, commit_of(second, camera_id=camera)) is Fate.COMMITTED

    @pytest.mark.parametrize(
        ("seqs", "refused"),
        [
            ((5, 3, 4, 3, 6, 5), (3, 5)),
            ((2000, 2000 - 1015, 900, 2000 - 1015), (900, 985)),
            (
                (0, MAX_SEQ, MAX_SEQ - 1000, MAX_SEQ, 0, MAX_SEQ - 5000),
                (MAX_SEQ, 0, MAX_SEQ - 5000),
            ),
            ((2**32 - 1, 2**32, 2**32 - 2, 2**32, 2**32 + 1), (2**32,)),
            ((2**53, 2**53 + 1, 2**53, 2**53 + 2), (2**53,)),
            ((1, 1020, 5, 1024, 8, 2, 1016), (2,)),
            ((8, 1032, 1033, 520, 8), (8,)),
        ],
    )
    async def test_the_window_lets_frames_overtake_but_not_return(
        self, bench: Bench, seqs: Sequence[int], refused: Sequence[int]
    ) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        got = []
        for seq in seqs:
            entry = Entry(NO_PARTITION, "", FIELDS)
            if await commit_one(stream, commit_of(entry, camera_id=camera, seq=seq)) is not (
                Fate.COMMITTED
            ):
                got.append(seq)
        assert tuple(got) == tuple(refused)

    async def test_cameras_have_windows_of_their_own(self, bench: Bench) -> None:
        stream = await bench.join("one")
        for camera in (camera_in(0), camera_in(1)):
            entry = Entry(NO_PARTITION, "", FIELDS)
            commit = commit_of(entry, camera_id=camera, seq=1)
            assert await commit_one(stream, commit) is Fate.COMMITTED

    async def test_a_verdict_that_got_too_old_is_not_committed(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        late = commit_of(entry, deadline_ms=stream.now_ms() - 1000)
        assert await commit_one(stream, late) is Fate.EXPIRED
        assert await bench.decisions() == []
        timely = commit_of(entry, deadline_ms=stream.now_ms() + 1000)
        assert await commit_one(stream, timely) is Fate.COMMITTED

    async def test_a_proven_camera_sees_its_decision(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        await bench.add()
        await bench.add()
        proven, unproven = await read_all(stream)
        await stream.commit([commit_of(proven, camera_id=camera, seq=1), commit_of(unproven)])
        assert [each.entry_id for each in await bench.camera_decisions(camera)] == [proven.id]
        assert len(await bench.decisions()) == 2

    async def test_what_is_given_up_on_leaves_a_dead_letter(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        await stream.commit([commit_of(entry, error="why")])
        assert await bench.dead() == ["why"]
        assert len(await bench.decisions()) == 1
