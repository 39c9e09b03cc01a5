"""The stream's reclaim: entries of consumers that are silent go to one that is alive.

To look costs a command a partition, so it is done when somebody has fallen silent, and otherwise
only now and then: for entries of a consumer that was never seen to beat, and for those that are
this consumer's own without its knowing.
"""

import logging
from collections.abc import Callable

from workers.settings import StreamSettings
from workers.stream.connection import Servers
from workers.stream.delivery import Entry
from workers.stream.failure import FAILURES
from workers.stream.heartbeat import Heartbeat
from workers.stream.scripts import packed, script
from workers.stream.server import Server
from workers.stream.shard_group import ShardGroup, entry_of
from workers.wire import keys

# How many partitions are looked into a second while nobody has fallen silent.
_SWEPT_A_S = 8

_log = logging.getLogger(__name__)


class Reclaimer:
    """Takes entries over in the name of one consumer."""

    def __init__(
        self,
        servers: Servers,
        settings: StreamSettings,
        consumer: str,
        heartbeat: Heartbeat,
        monotonic: Callable[[], float],
    ) -> None:
        """Take nothing yet."""
        self._servers = servers
        self._settings = settings
        self._consumer = consumer
        self._heartbeat = heartbeat
        self._monotonic = monotonic
        self._next_s: dict[ShardGroup, float] = {}
        self._sweep_at_s: dict[ShardGroup, float] = {}
        self._swept: dict[ShardGroup, set[str]] = {}

    async def run(self, state: ShardGroup, slots: int) -> list[Entry]:
        """See `FrameStream.reclaim`; asks four times a lease, and on while something is found."""
        now_s = self._monotonic()
        if now_s < self._next_s.get(state, 0.0) or not (state.partitions and state.is_available):
            return []
        self._next_s[state] = now_s + self._settings.lease_ms / 4000
        try:
            server = await self._servers.of(state.key)
            silent = self._heartbeat.silent(server)
            self._swept[state] = self._swept.get(state, set()) & silent
            if self._swept[state] == silent and now_s < self._sweep_at_s.get(state, 0.0):
                return []
            found = await self._sweep(state, silent, slots)
        except FAILURES as error:
            state.to_recover.update(state.partitions)
            _log.warning("partitions %s: nothing could be reclaimed: %s", state.partitions, error)
            return []
        if found:
            self._next_s[state] = 0.0
        else:
            self._swept[state] = silent
            pause_s = max(self._settings.lease_ms / 1000, len(state.partitions) / _SWEPT_A_S)
            self._sweep_at_s[state] = now_s + pause_s
        return found

    async def _sweep(self, state: ShardGroup, silent: set[str], slots: int) -> list[Entry]:
        shared = packed(
            max_deliveries=self._settings.max_deliveries, slots=slots, silent=list(silent)
        )
        for names in await self._servers.groups(map(keys.frames, state.usable())):
            server = await self._servers.of(names[0])
            if found := await self._ask(state, server, names, shared):
                return found
        return []

    async def _ask(
        self, state: ShardGroup, server: Server, names: list[str], shared: bytes
    ) -> list[Entry]:
        args = [keys.GROUP, self._consumer, shared, *names]
        rows, holders, own = await server.run(script("reclaim"), [], args)
        self._heartbeat.saw_holders(server, holders)
        for index, count in own:
            # After a failover, a commit that was told can be undone: its entry is ours again.
            partition = keys.number_of(names[index - 1])
            if count > len(state.in_hand[partition]):
                state.to_recover.add(partition)
        return [
            entry_of(names[index - 1], entry_id, deliveries, fields)
            for index, entry_id, deliveries, fields in rows
        ]
