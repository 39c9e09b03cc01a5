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
from collections.abc import Callable, Sequence

from redis.exceptions import ResponseError

from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.delivery import Commit, CommitResult, Entry, SeqUse
from workers.stream.failure import FAILURES, Failure, failure_of, failure_of_answer
from workers.stream.fenced_commit import FencedCommit
from workers.stream.heartbeat import Heartbeat
from workers.stream.layout import Layout, StreamError, lay_out
from workers.stream.reclaiming import Reclaimer
from workers.stream.scripts import packed, script
from workers.stream.shard_group import ShardGroup, entry_of
from workers.wire import keys

_log = logging.getLogger(__name__)
_CLOCK_PERIOD_S = 1.0
_MAX_BEHIND_MS = 1000


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
        self._clock_at_s: dict[ShardGroup, float] = {}
        self._heartbeat = Heartbeat(self._servers, settings, consumer, monotonic)
        self._reclaimer = Reclaimer(self._servers, settings, consumer, self._heartbeat, monotonic)

    async def join(self) -> None:
        """See `FrameStream.join`.

        Raises:
            StreamError: the server can't be used as it is; the message says what to change.
        """
        layout = await self._lay_out()
        self.findings = layout.findings
        for finding in self.findings:
            _log.warning("the server's settings: %s", finding)
        for partitions in layout.groups:
            group = ShardGroup(partitions, self._monotonic)
            self._group_of.update(dict.fromkeys(partitions, group))
        for partition, why in layout.unusable.items():
            self._group_of[partition].block(partition, why)
        for group in self._shard_groups():
            try:
                await self._sample_clock(group)
            except FAILURES as error:
                _log.warning("partitions %s: not there yet: %s", group.partitions, error)
        await self.beat()
        self.groups = [each.partitions for each in self._shard_groups()]

    async def _lay_out(self) -> Layout:
        waiting = ShardGroup(range(self._settings.partitions), self._monotonic)
        while True:
            try:
                layout = await lay_out(self._servers, self._settings, self._consumer)
                if layout.is_ready:
                    return layout
                await waiting.pause("; ".join(layout.findings))
            except FAILURES as error:
                if not failure_of(error).is_transient:
                    raise StreamError(
                        f"the server refuses what a replica needs: {error}"
                    ) from error
                await waiting.pause(error)

    async def read(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.read`."""
        state, found = self._group_of[group[0]], list[Entry]()
        # When a read that waits has waited in vain, the next one may wait at once.
        was_quiet, state.is_quiet = state.is_quiet, False
        try:
            await self._sample_clock(state)
            await self._recover(state, slots, found)
            if not found and not was_quiet:
                await self._deliver(state, slots, found)
            if not found:
                await self._await_first(state, found)
                state.is_quiet = not (found or state.has_blocked or self._settings.cluster)
            state.answered()
        except FAILURES as error:
            if failure_of(error).may_have_run:
                state.to_recover.update(state.partitions)
            # Where one command asked for several partitions, the next read tells which it is.
            if not found:
                await state.pause(error)
        return state.hand_out(found)

    async def reclaim(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.reclaim`."""
        state = self._group_of[group[0]]
        return state.hand_out(await self._reclaimer.run(state, slots))

    async def beat(self) -> None:
        """See `FrameStream.beat`."""
        await self._heartbeat.beat(self._shard_groups())

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
            # Not even a decision without a verdict could be written: not this entry is at fault.
            state.to_recover.add(entry.partition)
            state.block(entry.partition, "its decisions can't be written")

    async def admit(self, use: SeqUse) -> CommitResult:
        """See `FrameStream.admit`."""
        partition = keys.partition_of(use.camera_id, self._settings.partitions)
        return await self._commits.admit(use, self._group_of[partition])

    def is_available(self, group: Sequence[int]) -> bool:
        """See `FrameStream.is_available`."""
        return self._group_of[group[0]].is_available

    @property
    def troubles(self) -> list[str]:
        """What stands in the way now, and stays until somebody mends it; the log says more."""
        blocked = sorted(each for group in self._shard_groups() for each in group.blocked)
        found = [f"partitions can't be used: {blocked}"] if blocked else []
        ahead_ms = max((each.clock.ahead_ms for each in self._shard_groups()), default=0.0)
        if ahead_ms > _MAX_BEHIND_MS:
            found.append(
                f"the server's clock is {ahead_ms / 1000:.1f} s behind what it told before, and "
                f"frames are judged by the later time: if it is right now, stop all replicas, "
                f"delete {keys.members(0)} and start them again"
            )
        return [*found, self._heartbeat.trouble] if self._heartbeat.trouble else found

    def now_ms(self, partition: int) -> int:
        """See `FrameStream.now_ms`; the server is asked once a second."""
        return self._group_of[partition].clock.now_ms()

    async def leave(self) -> None:
        """See `FrameStream.leave`."""
        try:
            await self._heartbeat.leave(self._shard_groups())
        except FAILURES as error:
            _log.warning("consumers without entries are left behind: %s", error)
        finally:
            await self._heartbeat.aclose()
            await self._servers.aclose()
            await self._blocking.aclose()

    def _shard_groups(self) -> list[ShardGroup]:
        return list(dict.fromkeys(self._group_of.values()))

    async def _deliver(self, state: ShardGroup, slots: int, found: list[Entry]) -> None:
        """Find what is there, up to `slots`; what one call found stays if the next one fails."""
        for names in await self._servers.groups(map(keys.frames, state.usable())):
            server = await self._servers.of(names[0])
            args = [keys.GROUP, self._consumer, slots - len(found), *names]
            asked_ms, failed = state.clock.now_ms(), []
            rows, emptied = await server.run(script("read"), [], args)
            for index, answer in rows:
                name = names[index - 1]
                if isinstance(answer, bytes):
                    failed.append((name, answer.decode(errors="replace")))
                    continue
                since_ms = state.emptied_at_ms.get(keys.number_of(name), 0)
                found += [entry_of(name, each, 1, flat, since_ms) for each, flat in answer]
            state.emptied_at_ms.update(
                (keys.number_of(names[each - 1]), asked_ms) for each in emptied
            )
            for name, answer in failed:
                await self._deal_with_partition(answer, keys.number_of(name), state)
            if len(found) >= slots:
                return

    async def _await_first(self, state: ShardGroup, found: list[Entry]) -> None:
        """Wait a moment for new entries, and find the first of them where a read can block."""
        names = [keys.frames(partition) for partition in state.usable()]
        if self._settings.cluster or not names:
            await state.poll_pause()
            return
        server = await self._blocking.of(names[0])
        head = ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", 1)
        block = ("BLOCK", self._settings.block_ms, "STREAMS")
        asked_ms = state.clock.now_ms()
        answer = await server.execute(*head, *block, *names, *(">" for _ in names))
        if not answer:
            state.emptied_at_ms.update((keys.number_of(name), asked_ms) for name in names)
        for name, rows in answer or ():
            partition = keys.number_of(name.decode())
            since_ms = state.emptied_at_ms.get(partition, 0)
            found += [
                Entry(partition, entry_id.decode(), fields, not_before_ms=since_ms)
                for entry_id, fields in rows
                if fields is not None
            ]

    async def _recover(self, state: ShardGroup, slots: int, found: list[Entry]) -> None:
        """Find entries that are this consumer's on the server and in nobody's hands."""
        for partition in state.to_recover.intersection(state.usable()):
            name = keys.frames(partition)
            shared = packed(slots=slots - len(found), has=list(state.in_hand[partition]))
            args = [keys.GROUP, self._consumer, shared]
            try:
                rows = await self._servers.run(script("recover"), [name], args)
            except ResponseError as error:
                if failure_of(error).is_transient:
                    raise
                state.to_recover.discard(partition)  # nothing is there, or the read will tell
                continue
            found += [entry_of(name, *row) for row in rows]
            if len(found) >= slots:
                return
            state.to_recover.discard(partition)

    async def _commit_partition(
        self, partition: int, commits: Sequence[Commit], on_wait: Callable[[], None] | None
    ) -> list[CommitResult]:
        state = self._group_of[partition]
        try:
            return await self._commits.run(partition, commits, state, on_wait)
        except FAILURES as error:
            is_lost = failure_of(error) is Failure.NO_GROUP
            if is_lost:
                # The next read finds out too, and makes the group again.
                _log.error("the server lost its data, and with it these entries: %s", error)
            else:
                state.block(partition, str(error))
            result = CommitResult.NOT_OWNER if is_lost else CommitResult.BLOCKED
            return [result] * len(commits)

    async def _sample_clock(self, state: ShardGroup) -> None:
        asked_s = self._monotonic()
        if asked_s < self._clock_at_s.get(state, 0.0):
            return
        server = await self._servers.of(state.key)
        seconds, microseconds = await server.execute("TIME")
        state.clock.sample(seconds * 1000 + microseconds / 1000, asked_s)
        self._clock_at_s[state] = asked_s + _CLOCK_PERIOD_S

    async def _deal_with_partition(self, answer: str, partition: int, state: ShardGroup) -> None:
        name, failure = keys.frames(partition), failure_of_answer(answer)
        if failure is Failure.NO_GROUP:
            _log.error("%s: the server lost its data; the group is made again: %s", name, answer)
            try:
                await self._servers.run(script("join"), [name], [keys.GROUP])
            except ResponseError as error:
                if failure_of(error).is_transient:
                    raise
                state.block(partition, str(error))
        elif failure is Failure.MOVED:
            await self._servers.execute(name, "EXISTS", name)
        elif not failure.is_transient:
            state.block(partition, answer)
