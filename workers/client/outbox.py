"""What a camera has still to send, and what has become of each frame; knows no socket."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from workers.client.lines import NotNow, NotTaken
from workers.client.pictures import CameraError, integer
from workers.wire.frame import CAMERA_ID, Frame, pack_frame, take_fields, unpack_frame
from workers.wire.signing import checked_key, sign

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0
_MOST_WAITING = 1_000_000

_log = logging.getLogger(__name__)


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
    fields: Mapping[str, bytes]


class Outbox:
    """Signed frames that wait to be sent, and the account of those that were.

    Whoever owns one tells `begin`, sends what `take` returned, and tells `arrived` or `failed`; or
    lets it go with `give_up`. Safe between threads.
    """

    def __init__(
        self,
        camera_id: str,
        key: bytes | None,
        max_waiting: int,
        on_result: OnResult | None = None,
    ) -> None:
        """Start empty; arguments as for `workers.client.camera.Camera`.

        Raises:
            CameraError: the id can't be one, or `max_waiting` is below 1.
            KeyRefused: the key is none.
        """
        if not isinstance(camera_id, str) or not CAMERA_ID.fullmatch(camera_id):
            raise CameraError(f"{camera_id!r:.80} is no camera id: 1 to 64 of A-Z a-z 0-9 . _ -")
        self._camera_id = camera_id
        self._key = None if key is None else checked_key(key)
        self._max_waiting = integer("max_waiting", max_waiting, 1, _MOST_WAITING)
        self._on_result = on_result
        # Rising across restarts too: microseconds since 1970 outrun any frame rate.
        self._next_seq = time.time_ns() // 1000
        self._waiting: deque[_Outgoing] = deque()
        self._sending: _Outgoing | None = None
        self._is_under_way = False
        self._is_closed = False
        self._pause_s = _FIRST_PAUSE_S
        self._lock = threading.Lock()
        self.sent = Sent()

    def put(self, frame: Frame) -> int:
        """Number, sign and queue a frame; the oldest one makes room. Returns its seq.

        Raises:
            FrameRefused: the frame breaks a rule of the wire format.
            CameraError: the outbox was closed.
        """
        dropped = []
        with self._lock:
            if self._is_closed:
                raise CameraError("the camera is closed: make a new one")
            frame = replace(frame, camera_id=self._camera_id, seq=self._next_seq)
            packed = pack_frame(frame)
            unpack_frame(packed)  # what a worker would refuse is refused here, to whoever wrote it
            fields = {"f": packed}
            if self._key is not None:
                fields["s"] = sign(packed, self._key)
            take_fields({name.encode(): value for name, value in fields.items()})
            self._next_seq += 1
            if len(self._waiting) >= self._max_waiting:
                dropped.append(self._result(self._waiting.popleft(), "dropped"))
            self._waiting.append(_Outgoing(frame.seq, fields))
        self._tell(dropped)
        return frame.seq

    def take(self) -> Mapping[str, bytes] | None:
        """Return the fields of the frame to send now, or None if nothing waits."""
        with self._lock:
            if self._sending is None and self._waiting:
                self._sending = self._waiting.popleft()
            return None if self._sending is None else self._sending.fields

    def begin(self) -> None:
        """Note that the frame that was taken is under way from now on: its reply can get lost."""
        with self._lock:
            self._is_under_way = self._sending is not None

    def arrived(self, entry_id: str) -> None:
        """Note that the frame that was taken is in the stream."""
        with self._lock:
            self._pause_s = _FIRST_PAUSE_S
            results = self._done("acknowledged", entry_id)
        self._tell(results)

    def failed(self, error: Exception) -> float:
        """Note that the frame was not taken; returns how long to wait before the next try, s.

        An error that nobody foresaw may have come after the frame arrived: it is unknown then.
        """
        results: list[SendResult] = []
        with self._lock:
            if not isinstance(error, NotNow):
                results = self._done("refused" if isinstance(error, NotTaken) else "unknown")
            self._is_under_way = False
            self.sent = replace(self.sent, last_error=str(error) or type(error).__name__)
            pause_s = self._pause_s
            if isinstance(error, NotNow) and error.pause_s is not None:
                pause_s = max(pause_s, error.pause_s)
            self._pause_s = min(2 * self._pause_s, _LAST_PAUSE_S)
        self._tell(results)
        return pause_s

    def close(self) -> None:
        """Take no more frames."""
        with self._lock:
            self._is_closed = True

    def give_up(self) -> None:
        """Drop what still waits; a frame whose reply is still out is unknown."""
        with self._lock:
            self._is_closed = True
            results = self._done("unknown" if self._is_under_way else "dropped")
            results += [self._result(outgoing, "dropped") for outgoing in self._waiting]
            self._waiting.clear()
        self._tell(results)

    def _done(self, status: Status, entry_id: str = "") -> list[SendResult]:
        """Return the result of the frame that was taken, unless it has one already."""
        done, self._sending, self._is_under_way = self._sending, None, False
        return [] if done is None else [self._result(done, status, entry_id)]

    def _result(self, outgoing: _Outgoing, status: Status, entry_id: str = "") -> SendResult:
        self.sent = replace(self.sent, **{status: getattr(self.sent, status) + 1})
        return SendResult(outgoing.seq, status, entry_id)

    def _tell(self, results: list[SendResult]) -> None:
        """Call back with the lock released: the callback may ask this outbox."""
        for result in results:
            try:
                if self._on_result is not None:
                    self._on_result(result)
            except (Exception, SystemExit):  # noqa: BLE001 - the caller's own: the camera goes on
                _log.exception("on_result failed for seq %d; the camera goes on", result.seq)
