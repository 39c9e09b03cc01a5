"""The stream's backlog: how much there is to do. Autoscaling, status and metrics go by it.

The words mean the same everywhere: an entry is *waiting* while no replica was given it, *pending*
from then until its decision is committed. A replica calls the frames it works on *in flight*.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.exceptions import ResponseError

from workers.stream.connection import Servers
from workers.stream.scripts import script
from workers.wire import keys


@dataclass(frozen=True, slots=True)
class Backlog:
    """Figures of one partition at one instant, or their `total`.

    Attributes:
        entries: in the stream, waiting or pending.
        pending: entries that some replica was given and has not committed yet.
        added: entries ever added; its difference over time is the arrival rate.
        oldest_at_ms: when the oldest entry arrived, Unix ms; 0 if there is none.
        server_ms: the server's clock at that instant, Unix ms.
    """

    entries: int
    pending: int
    added: int
    oldest_at_ms: int
    server_ms: int

    @property
    def waiting(self) -> int:
        """Entries that no replica was given yet."""
        return max(0, self.entries - self.pending)

    @property
    def oldest_age_ms(self) -> int:
        """How long the oldest entry has been there, ms; 0 if there is none."""
        return max(0, self.server_ms - self.oldest_at_ms) if self.oldest_at_ms else 0


NOTHING = Backlog(entries=0, pending=0, added=0, oldest_at_ms=0, server_ms=0)


def total(partitions: Sequence[Backlog]) -> Backlog:
    """Return the figures of several partitions as one."""
    arrivals_ms = [each.oldest_at_ms for each in partitions if each.oldest_at_ms]
    return Backlog(
        entries=sum(each.entries for each in partitions),
        pending=sum(each.pending for each in partitions),
        added=sum(each.added for each in partitions),
        oldest_at_ms=min(arrivals_ms, default=0),
        server_ms=max((each.server_ms for each in partitions), default=0),
    )


async def read_backlog(servers: Servers, partitions: Iterable[int]) -> list[Backlog]:
    """Return the figures of each partition, in their order, each of one instant of its server.

    Raises:
        redis.exceptions.RedisError: a server can't be reached, or refuses.
    """
    names = [keys.frames(partition) for partition in partitions]
    found: dict[str, Backlog] = {}
    for group in await servers.groups(names):
        server = await servers.of(group[0])
        rows = await server.run(script("backlog"), [], [keys.GROUP, *group])
        for name, row in zip(group, rows, strict=True):
            if isinstance(row, bytes):
                servers.look_again()  # a failover shows here alone: the script itself went through
                raise ResponseError(f"{name}: {row.decode()}")
            found[name] = Backlog(*row)
    return [found[name] for name in names]
