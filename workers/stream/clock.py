"""The stream's time: a server's clock as a replica knows it, which never steps back."""

import time
from collections.abc import Callable

# How much slower a clock that is ahead runs, so that the server's catches up: far more than quartz
# drifts, and too little to make an old frame look fresh.
_SLEW = 0.01


class ServerClock:
    """Follows a server's clock by the monotonic clock of this machine.

    Ages, deadlines and leases go by it. A server whose clock is set back, or a failover to one that
    is behind, must not make old frames look fresh: so the time goes on from the latest that was
    told, and only a hundredth slower until the server has caught up.

    A sample says in which interval the server's clock lies, seen from here: it was read after the
    question was sent and before the answer came. However slow the answer, that is never wrong.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with this machine's own wall clock, until the first sample."""
        self._monotonic = monotonic
        self._offset_ms = time.time() * 1000 - monotonic() * 1000
        self._sampled_at_s: float | None = None
        self._told_ms = 0
        self._at_most_ms = self._offset_ms

    @property
    def is_sampled(self) -> bool:
        """Whether the server was ever asked."""
        return self._sampled_at_s is not None

    def sample(self, server_ms: float, asked_s: float) -> None:
        """Take in what the server said.

        Args:
            server_ms: its clock, Unix ms.
            asked_s: when it was asked, monotonic; it answered between then and now.
        """
        now_s = self._monotonic()
        at_least_ms, at_most_ms = server_ms - now_s * 1000, server_ms - asked_s * 1000
        if self._sampled_at_s is None:
            self._offset_ms = at_least_ms
        elif self._offset_ms > at_most_ms:
            slewed_ms = self._offset_ms - (now_s - self._sampled_at_s) * 1000 * _SLEW
            self._offset_ms = max(slewed_ms, at_most_ms)
        self._offset_ms = max(self._offset_ms, at_least_ms)
        self._at_most_ms = at_most_ms
        self._sampled_at_s = now_s

    @property
    def ahead_ms(self) -> float:
        """How far the server's clock lies behind what it told before, ms."""
        return max(0.0, self._offset_ms - self._at_most_ms)

    def raise_to(self, floor_ms: int) -> None:
        """Take in that it was `floor_ms`, Unix ms, by this server's clock already."""
        self._offset_ms = max(self._offset_ms, floor_ms - self._monotonic() * 1000)

    def now_ms(self) -> int:
        """Return the server's time, Unix ms."""
        self._told_ms = max(self._told_ms, int(self._monotonic() * 1000 + self._offset_ms))
        return self._told_ms
