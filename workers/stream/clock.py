"""The stream's time: a server's clock as a replica knows it, which never steps back."""

import time
from collections.abc import Callable


class ServerClock:
    """Follows a server's clock by the monotonic clock of this machine.

    Ages, deadlines and leases go by it. A server whose clock is set back, or a failover to one that
    is behind, must not make old frames look fresh: so a sample that is earlier than what has been
    told already moves nothing, and the time goes on from there.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with this machine's own wall clock, until the first sample."""
        self._monotonic = monotonic
        self._offset_ms = time.time() * 1000 - monotonic() * 1000
        self._is_sampled = False

    def sample(self, server_ms: float, asked_s: float) -> None:
        """Take in what the server said.

        Args:
            server_ms: its clock, Unix ms.
            asked_s: when it was asked, monotonic; it answered between then and now.
        """
        middle_ms = (asked_s + self._monotonic()) / 2 * 1000
        offset_ms = server_ms - middle_ms
        self._offset_ms = max(offset_ms, self._offset_ms) if self._is_sampled else offset_ms
        self._is_sampled = True

    def now_ms(self) -> int:
        """Return the server's time, Unix ms."""
        return int(self._monotonic() * 1000 + self._offset_ms)
