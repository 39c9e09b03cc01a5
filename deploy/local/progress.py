"""What a start waits for, and whether it still gets anywhere.

On a machine that is busy with other things a start takes minutes, and no fixed time tells "slow"
from "stuck". So whoever waits looks for progress: something has changed, or somebody works on it.
"""

import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console

Tell = Callable[[str], None]

_REMIND_S = 10.0


def tell_on(console: Console) -> Tell:
    """Return what prints a line on a console, and goes on if its terminal was closed."""

    def tell(line: str) -> None:
        with suppress(OSError):
            console.print(line, highlight=False, markup=False, soft_wrap=True)

    return tell


@contextmanager
def step(tell: Tell, what: str) -> Iterator[None]:
    """Say what is started, and again from time to time for as long as it takes.

    From a thread: what is waited for may block this one.
    """
    tell(f"starting {what} ...")
    started_s = time.monotonic()
    is_done = threading.Event()

    def remind() -> None:
        while not is_done.wait(_REMIND_S):
            tell(f"still starting {what}: {time.monotonic() - started_s:.0f} s")

    reminder = threading.Thread(target=remind, name="reminder", daemon=True)
    reminder.start()
    try:
        yield
    finally:
        is_done.set()
        reminder.join()


class Patience:
    """Runs out when nothing has changed and nobody has worked for a while."""

    def __init__(self, limit_s: float, work_s: float = 1.0) -> None:
        """Start to wait.

        Args:
            limit_s: how long without progress is too long.
            work_s: so much processor time used meanwhile is progress too.
        """
        self._limit_s = limit_s
        self._work_s = work_s
        self._state: Hashable = None
        self._cpu_s = 0.0
        self._progress_at_s = time.monotonic()

    def is_over(self, state: Hashable, cpu_s: float) -> bool:
        """Take in what is seen now; True if there was no progress for too long.

        Args:
            state: what can be seen of the state; a change is progress.
            cpu_s: processor time that those who work on it have used.
        """
        now_s = time.monotonic()
        # One that has ended takes its time along: a fall is a change, and starts the count anew.
        if state != self._state or not 0 <= cpu_s - self._cpu_s < self._work_s:
            self._state, self._cpu_s, self._progress_at_s = state, cpu_s, now_s
        return now_s - self._progress_at_s > self._limit_s
