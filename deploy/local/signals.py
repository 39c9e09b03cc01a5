"""What a terminal and its operator tell this process, kept from the processes that it started.

Ctrl-C and a closed terminal reach every process of the terminal at once. But the server must not be
gone before the replicas could commit what is in flight: this process alone hears of it, and ends
the others in order.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_FROM_THE_TERMINAL = {signal.SIGINT, signal.SIGHUP}
_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def block_terminal_signals() -> Iterator[None]:
    """Let processes that are started in this block never see SIGINT or SIGHUP.

    They inherit the mask. One that comes meanwhile takes effect here, after the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_THE_TERMINAL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def keep_handlers() -> Iterator[None]:
    """Undo what a library in this block makes of the signals to stop: Ray aborts on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _TO_STOP}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals() -> Iterator[int]:
    """Yield the signals that tell this process to stop; not one that is ignored: nohup means it."""
    for number in _TO_STOP:
        if signal.getsignal(number) is not signal.SIG_IGN:
            yield number


def interrupt_on_stop() -> None:
    """Let SIGTERM and a closed terminal interrupt a start as Ctrl-C does, so that it cleans up."""
    for number in stop_signals():
        signal.signal(number, _interrupt)


def stop_event() -> threading.Event:
    """Return an event that Ctrl-C, SIGTERM or a closed terminal sets from now on."""
    stop = threading.Event()
    for number in stop_signals():
        signal.signal(number, lambda *_: stop.set())
    return stop


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
