"""What the servers say of a run while it goes on, and of its account when it is over."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from loadtest.counts import Counts
from loadtest.result import Check
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.wire import keys

_PATIENCE_S = 10.0
_POLL_S = 0.1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ends:
    """How many entries were ever added, all partitions together; None: no such stream yet."""

    frames: int
    decisions: int


class Watch:
    """Asks the servers of a deployment."""

    def __init__(self, servers: Servers, partitions: int) -> None:
        """Ask nothing yet."""
        self._servers = servers
        self._partitions = partitions
        self.waiting: int | None = None
        self.pending: int | None = None
        self.server_mb: float | None = None

    async def look(self) -> None:
        """Look once; a server that does not answer leaves nothing known."""
        self.waiting = self.pending = self.server_mb = None
        try:
            async with asyncio.timeout(0.7):
                figures = total(await read_backlog(self._servers, range(self._partitions)))
                self.waiting, self.pending = figures.waiting, figures.pending
                names = [keys.frames(each) for each in range(self._partitions)]
                used = 0
                for group in await self._servers.groups(names):
                    info: Any = await self._servers.execute(group[0], "INFO", "memory")
                    used += int(info["used_memory"])
                self.server_mb = round(used / 2**20, 2)
        except FAILURES:  # a TimeoutError is an OSError
            return

    async def ends(self) -> Ends:
        """Return where the streams end.

        Raises:
            redis.exceptions.RedisError: a server can't be reached.
        """
        partitions = range(self._partitions)
        frames = [await self._added(keys.frames(each)) for each in partitions]
        decisions = [await self._added(keys.decisions(each)) for each in partitions]
        return Ends(sum(frames), sum(decisions))

    async def left(self) -> tuple[int, int]:
        """Return how many frames are in the streams, and how many of them pending.

        Raises:
            redis.exceptions.RedisError: a server can't be reached.
        """
        found = total(await read_backlog(self._servers, range(self._partitions)))
        return found.entries, found.pending

    async def _added(self, name: str) -> int:
        if not await self._servers.execute(name, "EXISTS", name):
            return 0
        info: Any = await self._servers.execute(name, "XINFO STREAM", name)
        return int(info["entries-added"])


async def server_checks(watch: Watch, before: Ends, counts: Counts, lost: int) -> list[Check]:
    """Check the account against the servers themselves, once nothing moves any more."""
    try:
        left, pending = await _patiently(lambda: _settled(watch))
        after = await _patiently(watch.ends)
    except FAILURES as error:
        return [Check("the server agrees", False, f"it can't be asked: {error}")]
    statuses, said = counts.statuses, counts.said.total()
    acknowledged = sum(count for (_, each), count in statuses.items() if each == "acknowledged")
    arrived = sum(count for (_, each), count in statuses.items() if each == "unknown_arrived")
    added, decided = after.frames - before.frames, after.decisions - before.decisions
    ours = acknowledged + arrived
    seen = said + counts.doubled + counts.strangers + counts.presentations.total()
    return [
        Check(
            "no frame is left on the server",
            left == pending == 0,
            f"{left} in the streams, {pending} of them pending",
        ),
        Check(
            "the server has taken as many frames as were acknowledged",
            ours <= added <= ours + counts.strangers,
            f"{added} added, {acknowledged} acknowledged, {arrived} arrived without a reply, "
            f"{counts.strangers} of others",
        ),
        Check(
            "each decision on the server was read",
            decided == seen,
            f"{decided} added, {seen} read; {lost} frames without one",
        ),
    ]


async def _patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask again for a while: after a failover the map of a cluster has to be learnt first."""
    end_s = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return await ask()
        except FAILURES:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(_POLL_S)


async def _settled(watch: Watch) -> tuple[int, int]:
    left, pending = await watch.left()
    for _ in range(int(_PATIENCE_S / _POLL_S)):
        if not left:
            break
        await asyncio.sleep(_POLL_S)
        left, pending = await watch.left()
    return left, pending
