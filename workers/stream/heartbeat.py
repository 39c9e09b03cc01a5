"""The stream's heartbeat: one consumer says that it is alive, and sees who of the others is.

On a cluster it does so in several copies of the members, each on its own: a server that is away
neither stops the beats elsewhere nor hides who is alive. Who is silent to a shard group is read
from the copies on that group's server, if there are any: a replica that reaches that server no
more can commit nothing there.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from workers.settings import StreamSettings
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of
from workers.stream.layout import copies
from workers.stream.members import Members
from workers.stream.scripts import packed, script
from workers.stream.server import Server
from workers.stream.shard_group import ShardGroup
from workers.wire import keys

_GONE_AFTER_S = 60.0

_log = logging.getLogger(__name__)


class Heartbeat:
    """The beats of one consumer, and what they tell of the others."""

    def __init__(
        self,
        servers: Servers,
        settings: StreamSettings,
        consumer: str,
        monotonic: Callable[[], float],
    ) -> None:
        """Send nothing yet."""
        self.trouble = ""
        self._servers = servers
        self._settings = settings
        self._consumer = consumer
        self._monotonic = monotonic
        self._members = {
            copy: Members(consumer, settings.lease_ms / 1000) for copy in copies(servers)
        }
        self._server_of: dict[int, Server] = {}
        self._beating: dict[int, asyncio.Task[None]] = {}
        self._num_beats = 0
        self._tidy_at_s = monotonic() + _GONE_AFTER_S

    async def beat(self, groups: Sequence[ShardGroup]) -> None:
        """Beat in every copy; one whose server does not answer is not waited for."""
        self._num_beats += 1
        for copy in self._members:
            if copy not in self._beating or self._beating[copy].done():
                self._beating[copy] = asyncio.create_task(self._beat_in(copy, groups))
        # A single server is waited for: without it there is nothing to be late for.
        limit_s = self._settings.lease_ms / 6000 if self._servers.is_cluster else None
        await asyncio.wait(self._beating.values(), timeout=limit_s)
        if self._monotonic() >= self._tidy_at_s:
            self._tidy_at_s = self._monotonic() + _GONE_AFTER_S
            await self._tidy(groups)

    def silent(self, server: Server) -> set[str]:
        """Return which consumers are silent, as far as the entries on a server go."""
        seen = self._watching(server)
        silent = set().union(*(members.silent() for members in seen))
        return silent.difference(*(members.alive() for members in seen))

    def saw_holders(self, server: Server, names: Iterable[bytes]) -> None:
        """Take in who has entries on a server."""
        holders = [name.decode(errors="replace") for name in names]
        for members in self._watching(server):
            members.saw_holders(holders, self._monotonic())

    async def leave(self, groups: Sequence[ShardGroup]) -> None:
        """Be no member any more, wherever that can be said.

        Raises:
            redis.exceptions.RedisError: a server can't be reached, or refuses.
        """
        await self.aclose()
        rest: list[bytes] = []
        for copy in self._members:
            name = keys.members(copy)
            try:
                await self._servers.execute(name, "HDEL", name, self._consumer)
                rest += await self._servers.execute(name, "HKEYS", name)
            except FAILURES as error:
                # Nothing is lost by it: the others see that this one is silent.
                _log.warning("%s: left without saying so: %s", name, error)
        await self._remove_strangers(groups, rest)

    async def aclose(self) -> None:
        """Beat no more."""
        for task in self._beating.values():
            task.cancel()
        if self._beating:
            await asyncio.wait(self._beating.values())

    def _watching(self, server: Server) -> list[Members]:
        near = [copy for copy, owner in self._server_of.items() if owner is server]
        return [self._members[copy] for copy in near or self._members]

    async def _beat_in(self, copy: int, groups: Sequence[ShardGroup]) -> None:
        name, members = keys.members(copy), self._members[copy]
        try:
            server = self._server_of[copy] = await self._servers.of(name)
            near = [
                each
                for each in groups
                if each.partitions
                and each.clock.is_sampled
                and await self._servers.of(each.key) is server
            ]
            now_ms = max((group.clock.now_ms() for group in near), default=0)
            beat = f"{now_ms}-{self._num_beats}"
            flat = await self._servers.run(script("beat"), [name], [self._consumer, beat])
        except FAILURES as error:
            members.lost_sight()
            self.trouble = "" if failure_of(error).is_transient else f"{name}: {error}"
            _log.warning("%s can't be read, nobody is judged by it: %s", name, error)
            return
        self.trouble = ""
        beats = {
            member.decode(errors="replace"): value
            for member, value in zip(flat[::2], flat[1::2], strict=True)
        }
        members.saw_beats(beats, self._monotonic())
        for group in near:
            group.clock.raise_to(max(map(_time_of, beats.values())))

    async def _tidy(self, groups: Sequence[ShardGroup]) -> None:
        """Forget who has been silent for long, here and on the servers."""
        for copy, members in self._members.items():
            gone = members.silent(_GONE_AFTER_S)
            try:
                if gone:
                    name = keys.members(copy)
                    await self._servers.execute(name, "HDEL", name, *gone)
                    members.forget(gone)
                    alive = [self._consumer.encode(), *(each.encode() for each in members.alive())]
                    await self._remove_strangers(groups, alive)
            except FAILURES as error:
                _log.warning("consumers that are gone are not tidied up: %s", error)

    async def _remove_strangers(
        self, groups: Sequence[ShardGroup], members: Sequence[bytes]
    ) -> None:
        alive = packed(names=list(members))
        for partition in [each for group in groups for each in group.usable()]:
            await self._servers.run(script("leave"), [keys.frames(partition)], [keys.GROUP, alive])


def _time_of(beat: bytes) -> int:
    milliseconds = beat.partition(b"-")[0]
    return int(milliseconds) if milliseconds.isdigit() else 0
