"""Credit, which bounds what a replica holds, and the queue in which frames wait for the network.

Together they form the batches: no timer does. Whatever waits when the network gets free is the
next batch, so at low load a frame never waits for company, and at high load the batches are full.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar


class Credit:
    """A fixed number of places for frames; whoever reads takes places first."""

    def __init__(self, num_places: int) -> None:
        """Start with all `num_places` free."""
        self.num_places = num_places
        self._num_free = num_places
        self._changed = asyncio.Condition()
        self._turn = asyncio.Lock()

    async def take(self, at_most: int) -> int:
        """Wait until a place is free, then take up to `at_most` and return how many.

        First come, first served: who gives back and takes again goes behind those who wait.
        """
        async with self._turn, self._changed:
            await self._changed.wait_for(lambda: self._num_free > 0)
            taken = min(at_most, self._num_free)
            self._num_free -= taken
            return taken

    async def give_back(self, num_places: int) -> None:
        """Free places that were taken."""
        async with self._changed:
            self._num_free += num_places
            self._changed.notify_all()

    async def all_free(self) -> None:
        """Wait until nothing is held."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._num_free == self.num_places)


T = TypeVar("T")


class ReadyQueue(Generic[T]):
    """Frames that are decoded and wait for the network, oldest first."""

    def __init__(self, kind: Callable[[T], object]) -> None:
        """Start empty and open; the items of one batch are of one `kind`, by identity."""
        self._kind = kind
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._items)

    def put(self, item: T) -> None:
        """Add one at the end."""
        self._items.append(item)
        self._changed.set()

    def close(self) -> None:
        """Let `take` return [] once nothing waits any more."""
        self._is_closed = True
        self._changed.set()

    async def take(self, at_most: int) -> list[T]:
        """Wait for one, then return what waits, up to `at_most` of one kind; [] when closed."""
        while not self._items and not self._is_closed:
            self._changed.clear()
            await self._changed.wait()
        batch: list[T] = []
        while self._items and len(batch) < at_most:
            if batch and self._kind(self._items[0]) is not self._kind(batch[0]):
                break
            batch.append(self._items.popleft())
        return batch
