"""What our modules log in a process of Ray Serve: to Serve's handlers, in its form, within bounds.

A line about a frame has fields of its own, `camera` and `seq` (`extra` of the record), which Serve
writes as such where `logging_config` says JSON. What is logged again and again is held back, here
and nowhere else, and counted. A URL's password is in no line, and no line is long.
"""

import logging
import threading
from collections.abc import Hashable

from workers.wire.server_url import hidden

PERIOD_S = 60.0
BURST = 5
_MAX_CHARS = 2000
_OURS = ("model", "workers")


def log_with_serve() -> None:
    """Let what our modules log go where Serve logs; they keep their names.

    Serve's handlers hang on its own logger, which is no parent of ours.
    """
    serve, relay = logging.getLogger("ray.serve"), logging.getLogger("livegate")
    relay.parent = serve  # for its level
    relay.propagate = False
    relay.handlers = [Relay(serve)]
    for name in _OURS:
        logging.getLogger(name).parent = relay


class Relay(logging.Handler):
    """Hands records on to another logger, the first few of each kind a minute.

    Of a kind are warnings and errors from one line of code. What is held back is told once the
    minute is over.
    """

    def __init__(
        self, target: logging.Logger, period_s: float = PERIOD_S, burst: int = BURST
    ) -> None:
        """Hand on to `target`, whose handlers write.

        Args:
            target: of Serve.
            period_s: for how long records of a kind are counted.
            burst: so many of them are handed on.
        """
        super().__init__()
        self._target = target
        self._period_s = period_s
        self._burst = burst
        self._num_seen: dict[Hashable, int] = {}
        self._counting = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on, or hold it back."""
        if record.levelno >= logging.WARNING and self._is_enough(record):
            return
        self._hand_on(record)

    def _is_enough(self, record: logging.LogRecord) -> bool:
        kind = (record.pathname, record.lineno)
        with self._counting:
            before = self._num_seen.get(kind, 0)
            self._num_seen[kind] = before + 1
        if not before:
            timer = threading.Timer(self._period_s, self._end_period, (kind, record))
            timer.daemon = True
            timer.start()
        return before >= self._burst

    def _end_period(self, kind: Hashable, first: logging.LogRecord) -> None:
        with self._counting:
            num_held = self._num_seen.pop(kind) - self._burst
        if num_held > 0:
            told = "held back within %.0f s: %d more like: %s"
            args = (self._period_s, num_held, first.msg)
            record = self._target.makeRecord(
                first.name, first.levelno, first.pathname, first.lineno, told, args, None
            )
            record.held_back = num_held
            self._hand_on(record)

    def _hand_on(self, record: logging.LogRecord) -> None:
        record.msg, record.args = _bounded(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = hidden(record.exc_text)
        self._target.handle(record)


def _bounded(text: str) -> str:
    shown = hidden(text)
    return shown if len(shown) <= _MAX_CHARS else f"{shown[:_MAX_CHARS]}..."
