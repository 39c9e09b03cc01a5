"""What every `FrameStream` promises: run against the one in memory and against a real server."""

from tests.workers.stream.bench import (
    FIELDS,
    MAX_SEQ,
    MAX_SEQS,
    Bench,
    camera_in,
    commit_of,
    commit_one,
    read_all,
    reclaim,
    use_of,
)
from workers.stream.delivery import CommitResult, SeqUse


class TestContract:
    async def test_an_entry_is_handed_to_one_consumer_only(self, bench: Bench) -> None:
        first, second = await bench.join("first"), await bench.join("second")
        entry_id = await bench.add()
        (entry,) = await read_all(first)
        assert (entry.id, dict(entry.fields or {}), entry.deliveries) == (entry_id, FIELDS, 1)
        assert await read_all(second) == []

    async def test_no_more_is_read_than_there_are_slots(self, bench: Bench) -> None:
        stream = await bench.join("one")
        for _ in range(5):
            await bench.add(0)
            await bench.add(1)
        (group,) = stream.groups
        assert len(await stream.read(group, 1)) <= 1
        assert len(await stream.read(group, 4)) <= 4

    async def test_all_partitions_are_read_with_a_single_place(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add(0)
        await bench.add(1)
        seen: set[int] = set()
        (group,) = stream.groups
        for _ in range(8):
            seen |= {entry.partition for entry in await stream.read(group, 1)}
        assert seen == {0, 1}

    async def test_a_commit_shows_one_decision_and_deletes_the_frame(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        assert await commit_one(stream, commit_of(entry)) is CommitResult.COMMITTED
        assert [each.entry_id for each in await bench.decisions()] == [entry.id]
        assert await bench.num_frames() == 0

    async def test_a_second_commit_is_refused(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        await stream.commit([commit_of(entry)])
        assert await commit_one(stream, commit_of(entry)) is CommitResult.NOT_OWNER
        assert len(await bench.decisions()) == 1

    async def test_results_come_in_the_order_of_the_commits(self, bench: Bench) -> None:
        stream, other = await bench.join("one"), await bench.join("other")
        for partition in (0, 1, 0, 1):
            await bench.add(partition)
        entries = await read_all(stream)
        await other.commit([commit_of(entries[1])])
        await stream.commit([commit_of(entries[1])])
        results = await stream.commit([commit_of(entry) for entry in entries])
        assert [result is CommitResult.COMMITTED for result in results] == [True, False, True, True]

    async def test_only_the_owner_commits(self, bench: Bench) -> None:
        owner, thief = await bench.join("owner"), await bench.join("thief")
        await bench.add()
        (entry,) = await read_all(owner)
        assert await commit_one(thief, commit_of(entry)) is CommitResult.NOT_OWNER
        assert await bench.decisions() == []
        assert await bench.num_frames() == 1

    async def test_a_silent_consumer_loses_its_entry(self, bench: Bench) -> None:
        silent, heir = await bench.join("silent"), await bench.join("heir")
        await bench.add()
        (entry,) = await read_all(silent)
        assert await reclaim(heir) == []
        await bench.let_lease_pass(heir)
        (taken,) = await reclaim(heir)
        assert (taken.id, taken.deliveries, dict(taken.fields or {})) == (entry.id, 2, FIELDS)
        assert await commit_one(silent, commit_of(entry)) is CommitResult.NOT_OWNER
        assert await commit_one(heir, commit_of(taken)) is CommitResult.COMMITTED
        assert len(await bench.decisions()) == 1

    async def test_entries_that_were_delivered_once_are_reclaimed_together(
        self, bench: Bench
    ) -> None:
        silent, heir = await bench.join("silent"), await bench.join("heir")
        for partition in (0, 0, 1):
            await bench.add(partition)
        await read_all(silent)
        await bench.let_lease_pass(heir)
        taken = [entry for _ in range(3) for entry in await reclaim(heir, slots=2)]
        assert len(taken) == len({entry.key for entry in taken}) == 3

    async def test_an_entry_that_was_delivered_more_often_comes_alone(self, bench: Bench) -> None:
        for name in ("first", "second"):
            silent, heir = await bench.join(name), await bench.join(f"heir of {name}")
            if name == "first":
                for _ in range(3):
                    await bench.add()
                await read_all(silent)
            await bench.let_lease_pass(heir)
            assert len(await reclaim(heir)) == (3 if name == "first" else 1)

    async def test_who_is_alive_keeps_its_entries(self, bench: Bench) -> None:
        holder, heir = await bench.join("holder"), await bench.join("heir")
        await bench.add()
        (entry,) = await read_all(holder)
        for _ in range(3):
            await bench.let_lease_pass(holder, heir)
            assert await reclaim(heir) == []
        assert await commit_one(holder, commit_of(entry)) is CommitResult.COMMITTED

    async def test_an_entry_handed_out_too_often_comes_without_its_content(
        self, bench: Bench
    ) -> None:
        await bench.add()
        first = await bench.join("consumer-0")
        await read_all(first)
        deliveries: list[tuple[int, bool]] = []
        for number in range(1, 5):
            heir = await bench.join(f"consumer-{number}")
            await bench.let_lease_pass(heir)
            (entry,) = await reclaim(heir)
            deliveries.append((entry.deliveries, entry.fields is None))
        assert deliveries == [(2, False), (3, False), (4, False), (4, True)]

    async def test_what_could_not_be_committed_is_read_again(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        assert await read_all(stream) == []
        stream.release(entry, is_ours=True)
        await bench.let_time_pass(3000)  # what was in the way is given time to be mended
        (again,) = await read_all(stream)
        assert (again.key, again.deliveries) == (entry.key, 1)

    async def test_a_seq_counts_once(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        await bench.add()
        await bench.add()
        first, second = await read_all(stream)
        use = use_of(camera, 7)
        assert (
            await commit_one(stream, commit_of(first, camera_id=camera, seq=use))
            is CommitResult.COMMITTED
        )
        again = await commit_one(stream, commit_of(second, camera_id=camera, seq=use))
        assert again is CommitResult.REPLAYED
        assert await bench.num_frames() == 1
        assert await stream.admit(use) is CommitResult.REPLAYED
        assert await commit_one(stream, commit_of(second, camera_id=camera)) is (
            CommitResult.COMMITTED
        )

    async def test_a_seq_need_not_rise(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        seqs = (5, 3, MAX_SEQ, 0, 2**53, 2**53 + 1, MAX_SEQ - 1, 4)
        results = [await stream.admit(use_of(camera, seq)) for seq in seqs]
        assert set(results) == {CommitResult.COMMITTED}
        results = [await stream.admit(use_of(camera, seq)) for seq in seqs]
        assert set(results) == {CommitResult.REPLAYED}

    async def test_a_seq_is_forgotten_when_its_frame_would_be_expired(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        use = use_of(camera, 1, stream.now_ms(0) + 5000)
        assert await stream.admit(use) is CommitResult.COMMITTED
        await bench.let_time_pass(4000)
        assert await stream.admit(use) is CommitResult.REPLAYED
        await bench.let_time_pass(2000)
        assert await stream.admit(use) is CommitResult.COMMITTED

    async def test_the_memory_of_seqs_is_bounded_and_a_new_key_begins_anew(
        self, bench: Bench
    ) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        results = [await stream.admit(use_of(camera, seq)) for seq in range(MAX_SEQS + 1)]
        assert results == [CommitResult.COMMITTED] * MAX_SEQS + [CommitResult.MEMORY_FULL]
        new = SeqUse(camera, "new key", 0, 2**41)
        assert await stream.admit(new) is CommitResult.COMMITTED

    async def test_cameras_have_memories_of_their_own(self, bench: Bench) -> None:
        stream = await bench.join("one")
        for camera in (camera_in(0), camera_in(1)):
            assert await stream.admit(use_of(camera, 1)) is CommitResult.COMMITTED

    async def test_a_verdict_that_got_too_old_is_not_committed(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        late = commit_of(entry, deadline_ms=stream.now_ms(0) - 1000)
        assert await commit_one(stream, late) is CommitResult.EXPIRED
        assert await bench.decisions() == []
        timely = commit_of(entry, deadline_ms=stream.now_ms(0) + 1000)
        assert await commit_one(stream, timely) is CommitResult.COMMITTED

    async def test_a_proven_camera_sees_its_decision(self, bench: Bench) -> None:
        stream, camera = await bench.join("one"), camera_in(0)
        await bench.add()
        await bench.add()
        proven, unproven = await read_all(stream)
        await stream.commit(
            [commit_of(proven, camera_id=camera, seq=use_of(camera, 1)), commit_of(unproven)]
        )
        assert [each.entry_id for each in await bench.camera_decisions(camera)] == [proven.id]
        assert len(await bench.decisions()) == 2

    async def test_what_is_given_up_on_leaves_a_dead_letter(self, bench: Bench) -> None:
        stream = await bench.join("one")
        await bench.add()
        (entry,) = await read_all(stream)
        await stream.commit([commit_of(entry, error="why")])
        assert await bench.dead() == ["why"]
        assert len(await bench.decisions()) == 1
