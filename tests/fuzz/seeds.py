"""Frames to start from: good ones of each kind, and one for each way of being hostile."""

from collections.abc import Iterator

import cv2
import msgpack
import numpy as np

from tests.fuzz.target import CAMERA, good_frame
from tests.hostile import (
    COLOUR,
    DEPTH,
    FACE,
    hostile_jpegs,
    hostile_pcos,
    hostile_pngs,
    jpeg_file,
    pco_of,
    progressive,
)
from workers.wire.frame import Codec, EncodedPlane, Frame, pack_frame


def good() -> Iterator[bytes]:
    """Yield packed frames that are decoded, none of them large."""
    yield good_frame(64, 48)
    yield good_frame(48, 64, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    yield good_frame(40, 40, cv2.IMWRITE_JPEG_RST_INTERVAL, 1)
    yield _frame("rgb", "png", cv2.imencode(".png", COLOUR)[1].tobytes())
    yield _frame("ir", "jpeg", jpeg_file() + bytes(64))
    yield _frame("ir", "jpeg", progressive(FACE))
    yield _depth(pco_of(DEPTH))
    yield _depth(pco_of(DEPTH, compression_level=0))
    depth = np.full((32, 32), 700, np.uint16)
    yield pack_frame(
        Frame(
            CAMERA,
            2**64 - 1,
            0,
            {
                "rgb": EncodedPlane("raw", bytes(24 * 24 * 3), (24, 24, 3)),
                "depth": EncodedPlane("raw", depth.tobytes(), (32, 32), 0.25),
                "ir": EncodedPlane("raw", bytes(16 * 16), (16, 16, 1)),
            },
            face_box=(-4.0, 2.5, 20.0, 30.0),
        )
    )


def hostile() -> Iterator[bytes]:
    """Yield packed frames that are refused, and bytes that are none; none of them large."""
    for modality, codec, pictures in (
        ("ir", "png", hostile_pngs()),
        ("rgb", "jpeg", hostile_jpegs()),
    ):
        for _, data in pictures:
            if len(data) < 1 << 16:
                yield _frame(modality, codec, data)  # type: ignore[arg-type]
    yield from (_depth(data) for _, data in hostile_pcos())
    yield _frame("depth", "jpeg", jpeg_file())  # of 8 bits
    yield msgpack.packb({})
    yield b"\x81\xa1v" + b"\x91" * 2000 + b"\x01"
    yield b"\x81\xdd\x00\x00\x10\x00" + b"\x90" * 4096


def _depth(stream: bytes) -> bytes:
    return pack_frame(Frame(CAMERA, 1, 1, {"depth": EncodedPlane("pco", stream, DEPTH.shape)}))


def _frame(modality: str, codec: Codec, data: bytes) -> bytes:
    return pack_frame(Frame(CAMERA, 1, 1, {modality: EncodedPlane(codec, data)}))
