"""What a stream hands out and takes back: the seam between the pipeline and the server.

`workers/stream/redis_stream.py` has the real stream, `workers/testing.py` has one in memory; one
contract test runs against both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

NO_PARTITION = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivered stream entry, owned by this consumer until it is committed.

    Attributes:
        partition: whose frames stream it is of; NO_PARTITION for a frame of no stream.
        id: the entry's id; its first part is the server's Unix ms of arrival.
        fields: the entry's fields; None once it was delivered too often and is given up on.
        deliveries: how often it was handed out, this time included.
    """

    partition: int
    id: str
    fields: Mapping[bytes, bytes] | None
    deliveries: int = 1

    @property
    def arrived_at_ms(self) -> int:
        """Unix ms, by the server's clock (unless a camera chose the id itself)."""
        return int(self.id.partition("-")[0])


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry's decision, ready to be made visible.

    Attributes:
        entry: the entry to ack and delete with it.
        decision: the bytes of the field `d`.
        camera_id: whose stream shows it too; None where the frame's origin is not proven.
        seq: to be noted in the camera's anti-replay window; None: not checked, not noted.
        deadline_ms: Unix ms after which this decision must not be committed; None: never.
        error: why the frame is given up on; it then leaves a dead letter. Empty: it is not.
    """

    entry: Entry
    decision: bytes
    camera_id: str | None = None
    seq: int | None = None
    deadline_ms: int | None = None
    error: str = ""


class Fate(IntEnum):
    """What became of a commit; the numbers are those of `scripts/commit.lua`."""

    COMMITTED = 1
    NOT_OWNER = 2
    REPLAYED = 3
    EXPIRED = 4
    BLOCKED = 5


class FrameStream(Protocol):
    """What the pipeline needs of a stream."""

    lanes: Sequence[Sequence[int]]
    """The partitions, grouped by what one read can cover."""
    is_available: bool
    """Whether the server answered the last time it was asked."""

    async def join(self) -> None:
        """Become a member of the consumer group, making what is missing."""
        ...

    async def read(self, lane: Sequence[int], places: int) -> list[Entry]:
        """Return up to `places` new entries of a lane's partitions; waits a moment for the first.

        An unreachable server is waited for: the answer is then [], after a pause.
        """
        ...

    async def reclaim(self) -> list[Entry]:
        """Return at most one entry whose consumer has been silent for the lease."""
        ...

    async def hold(self, entries: Sequence[Entry]) -> set[str]:
        """Keep `entries` from being reclaimed; return the ids that are no longer ours."""
        ...

    async def commit(self, commits: Sequence[Commit]) -> list[Fate]:
        """Make decisions visible, each one fenced; waits for an unreachable server.

        For an entry of no stream only age and seq are checked, and the seq is noted.
        """
        ...

    def now_ms(self) -> int:
        """Return the server's clock, Unix ms."""
        ...

    async def leave(self) -> None:
        """Leave the group; entries still held are left to be reclaimed."""
        ...
