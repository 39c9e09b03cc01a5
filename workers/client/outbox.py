"""What a camera has still to send, and what it may do when the line fails; knows no socket."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from redis.exceptions import OutOfMemoryError

from workers.stream.connection import NOT_NOW, UNAVAILABLE
from workers.wire import keys
from workers.wire.frame import Frame, pack_frame, take_fields, unpack_frame
from workers.wire.signing import sign

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What has become of a camera's frames so far.

    Attributes:
        acknowledged: in the stream; each of them gets exactly one decision.
        dropped: pushed out of the full outbox by newer frames, or left in it at the end.
        unknown: sent, but the reply got lost: they may or may not have arrived.
        refused: the server refused them for good; `last_error` says why.
        last_error: the last thing that went wrong; empty if nothing did.
    """

    acknowledged: int = 0
    dropped: int = 0
    unknown: int = 0
    refused: int = 0
    last_error: str = ""


Status = Literal["acknowledged", "dropped", "unknown", "refused"]


@dataclass(frozen=True, slots=True)
class SendResult:
    """What has become of one frame; each queued frame gets exactly one.

    Attributes:
        seq: of the frame.
        status: as in `Sent`.
        entry_id: its stream entry, if it was acknowledged; else empty.
    """

    seq: int
    status: Status
    entry_id: str = ""


OnResult = Callable[[SendResult], None]


@dataclass(frozen=True, slots=True)
class _Outgoing:
    seq: int
    fields: dict[str, bytes]


class Outbox:
    """Signed frames that wait to be sent, and what to say to the server next.

    It knows no socket: whoever owns one runs `next_command`, then tells `answered` or `failed`.
    Safe between threads.
    """

    def __init__(
        self,
        camera_id: str,
        key: bytes | None,
        partitions: int,
        max_waiting: int,
        on_result: OnResult | None = None,
    ) -> None:
        """Start empty; arguments as for `workers.client.camera.Camera`."""
        self._camera_id = camera_id
        self._key = key
        self._stream = keys.frames(keys.partition_of(camera_id, partitions))
        self._max_waiting = max_waiting
        self._on_result = on_result
        # Strictly rising across restarts too: microseconds since 1970 outrun any frame rate.
        self._next_seq = time.time_ns() // 1000
        self._waiting: deque[_Outgoing] = deque()
        self._sending: _Outgoing | None = None
        self._is_under_way = False  # its XADD was handed out, and how it ended is not known yet
        self._is_line_up = False
        self._pause_s = _FIRST_PAUSE_S
        self._lock = threading.Lock()
        self.sent = Sent()

    def put(self, frame: Frame) -> int:
        """Number, sign and queue a frame; the oldest one makes room. Returns its seq."""
        with self._lock:
            frame = replace(frame, camera_id=self._camera_id, seq=self._next_seq)
            packed = pack_frame(frame)
            unpack_frame(packed)  # what a worker would refuse is refused here, to whoever wrote it
            fields = {"f": packed}
            if self._key is not None:
                fields["s"] = sign(packed, self._key)
            take_fields({name.encode(): value for name, value in fields.items()})
            self._next_seq += 1
            dropped = []
            if len(self._waiting) >= self._max_waiting:
                dropped.append(self._result(self._waiting.popleft(), "dropped"))
            self._waiting.append(_Outgoing(frame.seq, fields))
        self._tell(dropped)
        return frame.seq

    def next_command(self) -> tuple[str | bytes, ...] | None:
        """Return a command to run now, or None if nothing waits."""
        with self._lock:
            if not self._is_line_up and (self._waiting or self._sending):
                # Until a PING went through, an error means that no frame was sent.
                return ("PING",)
            if self._sending is None and self._waiting:
                self._sending = self._waiting.popleft()
            if self._sending is None:
                return None
            self._is_under_way = True
            flat = [part for pair in self._sending.fields.items() for part in pair]
            return ("XADD", self._stream, "*", *flat)

    def answered(self, answer: object) -> None:
        """Note that the command went through."""
        with self._lock:
            self._pause_s = _FIRST_PAUSE_S
            if not self._is_line_up:
                self._is_line_up = True
                return
            if self._sending is None:
                return  # too late: it was given up on, and counted as unknown
            entry_id = answer.decode() if isinstance(answer, bytes) else str(answer)
            done = self._result(self._sending, "acknowledged", entry_id)
            self._sending, self._is_under_way = None, False
        self._tell([done])

    def failed(self, error: Exception) -> float:
        """Note that the command failed; returns how long to wait before the next one, s."""
        results = []
        with self._lock:
            if self._is_line_up and not isinstance(error, (OutOfMemoryError, *NOT_NOW)):
                is_lost = isinstance(error, UNAVAILABLE)
                if self._sending is not None:
                    results.append(self._result(self._sending, "unknown" if is_lost else "refused"))
                self._sending = None
                self._is_line_up = not is_lost
            self._is_under_way = False
            self.sent = replace(self.sent, last_error=str(error))
            pause_s = self._pause_s
            self._pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        self._tell(results)
        return pause_s

    def give_up(self) -> None:
        """Drop what still waits; a frame whose reply is still out is unknown."""
        with self._lock:
            results = [self._result(outgoing, "dropped") for outgoing in self._waiting]
            if self._sending is not None:
                status: Status = "unknown" if self._is_under_way else "dropped"
                results.append(self._result(self._sending, status))
            self._waiting.clear()
            self._sending, self._is_under_way = None, False
        self._tell(results)

    def _result(self, outgoing: _Outgoing, status: Status, entry_id: str = "") -> SendResult:
        self.sent = replace(self.sent, **{status: getattr(self.sent, status) + 1})
        return SendResult(outgoing.seq, status, entry_id)

    def _tell(self, results: list[SendResult]) -> None:
        """Call back with the lock released: the callback may ask this outbox."""
        for result in results:
            if self._on_result is not None:
                self._on_result(result)
