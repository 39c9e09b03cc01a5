"""How much there is to do: what autoscaling, status and metrics go by."""

from collections.abc import Iterable
from dataclasses import dataclass

from workers.stream.connection import AsyncClient
from workers.stream.lua import script_text
from workers.wire import keys


@dataclass(frozen=True, slots=True)
class Backlog:
    """Figures of one partition, all of one instant.

    Attributes:
        total: entries in the stream: waiting + pending.
        pending: entries that some replica holds.
        added: entries ever added; its difference over time is the arrival rate.
        oldest_at_ms: when the oldest entry arrived, Unix ms; 0 if there is none.
        server_ms: the server's clock at that instant, Unix ms.
    """

    total: int
    pending: int
    added: int
    oldest_at_ms: int
    server_ms: int

    @property
    def waiting(self) -> int:
        """Entries that nobody was given yet."""
        return max(0, self.total - self.pending)

    @property
    def oldest_age_ms(self) -> int:
        """How long the oldest entry has been there, ms; 0 if there is none."""
        return max(0, self.server_ms - self.oldest_at_ms) if self.oldest_at_ms else 0


async def read_backlog(client: AsyncClient, partitions: Iterable[int]) -> list[Backlog]:
    """Return the figures of each partition, each of one instant of the server.

    Raises:
        redis.exceptions.RedisError: the server can't be reached, or refuses.
    """
    script = client.register_script(script_text("backlog"))
    return [
        Backlog(*await script(keys=[keys.frames(partition)], args=[keys.GROUP]))
        for partition in partitions
    ]
