"""The frames stream and its consumer group: all Redis commands of the hot path.

When the line fails: a read that breaks may have left entries in this consumer's pending list;
nothing guesses, they come back by reclaim. A commit whose reply got lost is sent again until the
server answers: it is fenced, so the second try finds out what became of the first and can't
decide twice. No read is ever cancelled, because a cancelled read loses what it was just given.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgpack
from redis.exceptions import ResponseError

from workers.errors import WorkerError
from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog
from workers.stream.connection import FAILURES, UNAVAILABLE, connect
from workers.stream.delivery import NO_PARTITION, Commit, Entry, Fate
from workers.stream.lua import script_text
from workers.wire import keys

_log = logging.getLogger(__name__)
_FIRST_RETRY_S = 0.05
_LAST_RETRY_S = 0.4
_CLOCK_PERIOD_S = 1.0
_GONE_AFTER_MS = 60_000
_NO_PLACE_FOR_ALL_MS = 1
_LOOK_UP = 1000

T = TypeVar("T")


class StreamError(WorkerError):
    """The server refuses what this product needs of it; the message says what to change."""


class RedisStream:
    """The frames of a deployment on a single server or a Redis Cluster, as one consumer."""

    def __init__(self, settings: StreamSettings, consumer: str) -> None:
        """Make the clients; nothing is sent before `join`.

        Args:
            settings: where the server is and how the stream is laid out.
            consumer: this replica's name in the group; never used by two processes.
        """
        self._settings = settings
        self._consumer = consumer
        partitions = tuple(range(settings.partitions))
        # One command reads all partitions of one server; a cluster spreads them over several.
        self.lanes: Sequence[Sequence[int]] = (
            [(partition,) for partition in partitions] if settings.cluster else [partitions]
        )
        block_s = settings.block_ms / 1000
        self._reader = connect(settings.url, cluster=settings.cluster, timeout_s=block_s + 2.0)
        self._writer = connect(settings.url, cluster=settings.cluster, timeout_s=2.0)
        self._scripts = {
            name: self._writer.register_script(script_text(name))
            for name in ("admit", "commit", "hold", "leave", "reclaim")
        }
        self.is_available = True
        self._retry_s = _FIRST_RETRY_S
        self._turn = 0
        self._reclaim_at_s = 0.0
        self._reclaim_from: list[int] = []
        self._clock_at_s = 0.0
        self._clock_offset_ms = 0.0

    async def join(self) -> None:
        """See `FrameStream.join`.

        Raises:
            StreamError: the server is too old, or refuses a command.
        """
        for partition in range(self._settings.partitions):
            try:
                await self._writer.xgroup_create(
                    keys.frames(partition), keys.GROUP, id="0", mkstream=True
                )
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise StreamError(f"the server refuses to make the group: {error}") from error
            await self._leave(partition, consumer="")
        await self._read_clock()

    async def read(self, lane: Sequence[int], places: int) -> list[Entry]:
        """See `FrameStream.read`."""
        # COUNT is per stream. With fewer places than partitions, some of them wait their turn.
        if places >= len(lane):
            asked, block_ms = lane, self._settings.block_ms
        else:
            self._turn = (self._turn + places) % len(lane)
            asked = [lane[(self._turn + step) % len(lane)] for step in range(places)]
            block_ms = _NO_PLACE_FOR_ALL_MS
        streams: Any = {keys.frames(partition): ">" for partition in asked}
        try:
            answer: Any = await self._reader.xreadgroup(
                keys.GROUP, self._consumer, streams, count=places // len(asked), block=block_ms
            )
        except UNAVAILABLE as error:
            await self._pause(error)
            return []
        except ResponseError as error:
            await self._mend(error)
            return []
        self.is_available = True
        by_name = {keys.frames(partition).encode(): partition for partition in asked}
        return [
            Entry(by_name[name], entry_id.decode(), fields)
            for name, rows in answer
            for entry_id, fields in rows
            if fields is not None
        ]

    async def reclaim(self) -> list[Entry]:
        """See `FrameStream.reclaim`; looks at every partition four times a lease."""
        now_s = time.monotonic()
        if now_s >= self._reclaim_at_s:
            self._reclaim_at_s = now_s + self._settings.lease_ms / 4000
            self._reclaim_from = list(range(self._settings.partitions))
        try:
            await self._read_clock()
            while self._reclaim_from:
                partition = self._reclaim_from[-1]
                found = await self._run(
                    "reclaim",
                    [keys.frames(partition)],
                    [self._settings.lease_ms, self._settings.max_deliveries],
                )
                if found:
                    return [_reclaimed(partition, found)]
                self._reclaim_from.pop()
        except UNAVAILABLE as error:
            await self._pause(error)
        except ResponseError as error:
            await self._mend(error)
        return []

    async def hold(self, entries: Sequence[Entry]) -> set[str]:
        """See `FrameStream.hold`; an unreachable server is no reason to give up on an entry."""
        lost: set[str] = set()
        for partition, held in _by_partition(entries, lambda entry: entry).items():
            try:
                ids = [entry.id for entry in held]
                lost.update(
                    gone.decode() for gone in await self._run("hold", [keys.frames(partition)], ids)
                )
            except FAILURES as error:
                _log.warning("held entries could not be kept alive: %s", error)
        return lost

    async def commit(self, commits: Sequence[Commit]) -> list[Fate]:
        """See `FrameStream.commit`."""
        groups = _by_partition(commits, lambda commit: commit.entry)
        fates = await asyncio.gather(
            *(
                self._admit(group)
                if partition == NO_PARTITION
                else self._commit_partition(partition, group)
                for partition, group in groups.items()
            )
        )
        fate_of = {
            (partition, commit.entry.id): fate
            for (partition, group), answer in zip(groups.items(), fates, strict=True)
            for commit, fate in zip(group, answer, strict=True)
        }
        return [fate_of[commit.entry.partition, commit.entry.id] for commit in commits]

    def now_ms(self) -> int:
        """See `FrameStream.now_ms`; the offset to the server's clock is measured once a second."""
        return int(time.time() * 1000 + self._clock_offset_ms)

    async def leave(self) -> None:
        """See `FrameStream.leave`."""
        try:
            for partition in range(self._settings.partitions):
                await self._leave(partition, self._consumer)
        except UNAVAILABLE as error:
            # Nothing is lost by it: the next replica that starts removes consumers long silent.
            _log.warning("left without saying so, the server can't be reached: %s", error)
        finally:
            await self._reader.aclose()
            await self._writer.aclose()

    async def _admit(self, commits: Sequence[Commit]) -> list[Fate]:
        return [await self._admit_one(commit) for commit in commits]

    async def _admit_one(self, commit: Commit) -> Fate:
        while True:
            if commit.deadline_ms is not None and self.now_ms() > commit.deadline_ms:
                return Fate.EXPIRED
            if commit.camera_id is None or commit.seq is None:
                return Fate.COMMITTED
            partition = keys.partition_of(commit.camera_id, self._settings.partitions)
            seen = keys.seen(partition, commit.camera_id)
            try:
                is_new = await self._scripts["admit"](keys=[seen], args=divmod(commit.seq, 1 << 32))
            except UNAVAILABLE as error:
                await self._pause(error)
            except ResponseError as error:
                _log.error("the anti-replay window can't be used: %s", error)
                return Fate.BLOCKED
            else:
                return Fate.COMMITTED if is_new else Fate.REPLAYED

    async def _commit_partition(self, partition: int, commits: Sequence[Commit]) -> list[Fate]:
        names = [keys.frames(partition), keys.decisions(partition), keys.dead(partition)]
        args: list[Any] = [
            self._settings.max_decisions,
            self._settings.max_camera_decisions,
            self._settings.max_dead_letters,
        ]
        for commit in commits:
            camera_id = commit.camera_id or ""
            names += [keys.camera_decisions(partition, camera_id), keys.seen(partition, camera_id)]
            args += _commit_args(commit)
        is_reply_lost = False
        while True:
            try:
                answer = await self._run("commit", names, args)
                fates = [Fate(number) for number in answer]
                return await self._look_up(commits, fates) if is_reply_lost else fates
            except UNAVAILABLE as error:
                is_reply_lost = True
                await self._pause(error)
            except ResponseError as error:
                if not await self._mend(error):
                    continue
                return [Fate.NOT_OWNER] * len(commits)  # the group is new: the entries are gone

    async def _look_up(self, commits: Sequence[Commit], fates: list[Fate]) -> list[Fate]:
        """Tell "committed by the try whose reply got lost" from "another replica was faster"."""
        stream = keys.decisions(commits[0].entry.partition)
        rows: Any = await self._writer.xrevrange(stream, count=_LOOK_UP)
        mine = {
            decision["entry_id"]
            for decision in (msgpack.unpackb(fields[b"d"]) for _, fields in rows)
            if decision["replica"] == self._consumer
        }
        return [
            Fate.COMMITTED if fate is Fate.NOT_OWNER and commit.entry.id in mine else fate
            for commit, fate in zip(commits, fates, strict=True)
        ]

    async def _run(self, name: str, names: list[str], args: Sequence[Any]) -> Any:  # noqa: ANN401
        answer = await self._scripts[name](keys=names, args=[keys.GROUP, self._consumer, *args])
        self.is_available = True
        return answer

    async def _leave(self, partition: int, consumer: str) -> None:
        await self._scripts["leave"](
            keys=[keys.frames(partition)], args=[keys.GROUP, consumer, _GONE_AFTER_MS]
        )

    async def _read_clock(self) -> None:
        now_s = time.monotonic()
        if now_s < self._clock_at_s:
            return
        before_ms = time.time() * 1000
        (figures,) = await read_backlog(self._writer, [0])
        after_ms = time.time() * 1000
        self._clock_at_s = now_s + _CLOCK_PERIOD_S
        self._clock_offset_ms = figures.server_ms - (before_ms + after_ms) / 2

    async def _pause(self, error: Exception) -> None:
        """Wait a little longer after each failure in a row; the server is asked again after it."""
        _log.warning("the server can't be reached, trying again: %s", error)
        self._retry_s = (
            _FIRST_RETRY_S if self.is_available else min(self._retry_s * 2, _LAST_RETRY_S)
        )
        self.is_available = False
        await asyncio.sleep(self._retry_s)

    async def _mend(self, error: ResponseError) -> bool:
        """Make the group again if the server lost it; True if that was it."""
        if "NOGROUP" not in str(error):
            _log.error("the server refuses a command, trying again: %s", error)
            await asyncio.sleep(_LAST_RETRY_S)
            return False
        _log.error("the server lost its data; the group is made again: %s", error)
        try:
            await self.join()
        except UNAVAILABLE as unavailable:
            await self._pause(unavailable)
        return True


def _commit_args(commit: Commit) -> list[str | bytes | int]:
    deadline_ms = "" if commit.deadline_ms is None else commit.deadline_ms
    window = ("", "") if commit.seq is None else divmod(commit.seq, 1 << 32)
    shown = "1" if commit.camera_id else ""
    return [commit.entry.id, commit.decision, commit.error, deadline_ms, shown, *window]


def _reclaimed(partition: int, found: list[Any]) -> Entry:
    entry_id, deliveries, flat = found
    fields = None if flat is None else dict(zip(flat[::2], flat[1::2], strict=True))
    return Entry(partition, entry_id.decode(), fields, deliveries)


def _by_partition(items: Sequence[T], entry_of: Callable[[T], Entry]) -> dict[int, list[T]]:
    groups: dict[int, list[T]] = defaultdict(list)
    for item in items:
        groups[entry_of(item).partition].append(item)
    return groups
