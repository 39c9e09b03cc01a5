"""A process pool that leaves nothing behind, however the process that opened it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool; work that still runs when the block is left is ended, not awaited.

    Args:
        count: number of worker processes, >= 1.
    """
    context = get_context("spawn")  # torch's threads do not survive a fork
    # A worker lives as long as the other end of its pipe is open: until the block is left, or
    # until this process ends, killed or not.
    watched, lifeline = context.Pipe(duplex=False)
    with watched:
        pool = ProcessPoolExecutor(count, context, initializer=_end_with, initargs=(watched,))
        try:
            yield pool
        finally:
            lifeline.close()
            pool.shutdown(cancel_futures=True)  # returns once all workers have ended


def _end_with(lifeline: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends us
    threading.Thread(target=_wait_for_its_end, args=(lifeline,), daemon=True).start()


def _wait_for_its_end(lifeline: Connection) -> None:
    try:
        lifeline.recv_bytes()  # nothing is ever sent
    except OSError:
        pass
    finally:
        os._exit(1)
