"""The stream's reads: what is new, and what is this consumer's without its having seen it."""

import logging
from collections.abc import Callable, Iterable

from redis.exceptions import ResponseError

from workers.settings import StreamSettings
from workers.stream.connection import Servers
from workers.stream.delivery import Entry
from workers.stream.failure import FAILURES, Failure, failure_of, failure_of_answer
from workers.stream.scripts import packed, script
from workers.stream.shard_group import ShardGroup, entry_of
from workers.wire import keys

_CLOCK_PERIOD_S = 1.0
_MAP_AGE_S = 2.0
# What comes into a stream in no usual way, as a key that is restored, is found after this time.
_LOOK_S = 30.0

_log = logging.getLogger(__name__)


class Reader:
    """Reads in the name of one consumer, a shard group at a time."""

    def __init__(
        self,
        servers: Servers,
        blocking: Servers,
        settings: StreamSettings,
        consumer: str,
        monotonic: Callable[[], float],
    ) -> None:
        """Read nothing yet; `blocking` has connections of its own for reads that wait."""
        self._servers = servers
        self._blocking = blocking
        self._settings = settings
        self._consumer = consumer
        self._monotonic = monotonic
        self._clock_at_s: dict[ShardGroup, float] = {}

    async def read(self, group: ShardGroup, slots: int) -> list[Entry]:
        """See `FrameStream.read`; some of them may be in hand already."""
        found: list[Entry] = []
        # When one has waited in vain, the next one may wait at once.
        was_quiet, group.is_quiet = group.is_quiet, False
        try:
            await self.sample_clock(group)
            await self._recover(group, slots, found)
            if not found and not was_quiet:
                await self._deliver(group, slots, found)
            if not found and self._settings.cluster:
                await group.poll_pause()
                if await self._has_more(group):
                    await self._deliver(group, slots, found)
                group.is_quiet = not found
            elif not found:
                await self._await_first(group, found)
                group.is_quiet = not (found or group.has_blocked)
            group.answered()
        except FAILURES as error:
            if failure_of(error).may_have_run:
                group.to_recover.update(group.partitions)
            # Where one command asked for several partitions, the next read tells which it is.
            if not found:
                await group.pause(error)
        return found

    async def sample_clock(self, group: ShardGroup) -> None:
        """Ask the group's server for its time, if it was not asked lately.

        Raises:
            redis.exceptions.RedisError: it does not answer.
        """
        asked_s = self._monotonic()
        if asked_s < self._clock_at_s.get(group, 0.0) or not group.partitions:
            return
        server = await self._servers.of(group.key)
        seconds, microseconds = await server.execute("TIME")
        self._servers.refresh(_MAP_AGE_S)
        group.clock.sample(seconds * 1000 + microseconds / 1000, asked_s)
        self._clock_at_s[group] = asked_s + _CLOCK_PERIOD_S

    async def _deliver(self, group: ShardGroup, slots: int, found: list[Entry]) -> None:
        """Find what is there, up to `slots`; what one call found stays if the next one fails."""
        for names in await self._servers.groups(map(keys.frames, group.usable())):
            server = await self._servers.of(names[0])
            args = [keys.GROUP, self._consumer, slots - len(found), *names]
            asked_ms, failed = group.clock.now_ms(), []
            rows, emptied = await server.run(script("read"), [], args)
            for index, answer in rows:
                name = names[index - 1]
                if isinstance(answer, bytes):
                    failed.append((name, answer.decode(errors="replace")))
                    continue
                since_ms = group.emptied_at_ms.get(keys.number_of(name), 0)
                found += [entry_of(name, each, 1, flat, since_ms) for each, flat in answer]
            self._saw_empty(group, (names[index - 1] for index in emptied), asked_ms)
            for name, answer in failed:
                await self._deal_with(name, answer, group)
            if len(found) >= slots:
                return

    async def _await_first(self, group: ShardGroup, found: list[Entry]) -> None:
        """Wait a moment for new entries, and find the first of them: one read covers them all."""
        names = [keys.frames(partition) for partition in group.usable()]
        if not names:
            await group.poll_pause()
            return
        server, asked_ms = await self._blocking.of(names[0]), group.clock.now_ms()
        head = ("XREADGROUP", "GROUP", keys.GROUP, self._consumer, "COUNT", 1)
        block = ("BLOCK", self._settings.block_ms, "STREAMS")
        answer = await server.execute(*head, *block, *names, *(">" for _ in names))
        if not answer:
            self._saw_empty(group, names, asked_ms)
        for name, rows in answer or ():
            partition = keys.number_of(name.decode())
            since_ms = group.emptied_at_ms.get(partition, 0)
            found += [
                Entry(partition, entry_id.decode(), fields, not_before_ms=since_ms)
                for entry_id, fields in rows
                if fields is not None
            ]

    async def _has_more(self, group: ShardGroup) -> bool:
        """Say whether there may be what the last look at all partitions did not find.

        A cluster's partitions are in as many slots, which no read covers. That nothing was added
        to any of them is told by one number, however many there are.
        """
        if not group.partitions:
            return False
        server, now_s = await self._servers.of(group.key), self._monotonic()
        try:
            statistics = await server.execute("INFO", "commandstats")
            num_added = statistics["cmdstat_xadd"]["calls"]
        except (ResponseError, KeyError):
            return True  # it does not tell: nothing was ever added, or an account may not ask
        is_same = group.num_added == (server, num_added)
        group.num_added = (server, num_added)
        if is_same and not group.has_blocked and now_s < group.look_at_s:
            return False
        group.look_at_s = now_s + _LOOK_S
        return True

    async def _recover(self, group: ShardGroup, slots: int, found: list[Entry]) -> None:
        """Find entries that are this consumer's on the server and in nobody's hands."""
        for partition in group.to_recover.intersection(group.usable()):
            name = keys.frames(partition)
            shared = packed(slots=slots - len(found), has=list(group.in_hand[partition]))
            args = [keys.GROUP, self._consumer, shared]
            try:
                rows = await self._servers.run(script("recover"), [name], args)
            except ResponseError as error:
                if failure_of(error).is_transient:
                    raise
                group.to_recover.discard(partition)  # nothing is there, or the read will tell
                continue
            found += [entry_of(name, *row) for row in rows]
            if len(found) >= slots:
                return
            group.to_recover.discard(partition)

    async def _deal_with(self, name: str, answer: str, group: ShardGroup) -> None:
        """Do about one partition's refusal what can be done."""
        partition, failure = keys.number_of(name), failure_of_answer(answer)
        if failure is Failure.NO_GROUP:
            _log.error("%s: the server lost its data; the group is made again: %s", name, answer)
            try:
                await self._servers.run(script("join"), [name], [keys.GROUP])
            except ResponseError as error:
                if failure_of(error).is_transient:
                    raise
                group.block(partition, str(error))
        elif failure is Failure.MOVED:
            await self._servers.execute(name, "EXISTS", name)
        elif not failure.is_transient:
            group.block(partition, answer)

    @staticmethod
    def _saw_empty(group: ShardGroup, names: Iterable[str], asked_ms: int) -> None:
        group.emptied_at_ms.update(dict.fromkeys(map(keys.number_of, names), asked_ms))
