"""A camera's frames, ready to go: what changes from frame to frame is put behind what does not.

An HMAC over 30 kB is most of what a signed frame costs. The pictures come first in the packed map,
so the hash over them is computed once a camera and still, and goes on from there for each frame.
"""

import hashlib
import struct
from collections.abc import Sequence

from loadtest.gallery import Still
from workers.wire.signing import door_key

_BLOCK = 64
_INNER, _OUTER = (
    bytes(each ^ 0x36 for each in range(256)),
    bytes(each ^ 0x5C for each in range(256)),
)
_MAX_STATES = 50_000
_U64 = struct.Struct(">Q")

_states: dict[tuple["CameraPackets", int, bool], "hashlib._Hash"] = {}


class CameraPackets:
    """Makes the frames of one camera."""

    def __init__(self, camera_id: str, key: bytes | None, stills: Sequence[Still]) -> None:
        """Prepare what never changes.

        Args:
            camera_id: who sends.
            key: 32 bytes; None: frames are not signed.
            stills: what it may show.
        """
        self.camera_id = camera_id
        self.door_key = None if key is None else door_key(key)
        self._key = key
        self._stills = stills
        name = camera_id.encode()
        self._id = b"\xa9camera_id" + _text(name) + b"\xa3seq\xcf"
        if key is not None:
            padded = key.ljust(_BLOCK, b"\0")
            self._inner = hashlib.sha256(padded.translate(_INNER))
            self._outer = hashlib.sha256(padded.translate(_OUTER))

    def make(
        self,
        still: int,
        seq: int,
        captured_at_ms: int,
        presentation: bytes,
        *,
        rgb_only: bool = False,
    ) -> tuple[bytes, bytes, bytes]:
        """Return the two halves of the field `f`, and the field `s`; empty: not signed.

        Args:
            still: number of what is shown.
            seq: of the frame.
            captured_at_ms: its stamp, Unix ms.
            presentation: id of the person before the camera, ASCII.
            rgb_only: leave the other planes out.
        """
        shown = self._stills[still]
        begins = shown.rgb_only if rgb_only else shown.packed
        ends = b"".join(
            (
                self._id,
                _U64.pack(seq),
                b"\xaecaptured_at_ms\xcf",
                _U64.pack(captured_at_ms),
                b"\xafpresentation_id",
                _text(presentation),
            )
        )
        if self._key is None:
            return begins, ends, b""
        name = (self, still, rgb_only)
        state = _states.get(name)
        if state is None:
            if len(_states) >= _MAX_STATES:
                _states.clear()
            state = self._inner.copy()
            state.update(begins)
            _states[name] = state
        inner = state.copy()
        inner.update(ends)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return begins, ends, outer.digest()


def _text(value: bytes) -> bytes:
    """Return a msgpack string of up to 255 bytes."""
    head = bytes([0xA0 | len(value)]) if len(value) < 32 else bytes([0xD9, len(value)])
    return head + value
