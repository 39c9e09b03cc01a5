"""A replica's micro-batches: slots, which bound what is in flight, and the queues between steps.

Together they form the batches: no timer does. Whatever waits when the network gets free is the
next batch, so at low load a frame never waits for company, and at high load the batches are full.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar


class Slots:
    """A fixed number of slots for frames in flight; whoever reads takes slots first."""

    def __init__(self, num_slots: int) -> None:
        """Start with all `num_slots` free."""
        self.num_slots = num_slots
        self._num_free = num_slots
        self._has_changed = asyncio.Event()
        self._is_closed = False
        self._turn = asyncio.Lock()

    async def take(self, at_most: int, at_least: int = 1) -> int:
        """Wait until `at_least` slots are free, then take up to `at_most` and return how many.

        First come, first served: who gives back and takes again goes behind those who wait. Once
        closed, it waits no longer and there are none, whatever is given back.
        """
        async with self._turn:
            while self._num_free < at_least and not self._is_closed:
                self._has_changed.clear()
                await self._has_changed.wait()
            if self._is_closed:
                return 0
            taken = min(at_most, self._num_free)
            self._num_free -= taken
            return taken

    def give_back(self, num_slots: int) -> None:
        """Free slots; a negative number takes some that were not asked for, and never waits."""
        self._num_free += num_slots
        self._has_changed.set()

    def close(self) -> None:
        """Give out no slots any more."""
        self._is_closed = True
        self._has_changed.set()


T = TypeVar("T")


class BatchQueue(Generic[T]):
    """Items that wait for a step which takes several at once."""

    def __init__(
        self,
        kind: Callable[[T], object] = lambda _: None,
        owner: Callable[[T], object] = lambda _: None,
    ) -> None:
        """Start empty and open.

        Args:
            kind: the items of one batch are of one kind, by identity.
            owner: owners take turns, and the items of one come oldest first: whoever has many
                waiting delays only himself.
        """
        self._kind = kind
        self._owner = owner
        self._waiting: dict[object, deque[T]] = {}
        self._has_changed = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))

    def put(self, item: T) -> None:
        """Add one at the end."""
        self._waiting.setdefault(self._owner(item), deque()).append(item)
        self._has_changed.set()

    def close(self) -> None:
        """Let `take` return [] once nothing waits any more."""
        self._is_closed = True
        self._has_changed.set()

    async def take(self, at_most: int) -> list[T]:
        """Wait for one, then return what waits, up to `at_most` of one kind; [] when closed."""
        while not self._waiting and not self._is_closed:
            self._has_changed.clear()
            await self._has_changed.wait()
        batch: list[T] = []
        num_passed = 0  # owners in a row whose next item is of another kind
        while len(batch) < at_most and num_passed < len(self._waiting):
            owner = next(iter(self._waiting))
            items = self._waiting.pop(owner)
            if not batch or self._kind(items[0]) is self._kind(batch[0]):
                batch.append(items.popleft())
                num_passed = 0
            else:
                num_passed += 1
            if items:
                self._waiting[owner] = items  # behind the others
        return batch
