"""One shard group of the stream: the partitions that one server has, and how it fares."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from workers.stream.clock import ServerClock
from workers.stream.delivery import Entry, EntryKey
from workers.wire import keys

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 0.8
# A partition that can't be used is tried again, less and less often.
_FIRST_BLOCK_S = 2.0
_LAST_BLOCK_S = 30.0
_FIRST_POLL_S = 0.002
_LAST_POLL_S = 0.01
_IDLE_POLL_S = 0.15
_IDLE_AFTER_S = 1.0

_log = logging.getLogger(__name__)


class ShardGroup:
    """What a replica knows of a group's server, and what it was handed from there."""

    def __init__(
        self, partitions: Sequence[int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Believe the server to be there."""
        self.partitions = tuple(partitions)
        self.clock = ServerClock(monotonic)
        self.is_available = True
        # Partitions with entries that are this consumer's and in nobody's hands: the reply that
        # delivered them got lost, or they could not be committed.
        self.to_recover: set[int] = set()
        self.in_hand: dict[int, set[str]] = defaultdict(set)
        self.emptied_at_ms: dict[int, int] = {}  # when nothing waited in a partition, Unix ms
        self.is_quiet = False  # nothing had come when it was last asked
        # Who was asked last how many entries were ever added there, and what it told.
        self.num_added: tuple[object, int] | None = None
        self.look_at_s = 0.0  # when to look at all partitions, whatever that number tells
        self._monotonic = monotonic
        self._pause_s = _FIRST_PAUSE_S
        self._poll_s = _FIRST_POLL_S
        self._found_at_s = monotonic()
        self._blocked: dict[int, tuple[float, float]] = {}
        self._turn = 0

    @property
    def key(self) -> str:
        """Any key that its server has."""
        return keys.frames(self.partitions[0])

    def adopt(self, partition: int, other: "ShardGroup") -> None:
        """Take a partition over from another group, with all that is known of it."""
        self.partitions = (*self.partitions, partition)
        other.partitions = tuple(each for each in other.partitions if each != partition)
        self.clock.raise_to(other.clock.now_ms())
        self.in_hand[partition] = other.in_hand.pop(partition, set())
        # What was asked for on the old server may have been delivered there.
        self.to_recover.add(partition)
        other.to_recover.discard(partition)
        self.is_quiet = False

    def usable(self) -> list[int]:
        """Return the partitions that can be used now, each time in another order."""
        if not self.partitions:
            return []
        now_s = self._monotonic()
        self._turn = (self._turn + 1) % len(self.partitions)
        turned = self.partitions[self._turn :] + self.partitions[: self._turn]
        return [each for each in turned if self._blocked.get(each, (now_s, 0.0))[0] <= now_s]

    def block(self, partition: int, why: str) -> None:
        """Leave a partition alone for a while: the server refuses what must be done with it."""
        now_s = self._monotonic()
        until_s, pause_s = self._blocked.get(partition, (0.0, _FIRST_BLOCK_S / 2))
        if until_s > now_s:
            return  # what was begun before is refused for the same reason
        pause_s = min(2 * pause_s, _LAST_BLOCK_S)
        self._blocked[partition] = (now_s + pause_s, pause_s)
        _log.error("partition %d can't be used for %.0f s: %s", partition, pause_s, why)

    @property
    def has_blocked(self) -> bool:
        """Whether a partition could not be used lately; the memory of it fades."""
        now_s = self._monotonic()
        faded = [each for each, (at_s, s) in self._blocked.items() if now_s > at_s + 2 * s]
        for partition in faded:
            del self._blocked[partition]
        return bool(self._blocked)

    def unblock(self, partition: int) -> None:
        """Note that a partition works."""
        self._blocked.pop(partition, None)

    @property
    def blocked(self) -> list[int]:
        """The partitions that are left alone now."""
        now_s = self._monotonic()
        return sorted(each for each, (until_s, _) in self._blocked.items() if until_s > now_s)

    def hand_out(self, entry: Entry) -> bool:
        """Note that an entry is in hand; False if it was already."""
        if entry.id in self.in_hand[entry.partition]:
            return False
        self.in_hand[entry.partition].add(entry.id)
        self._found_at_s, self._poll_s = self._monotonic(), _FIRST_POLL_S
        return True

    def take_back(self, key: EntryKey) -> None:
        """Note that an entry is in hand no more."""
        self.in_hand[key.partition].discard(key.id)

    def answered(self) -> None:
        """Note that the server did what it was asked."""
        if not self.is_available:
            _log.warning("the server of partitions %s is back", self.partitions)
        self.is_available = True
        self._pause_s = _FIRST_PAUSE_S

    async def pause(self, error: Exception | str) -> None:
        """Wait a little longer after each failure in a row; the server is asked again after it."""
        if self.is_available:
            _log.warning("partitions %s: trying again: %s", self.partitions, error)
        self.is_available = False
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LAST_PAUSE_S)

    async def poll_pause(self) -> None:
        """Wait for new entries where no read can block: the longer, the less has come lately."""
        is_idle = self._monotonic() - self._found_at_s > _IDLE_AFTER_S
        await asyncio.sleep(_IDLE_POLL_S if is_idle else self._poll_s)
        self._poll_s = min(2 * self._poll_s, _LAST_POLL_S)


def entry_of(
    name: str,
    entry_id: bytes,
    deliveries: int,
    flat: list[bytes] | None,
    not_before_ms: int = 0,
) -> Entry:
    """Return an entry as a script hands it out; `flat` are its fields, or nothing."""
    fields = None if not flat else dict(zip(flat[::2], flat[1::2], strict=True))
    return Entry(keys.number_of(name), entry_id.decode(), fields, deliveries, not_before_ms)
