"""The stream itself: the frames on Redis, and all commands of the hot path.

When the line fails: a read that breaks may have delivered entries that this consumer never saw; the
next read asks for them. A commit whose reply got lost is sent again until the server answers: it is
fenced, so the second try finds out what became of the first and can't decide twice. No read is ever
cancelled, because a cancelled read loses what it was just given.

A server that is away or hung stands still alone: each shard group has its own server, connections,
pauses and clock.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgpack

from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.delivery import Commit, CommitResult, Entry, SeqUse
from workers.stream.failure import FAILURES, Failure, failure_of, failure_of_answer
from workers.stream.fenced_commit import FencedCommit
from workers.stream.layout import lay_out
from workers.stream.members import Members
from workers.stream.scripts import packed, script
from workers.stream.shard_group import ShardGroup
from workers.wire import keys

_log = logging.getLogger(__name__)
_CLOCK_PERIOD_S = 1.0
_GONE_AFTER_S = 60.0


class RedisStream:
    """The frames of a deployment on a single server or a Redis Cluster, as one consumer."""

    def __init__(
        self,
        settings: StreamSettings,
        consumer: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the clients; nothing is sent before `join`.

        Args:
            settings: where the server is and how the stream is laid out.
            consumer: this replica's name in the group; never used by two processes.
            monotonic: s; leases, pauses and the server's time go by it.
        """
        self._settings = settings
        self._consumer = consumer
        self._monotonic = monotonic
        self.findings: list[str] = []
        self.groups: Sequence[Sequence[int]] = ()
        self._servers = connect(settings.url, cluster=settings.cluster)
        self._blocking = connect(settings.url, timeout_s=settings.block_ms / 1000 + 2.0)
        self._commits = FencedCommit(self._servers, settings, consumer)
        self._group_of: dict[int, ShardGroup] = {}
        self._members = Members(consumer, settings.lease_ms / 1000)
        self._clock_at_s: dict[ShardGroup, float] = {}
        self._reclaim_at_s: dict[ShardGroup, float] = {}
        self._tidy_at_s = monotonic() + _GONE_AFTER_S

    async def join(self) -> None:
        """See `FrameStream.join`.

        Raises:
            StreamError: the server can't be used as it is; the message says what to change.
        """
        waiting = ShardGroup(range(self._settings.partitions), self._monotonic)
        while True:
            try:
                self.findings = await lay_out(self._servers, self._settings)
                names = [keys.frames(partition) for partition in waiting.partitions]
                grouped = await self._servers.groups(names)
                break
            except FAILURES as error:
                if not failure_of(error).is_transient:
                    raise
                await waiting.pause(error)
        for finding in self.findings:
            _log.warning("the server's settings: %s", finding)
        for group in grouped:
            made = ShardGroup([names.index(name) for name in group], self._monotonic)
            self._group_of.update(dict.fromkeys(made.partitions, made))
        self.groups = [each.partitions for each in dict.fromkeys(self._group_of.values())]
        await self.beat()
        for each in self.groups:
            await self._sample_clock(self._group_of[each[0]])

    async def read(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.read`."""
        state = self._group_of[group[0]]
        try:
            await self._sample_clock(state)
            found = (
                await self._recover(state, slots)
                or await self._deliver(state, slots)
                or await self._await_first(state)
            )
            state.answered()
            return state.hand_out(found)
        except FAILURES as error:
            if failure_of(error).may_have_run:
                state.to_recover.update(state.partitions)
            # Where one command asked for several partitions, the next read tells which it is.
            await state.pause(error)
            return []

    async def reclaim(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.reclaim`; asks four times a lease, and on while something is found."""
        state, now_s = self._group_of[group[0]], self._monotonic()
        if now_s < self._reclaim_at_s.get(state, 0.0) or not state.is_available:
            return []
        self._reclaim_at_s[state] = now_s + self._settings.lease_ms / 4000
        silent = self._members.silent(now_s)
        shared = packed(max_deliveries=self._settings.max_deliveries, slots=slots, silent=silent)
        found: list[Entry] = []
        try:
            for names in await self._servers.groups(map(keys.frames, state.usable())):
                server = await self._servers.of(names[0])
                args = [keys.GROUP, self._consumer, shared, *names]
                rows, holders = await server.run(script("reclaim"), [], args)
                self._members.saw_holders((name.decode() for name in holders), now_s)
                found += [
                    _entry(names[index - 1], entry_id, deliveries, fields)
                    for index, entry_id, deliveries, fields in rows
                ]
                if found:
                    self._reclaim_at_s[state] = 0.0
                    break
        except FAILURES as error:
            if failure_of(error).may_have_run:
                state.to_recover.update(state.partitions)
            _log.warning("partitions %s: nothing could be reclaimed: %s", state.partitions, error)
        return state.hand_out(found)

    async def beat(self) -> None:
        """See `FrameStream.beat`."""
        try:
            answer = await self._servers.run(script("beat"), [keys.MEMBERS], [self._consumer])
            now_s = self._monotonic()
            counts = map(int, answer[1::2])
            beats = dict(zip((name.decode() for name in answer[::2]), counts, strict=True))
            self._members.saw_beats(beats, now_s)
            if now_s >= self._tidy_at_s:
                self._tidy_at_s = now_s + _GONE_AFTER_S
                await self._tidy(beats, self._members.silent(now_s, _GONE_AFTER_S))
        except FAILURES as error:
            self._members.lost_sight()
            _log.warning("the members can't be read, nobody is judged by them: %s", error)

    async def commit(
        self, commits: Sequence[Commit], on_wait: Callable[[], None] | None = None
    ) -> list[CommitResult]:
        """See `FrameStream.commit`."""
        by_partition: dict[int, list[Commit]] = defaultdict(list)
        for commit in commits:
            by_partition[commit.entry.partition].append(commit)
        answers = await asyncio.gather(
            *(
                self._commit_partition(partition, some, on_wait)
                for partition, some in by_partition.items()
            )
        )
        result_of = {
            commit.entry.key: result
            for some, results in zip(by_partition.values(), answers, strict=True)
            for commit, result in zip(some, results, strict=True)
        }
        return [result_of[commit.entry.key] for commit in commits]

    def release(self, entry: Entry, *, is_ours: bool) -> None:
        """See `FrameStream.release`."""
        state = self._group_of[entry.partition]
        state.take_back(entry.key)
        if is_ours:
            state.to_recover.add(entry.partition)

    async def admit(self, use: SeqUse) -> CommitResult:
        """See `FrameStream.admit`."""
        partition = keys.partition_of(use.camera_id, self._settings.partitions)
        return await self._commits.admit(use, self._group_of[partition])

    def is_available(self, group: Sequence[int]) -> bool:
        """See `FrameStream.is_available`."""
        return self._group_of[group[0]].is_available

    @property
    def blocked(self) -> list[int]:
        """The partitions that did not work when they were last tried; the log says why."""
        groups = dict.fromkeys(self._group_of.values())
        return sorted(each for group in groups for each in group.blocked)

    def now_ms(self, partition: int) -> int:
        """See `FrameStream.now_ms`; the server is asked once a second."""
        return self._group_of[partition].clock.now_ms()

    async def leave(self) -> None:
        """See `FrameStream.leave`."""
        try:
            await self._servers.execute(keys.MEMBERS, "HDEL", keys.MEMBERS, self._consumer)
            rows = await self._servers.execute(keys.MEMBERS, "HKEYS", keys.MEMBERS)
            await self._remove_strangers([name.decode() for name in rows])
        except FAILURES as error:
            # Nothing is lost by it: the others see that this one is silent.
            _log.warning("left without saying so: %s", error)
        finally:
            await self._servers.aclose()
            await self._blocking.aclose()

    async def _deliver(self, state: ShardGroup, slots: int) -> list[Entry]:
        """Return what is there, up to `slots`."""
        found: list[Entry] = []
        for names in await self._servers.groups(map(keys.frames, state.usable())):
            server = await self._servers.of(names[0])
            args = [keys.GROUP, self._consumer, slots - len(found), *names]
            for index, answer in await server.run(script("read"), [], args):
                name = names[index - 1]
                if isinstance(answer, bytes):
                    await self._deal_with_partition(answer.decode(), keys.number_of(name), state)
                else:
                    found += [_entry(name, entry_id, 1, flat) for entry_id, flat in answer]
            if len(found) >= slots:
                break
        return found

    async def _await_first(self, state: ShardGroup) -> list[Entry]:
        """Wait a moment for new entries, and return the first of them where a read can block."""
        names = [keys.frames(partition) for partition in state.usable()]
        if self._settings.cluster or not names:
            await state.poll_pause()
            return []
        server = await self._blocking.of(names[0])
        head = ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", 1)
        block = ("BLOCK", self._settings.block_ms, "STREAMS")
        answer = await server.execute(*head, *block, *names, *(">" for _ in names))
        return [
            Entry(keys.number_of(name.decode()), entry_id.decode(), fields)
            for name, rows in answer or ()
            for entry_id, fields in rows
            if fields is not None
        ]

    async def _recover(self, state: ShardGroup, slots: int) -> list[Entry]:
        """Return entries that are this consumer's on the server and in nobody's hands."""
        found: list[Entry] = []
        for partition in state.to_recover.intersection(state.usable()):
            name = keys.frames(partition)
            shared = packed(slots=slots - len(found), has=list(state.in_hand[partition]))
            args = [keys.GROUP, self._consumer, shared]
            rows = await self._servers.run(script("recover"), [name], args)
            found += [_entry(name, *row) for row in rows]
            if len(found) >= slots:
                return found
            state.to_recover.discard(partition)
        return found

    async def _commit_partition(
        self, partition: int, commits: Sequence[Commit], on_wait: Callable[[], None] | None
    ) -> list[CommitResult]:
        state = self._group_of[partition]
        try:
            return await self._commits.run(partition, commits, state, on_wait)
        except FAILURES as error:
            await self._deal_with_partition(str(error), partition, state)
            is_lost = failure_of(error) is Failure.NO_GROUP
            result = CommitResult.NOT_OWNER if is_lost else CommitResult.BLOCKED
            return [result] * len(commits)

    async def _sample_clock(self, state: ShardGroup) -> None:
        asked_s = self._monotonic()
        if asked_s < self._clock_at_s.get(state, 0.0):
            return
        server = await self._servers.of(keys.frames(state.partitions[0]))
        seconds, microseconds = await server.execute("TIME")
        state.clock.sample(seconds * 1000 + microseconds / 1000, asked_s)
        self._clock_at_s[state] = asked_s + _CLOCK_PERIOD_S

    async def _deal_with_partition(self, answer: str, partition: int, state: ShardGroup) -> None:
        failure = failure_of_answer(answer)
        if failure is Failure.NO_GROUP:
            _log.error("the server lost its data; the group is made again: %s", answer)
            name = keys.frames(partition)
            await self._servers.run(script("join"), [name], [keys.GROUP])
        elif failure is Failure.MOVED:
            await self._servers.execute(keys.frames(partition), "EXISTS", keys.frames(partition))
        elif not failure.is_transient:
            state.block(partition, answer)

    async def _tidy(self, beats: Mapping[str, int], gone: Sequence[str]) -> None:
        if gone:
            await self._servers.execute(keys.MEMBERS, "HDEL", keys.MEMBERS, *gone)
            self._members.forget(gone)
        await self._remove_strangers([name for name in beats if name not in gone])

    async def _remove_strangers(self, members: Sequence[str]) -> None:
        for partition in self._group_of:
            args = [keys.GROUP, msgpack.packb(list(members))]
            await self._servers.run(script("leave"), [keys.frames(partition)], args)


def _entry(name: str, entry_id: bytes, deliveries: int, flat: list[bytes] | None) -> Entry:
    fields = None if not flat else dict(zip(flat[::2], flat[1::2], strict=True))
    return Entry(keys.number_of(name), entry_id.decode(), fields, deliveries)
