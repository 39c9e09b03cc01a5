"""A replica that has lost its parent ends: nobody would look after it or count it any more."""

import os
import threading
import time

_PERIOD_S = 0.5


def end_with_parent() -> None:
    """End this process, at once and whatever it does, when the one that started it has ended.

    What it held is taken over by other replicas, as after any other end. A thread looks, because
    the event loop may be what stands still.
    """
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), name="orphan", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
    os._exit(1)
