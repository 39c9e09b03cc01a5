"""Replicas that are asked for, start, decide, fail and go: what both simulations share."""

from collections import deque

from loadtest.simulation.model import Fleet


class Replicas:
    """How many there are, and what they have cost."""

    def __init__(self, fleet: Fleet, start: int) -> None:
        """Begin with some that are ready."""
        self._fleet = fleet
        self.ready = self.wanted = start
        self.paid_s = 0.0
        self.cold_starts = 0
        self._coming: deque[tuple[float, int]] = deque()  # when, how many
        self._num_coming = 0

    def become_ready(self, now_s: float) -> int:
        """Let those be ready whose time has come; returns how many."""
        before = self.ready
        while self._coming and self._coming[0][0] <= now_s:
            _, count = self._coming.popleft()
            self.ready += count
            self._num_coming -= count
        return self.ready - before

    def fail(self, count: int) -> None:
        """Lose some that were ready; whoever keeps replicas starts others."""
        self.ready -= count

    def want(self, wanted: int, now_s: float) -> None:
        """Start what is missing, and send home what is too many: first those not ready yet."""
        self.wanted = wanted
        missing = wanted - self.ready - self._num_coming
        if missing > 0:
            self._coming.append((now_s + self._fleet.cold_s, missing))
            self._num_coming += missing
            self.cold_starts += missing
            return
        surplus = -missing
        while surplus and self._coming:
            at_s, count = self._coming.pop()
            gone = min(count, surplus)
            surplus -= gone
            self._num_coming -= gone
            if count > gone:
                self._coming.append((at_s, count - gone))
        self.ready -= surplus
        self.paid_s += surplus * self._fleet.stop_s

    def pay(self, for_s: float) -> None:
        """Pay for all of them, ready or not."""
        self.paid_s += (self.ready + self._num_coming) * for_s
