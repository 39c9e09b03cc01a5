"""Ctrl-C is for this process: what it started is drained by it, in order, and not interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sheltered() -> Iterator[None]:
    """Let processes that are started in this block never see SIGINT.

    A terminal sends it to all of them at once: the server would be gone before the replicas could
    commit what they hold. They inherit the mask; a Ctrl-C that comes meanwhile is raised here,
    after the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
