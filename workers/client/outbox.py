"""What a camera has still to send, and what it may do when the line fails; knows no socket."""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from workers.stream.failure import FAILURES, failure_of
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
        self, camera_id: str, key: bytes | None, partitions: int, max_waiting: int
    ) -> None:
        """Start empty; arguments as for `workers.client.camera.Camera`."""
        self._camera_id = camera_id
        self._key = key
        self.stream = keys.frames(keys.partition_of(camera_id, partitions))
        self._max_waiting = max_waiting
        # Strictly rising across restarts too: microseconds since 1970 outrun any frame rate.
        self._next_seq = time.time_ns() // 1000
        self._waiting: deque[_Outgoing] = deque()
        self._sending: _Outgoing | None = None
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
            if len(self._waiting) >= self._max_waiting:
                self._waiting.popleft()
                self._count(dropped=1)
            self._waiting.append(_Outgoing(frame.seq, fields))
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
            flat = [part for pair in self._sending.fields.items() for part in pair]
            return ("XADD", self.stream, "*", *flat)

    def answered(self, answer: object) -> tuple[int, str] | None:
        """Note that the command went through; returns (seq, entry id) if it was a frame."""
        with self._lock:
            self._pause_s = _FIRST_PAUSE_S
            if not self._is_line_up:
                self._is_line_up = True
                return None
            done, self._sending = self._sending, None
            self._count(acknowledged=1)
            assert done is not None  # noqa: S101 - the command was its XADD
            return done.seq, answer.decode() if isinstance(answer, bytes) else str(answer)

    def failed(self, error: Exception) -> float:
        """Note that the command failed; returns how long to wait before the next one, s."""
        with self._lock:
            # What nobody foresaw may have happened after the frame arrived, too.
            failure = failure_of(error) if isinstance(error, FAILURES) else None
            is_lost = failure is None or failure.may_have_run
            if self._is_line_up and (is_lost or not (failure and failure.is_transient)):
                self._sending = None
                self._count(unknown=int(is_lost), refused=int(not is_lost))
                self._is_line_up = not is_lost
            self.sent = replace(self.sent, last_error=str(error))
            pause_s = self._pause_s
            self._pause_s = min(2 * pause_s, _LAST_PAUSE_S)
            return pause_s

    def give_up(self) -> None:
        """Drop what still waits."""
        with self._lock:
            self._count(dropped=len(self._waiting) + (self._sending is not None))
            self._waiting.clear()
            self._sending = None

    def _count(self, **more: int) -> None:
        grown = {name: getattr(self.sent, name) + number for name, number in more.items()}
        self.sent = replace(self.sent, **grown)
