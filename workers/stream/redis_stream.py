"""The stream itself: the frames on Redis, as one consumer.

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
from collections.abc import Callable, Sequence

from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.delivery import Commit, CommitResult, Entry, SeqUse
from workers.stream.failure import FAILURES, failure_of
from workers.stream.fenced_commit import FencedCommit
from workers.stream.heartbeat import Heartbeat
from workers.stream.layout import Layout, StreamError, lay_out
from workers.stream.reading import Reader
from workers.stream.reclaiming import Reclaimer
from workers.stream.shard_group import ShardGroup
from workers.stream.shards import Shards
from workers.wire import keys

_log = logging.getLogger(__name__)
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
        self._blocking = connect(
            settings.url, cluster=settings.cluster, timeout_s=settings.block_ms / 1000 + 2.0
        )
        self._shards = Shards(self._servers, monotonic)
        self._reader = Reader(self._servers, self._blocking, settings, consumer, monotonic)
        self._commits = FencedCommit(self._servers, settings, consumer)
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
        self._shards.lay_out(layout.groups)
        for partition, why in layout.unusable.items():
            self._shards.of(partition).block(partition, why)
        for group in self._shards.groups:
            try:
                await self._reader.sample_clock(group)
            except FAILURES as error:
                _log.warning("partitions %s: not there yet: %s", group.partitions, error)
        await self.beat()
        self.groups = self._shards.names

    async def read(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.read`."""
        self._shards.follow()
        return self._shards.hand_out(await self._reader.read(self._shards.named(group), slots))

    async def reclaim(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.reclaim`."""
        return self._shards.hand_out(await self._reclaimer.run(self._shards.named(group), slots))

    async def beat(self) -> None:
        """See `FrameStream.beat`."""
        await self._heartbeat.beat(self._shards.groups)

    async def commit(
        self, commits: Sequence[Commit], on_wait: Callable[[], None] | None = None
    ) -> list[CommitResult]:
        """See `FrameStream.commit`."""
        by_group: dict[ShardGroup, dict[int, list[Commit]]] = {}
        for commit in commits:
            partition = commit.entry.partition
            of_group = by_group.setdefault(self._shards.of(partition), {})
            of_group.setdefault(partition, []).append(commit)
        found = await asyncio.gather(
            *(self._commits.run(some, group, on_wait) for group, some in by_group.items())
        )
        result_of = {
            commit.entry.key: result
            for some, results in zip(by_group.values(), found, strict=True)
            for partition, of_partition in some.items()
            for commit, result in zip(of_partition, results[partition], strict=True)
        }
        return [result_of[commit.entry.key] for commit in commits]

    def release(self, entry: Entry, *, is_ours: bool) -> None:
        """See `FrameStream.release`."""
        group = self._shards.of(entry.partition)
        group.take_back(entry.key)
        if is_ours:
            # Not even a decision without a verdict could be written: not this entry is at fault.
            group.to_recover.add(entry.partition)
            group.block(entry.partition, "its decisions can't be written")

    async def admit(self, use: SeqUse) -> CommitResult:
        """See `FrameStream.admit`."""
        partition = keys.partition_of(use.camera_id, self._settings.partitions)
        return await self._commits.admit(use, self._shards.of(partition))

    def group_of(self, partition: int) -> Sequence[int]:
        """See `FrameStream.group_of`."""
        return self._shards.name_of(partition)

    def is_available(self, group: Sequence[int]) -> bool:
        """See `FrameStream.is_available`."""
        return self._shards.named(group).is_available

    @property
    def troubles(self) -> list[str]:
        """What stands in the way now, and stays until somebody mends it; the log says more."""
        groups, found = self._shards.groups, []
        if blocked := sorted(each for group in groups for each in group.blocked):
            found.append(f"partitions can't be used: {blocked}")
        if self._heartbeat.trouble:
            found.append(self._heartbeat.trouble)
        behind_ms = max((group.clock.ahead_ms for group in groups), default=0.0)
        if behind_ms > _MAX_BEHIND_MS:
            found.append(
                f"the server's clock is {behind_ms / 1000:.1f} s behind what it told before, and "
                f"frames are judged by the later time: if it is right now, stop all replicas, "
                f"delete {keys.members(0)} and start them again"
            )
        return found

    def now_ms(self, partition: int) -> int:
        """See `FrameStream.now_ms`; the server is asked once a second."""
        return self._shards.of(partition).clock.now_ms()

    async def leave(self) -> None:
        """See `FrameStream.leave`."""
        try:
            await self._heartbeat.leave(self._shards.groups)
        except FAILURES as error:
            _log.warning("consumers without entries are left behind: %s", error)
        finally:
            await self._heartbeat.aclose()
            await self._servers.aclose()
            await self._blocking.aclose()

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
                    raise StreamError(f"the server refuses what is needed: {error}") from error
                await waiting.pause(error)
