"""Signed frames for tests: small pictures, real encodings, real signatures."""

from typing import Any

import cv2
import numpy as np

from workers.client.camera import jpeg, png
from workers.wire.frame import EncodedPlane, Frame, pack_frame
from workers.wire.signing import sign

KEY = bytes(range(32))
SIDE = 64


def planes(seed: int = 0) -> dict[str, EncodedPlane]:
    rng = np.random.default_rng(seed)
    depth = np.full((SIDE, SIDE), 600, np.uint16) + rng.integers(0, 40, (SIDE, SIDE), np.uint16)
    return {
        "rgb": jpeg(rng.integers(0, 255, (SIDE, SIDE, 3), np.uint8)),
        "depth": png(depth),
        "ir": jpeg(rng.integers(0, 255, (SIDE, SIDE), np.uint8)),
    }


def frame(camera_id: str, seq: int, captured_at_ms: int, **changes: Any) -> Frame:
    return Frame(
        **{
            "camera_id": camera_id,
            "seq": seq,
            "captured_at_ms": captured_at_ms,
            "planes": planes(seq % 1000),
            "face_box": (8.0, 8.0, 48.0, 48.0),
            **changes,
        }
    )


def fields(packed: bytes | Frame, key: bytes = KEY) -> dict[bytes, bytes]:
    body = pack_frame(packed) if isinstance(packed, Frame) else packed
    return {b"f": body, b"s": sign(body, key)}


def bomb(side: int = 30_000) -> bytes:
    """Return a small JPEG whose header claims a huge picture."""
    _, encoded = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    data = bytearray(encoded.tobytes())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)
