"""Whether a replica makes headway: which step works on what, and since when."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from workers.errors import WorkerError


class PipelineStalled(WorkerError):
    """A step makes no headway; its frames are reclaimed once this replica is gone."""


class Progress:
    """Keeps the time of each piece of work that a step has begun and not ended."""

    def __init__(self, stall_s: float, is_available: Callable[[Sequence[int]], bool]) -> None:
        """Begin with nothing.

        Args:
            stall_s: work that takes longer makes no headway.
            is_available: whether a shard group's server is there: who waits for one that is not
                does what it should.
        """
        self._stall_s = stall_s
        self._is_available = is_available
        self._working: dict[object, tuple[str, Sequence[int], float]] = {}

    @contextmanager
    def at(self, step: str, group: Sequence[int] = ()) -> Iterator[Callable[[], None]]:
        """Note that a step works while the block runs, on the server of `group` if it has any.

        Yields:
            What to call when the step waits for a server that is away: the time counts anew. Else
            it would have stood still for all the outage at the moment in which the server is back.
        """
        token = object()

        def begin() -> None:
            self._working[token] = (step, group, time.monotonic())

        begin()
        try:
            yield begin
        finally:
            del self._working[token]

    def check(self) -> None:
        """Return if every step makes headway.

        Raises:
            PipelineStalled: one does not.
        """
        now_s = time.monotonic()
        for step, group, since_s in list(self._working.values()):
            if now_s - since_s > self._stall_s and (not group or self._is_available(group)):
                raise PipelineStalled(f"no headway in {step} for {now_s - since_s:.1f} s")
