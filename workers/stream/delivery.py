"""What a stream hands out and takes back: the seam between the pipeline and the server.

`workers/stream/redis_stream.py` has the real stream, `workers/testing.py` has one in memory; one
contract test runs against both.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol


class EntryKey(NamedTuple):
    """What names an entry among all entries: ids are unique in their partition only."""

    partition: int
    id: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One delivered stream entry, owned by this consumer until it is committed.

    Attributes:
        partition: whose frames stream it is in.
        id: the entry's id; its first part is the server's Unix ms of arrival.
        fields: the entry's fields; None once it was delivered too often and is given up on.
        deliveries: how often it was handed out, this time included.
        not_before_ms: Unix ms at which it had not arrived yet, as far as that is known.
    """

    partition: int
    id: str
    fields: Mapping[bytes, bytes] | None
    deliveries: int = 1
    not_before_ms: int = 0

    @property
    def key(self) -> EntryKey:
        """What names it."""
        return EntryKey(self.partition, self.id)

    @property
    def arrived_at_ms(self) -> int:
        """Unix ms, by the server's clock (unless a camera chose the id itself).

        Ids never fall: after the server's clock was set back they stand still, and would make every
        frame look old.
        """
        return max(int(self.id.partition("-")[0]), self.not_before_ms)


@dataclass(frozen=True, slots=True)
class SeqUse:
    """A proven frame's use of its seq, to be checked and remembered.

    Attributes:
        camera_id: whose.
        key_id: of the key that proved it: a new key has a memory of its own.
        seq: 0 to 2**64 - 1.
        until_ms: Unix ms until which a second frame with this seq is a replay.
    """

    camera_id: str
    key_id: str
    seq: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class PresentationStep:
    """A judged frame's part in the verdict on its presentation.

    Attributes:
        key_id: of the key that proved the frame.
        presentation_id: as the camera tracks it.
        evidence: log likelihood ratio, nats: above 0 for a frame that was accepted.
        verdicts: bytes of the field `p`, and `s`, of what this frame may bring about: what itself
            speaks for, `undecided` and, if it was accepted, `too_many_attempts`.
    """

    key_id: str
    presentation_id: str
    evidence: float
    verdicts: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Commit:
    """One entry's decision, ready to be made visible.

    Attributes:
        entry: the entry to ack and delete with it.
        decision: the bytes of the field `d`.
        signature: the field `s`, for the door; empty where the frame's origin is not proven.
        camera_id: whose stream shows it too; None where the frame's origin is not proven.
        seq: its use of its seq; None: neither checked nor remembered.
        deadline_ms: Unix ms after which this decision must not be committed; None: never.
        error: why the frame is given up on; it then leaves a dead letter. Empty: it is not.
        presentation: its part in the verdict on its presentation; needs `camera_id`.
    """

    entry: Entry
    decision: bytes
    signature: bytes = b""
    camera_id: str | None = None
    seq: SeqUse | None = None
    deadline_ms: int | None = None
    error: str = ""
    presentation: PresentationStep | None = None


class CommitResult(IntEnum):
    """What became of a commit; the scripts are given these names and numbers."""

    COMMITTED = 1
    NOT_OWNER = 2
    """Another replica has taken the entry over, or the stream no longer has it."""
    EXPIRED = 3
    """The deadline has passed: the decision must not become visible."""
    REPLAYED = 4
    """The seq was used before."""
    MEMORY_FULL = 5
    """Too many seqs of the camera are remembered to take another one."""
    BLOCKED = 6
    """A key of the entry can't be written; the log says which, and why."""


class FrameStream(Protocol):
    """What the pipeline needs of a stream."""

    groups: Sequence[Sequence[int]]
    """The partitions, in shard groups: one for each server that had any when it was joined.

    They name the groups from then on; a partition that moves goes over to another one.
    """

    async def join(self) -> None:
        """Become a member of the consumer group, making what is missing; waits for the server."""
        ...

    async def read(self, group: Sequence[int], slots: int) -> list[Entry]:
        """Return up to `slots` new entries of a shard group; waits a moment for the first.

        Entries that were delivered to this consumer in a reply that got lost are among them. An
        unreachable server is waited for: the answer is then [], after a pause.
        """
        ...

    async def reclaim(self, group: Sequence[int], slots: int) -> list[Entry]:
        """Return entries of consumers that have been silent for the lease; [] if there are none.

        Up to `slots` that were handed out once before; one that was handed out more often comes
        alone, for it may be what ended the others.
        """
        ...

    async def beat(self) -> None:
        """Say that this consumer is alive; three times a lease keeps its entries its own."""
        ...

    async def commit(
        self, commits: Sequence[Commit], on_wait: Callable[[], None] | None = None
    ) -> list[CommitResult]:
        """Make decisions of one shard group visible, each one fenced.

        An unreachable server is waited for; `on_wait` is called before each pause.
        """
        ...

    def release(self, entry: Entry, *, is_ours: bool) -> None:
        """Note that an entry is in flight no more; one that `is_ours` still is read again later."""
        ...

    async def admit(self, use: SeqUse) -> CommitResult:
        """Check and remember the seq of a frame that is in no stream.

        Returns:
            COMMITTED, REPLAYED, MEMORY_FULL, BLOCKED, or EXPIRED if the server was away for
            so long that it makes no difference any more.
        """
        ...

    def group_of(self, partition: int) -> Sequence[int]:
        """Return the one of `groups` whose server has a partition now."""
        ...

    def is_available(self, group: Sequence[int]) -> bool:
        """Say whether the group's server answered the last time it was asked."""
        ...

    def now_ms(self, partition: int) -> int:
        """Return the clock of a partition's server, Unix ms; it never steps back."""
        ...

    async def leave(self) -> None:
        """Leave the group; entries still in flight are left to be reclaimed."""
        ...
