"""Encoded planes in, the network's planes out; nothing is decoded before its header was checked.

A 1.4 kB JPEG can claim 30000 x 30000 px and cost 12 s and 4.6 GB to decode. So the size is read
from the header first, in Python, in a microsecond. OpenCV releases the interpreter lock while it
decodes and resizes: `decode` is meant for a thread pool.
"""

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import PlaneError, Planes, crop_planes
from workers.wire.frame import EncodedPlane, Frame
from workers.wire.refusal import Undecodable

MAX_SIDE_PX = 2048
MAX_PLANE_PX = 1 << 20
_MAX_SCANS = 64
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_MAGIC = b"\xff\xd8\xff"
# Start-of-frame markers of the Huffman-coded JPEG kinds: baseline, extended, progressive.
# Source: ITU-T T.81, table B.1.
_START_OF_FRAME = (0xC0, 0xC1, 0xC2)
_START_OF_SCAN = 0xDA
_FILL = 0xFF
_STANDALONE = (0x01, *range(0xD0, 0xD8))

# IGNORE_ORIENTATION: a rotation noted in one plane's EXIF would break its register with the others.
_COLOR = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_GRAY = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
_AS_STORED = cv2.IMREAD_UNCHANGED

Pixels = NDArray[Any]


def decode(frame: Frame, size: int, margin: float) -> Planes:
    """Decode a frame's planes and cut the face out of them.

    Args:
        frame: as `workers.wire.frame.unpack_frame` returned it.
        size: side of the network's input, px.
        margin: part of the face box's longer side added around it, as the bundle says.

    Returns:
        The planes as the network takes them; modalities that the frame lacks are None.

    Raises:
        Undecodable: a plane is not what its codec, its modality or the other planes say.
    """
    decoded = {name: _DECODERS[name](name, plane) for name, plane in frame.planes.items()}
    try:
        return crop_planes(
            decoded.get("rgb"),
            decoded.get("depth"),
            decoded.get("ir"),
            frame.face_box,
            size,
            margin,
        )
    except PlaneError as error:
        raise Undecodable(str(error)) from error


def _decode_rgb(name: str, plane: EncodedPlane) -> Pixels:
    if plane.codec == "raw":
        return _raw(name, plane, np.dtype(np.uint8), channels=3)
    return _image(name, plane, _COLOR, max_bits=8)


def _decode_ir(name: str, plane: EncodedPlane) -> Pixels:
    if plane.codec == "raw":
        return _raw(name, plane, np.dtype(np.uint8), channels=1)
    return _image(name, plane, _GRAY, max_bits=8)


def _decode_depth(name: str, plane: EncodedPlane) -> Pixels:
    """Return uint16 mm, 0 = hole; or uint8, as CASIA-SURF stores depth."""
    if plane.codec == "raw":
        depth = _raw(name, plane, np.dtype("<u2"), channels=1)
    elif plane.codec == "jpeg":
        # CASIA-SURF's 8-bit depth comes as JPEG. Some of its files have three equal channels.
        depth = _image(name, plane, _GRAY, max_bits=8)
    else:
        depth = _image(name, plane, _AS_STORED, max_bits=16)
    if depth.ndim != 2:
        raise Undecodable(f"planes.{name} must have one channel, has {depth.shape[2]}")
    if depth.dtype == np.uint8:
        return depth
    if plane.unit_mm != 1.0:
        # A depth beyond 65.5 m is as good as none: a hole, never another, nearer depth.
        mm = np.rint(depth * plane.unit_mm)
        mm[mm > np.iinfo(np.uint16).max] = 0
        return mm.astype(np.uint16)
    return depth.astype(np.uint16, copy=False)


_DECODERS: dict[str, Callable[[str, EncodedPlane], Pixels]] = {
    "rgb": _decode_rgb,
    "depth": _decode_depth,
    "ir": _decode_ir,
}


def _raw(name: str, plane: EncodedPlane, dtype: np.dtype[np.generic], channels: int) -> Pixels:
    shape = plane.shape or ()
    expected = shape[:2] if channels == 1 else (*shape[:2], channels)
    if shape != expected and not (channels == 1 and shape == (*expected, 1)):
        raise Undecodable(f"planes.{name}.shape must have {channels} channel(s), is {list(shape)}")
    _check_size(name, *shape[:2])
    needed = int(np.prod(expected)) * dtype.itemsize
    if len(plane.data) != needed:
        raise Undecodable(
            f"planes.{name}.data must have {needed} bytes for shape {list(shape)}, "
            f"has {len(plane.data)}"
        )
    return np.frombuffer(plane.data, dtype).reshape(expected)


def _image(name: str, plane: EncodedPlane, flags: int, max_bits: int) -> Pixels:
    header = _png_header if plane.codec == "png" else _jpeg_header
    try:
        height, width, bits = header(plane.data)
    except (struct.error, IndexError, ValueError) as error:
        raise Undecodable(f"planes.{name} is not a {plane.codec}: {error}") from error
    _check_size(name, height, width)
    if bits > max_bits:
        # Nothing here guesses how 16 bits were meant to become 8.
        raise Undecodable(f"planes.{name} has {bits} bits a sample, at most {max_bits} are taken")
    if plane.shape is not None and plane.shape[:2] != (height, width):
        raise Undecodable(
            f"planes.{name} is {height} x {width} px, its shape says {plane.shape[:2]}"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(plane.data, np.uint8), flags)
    except cv2.error as error:
        raise Undecodable(f"planes.{name}: {error.err}") from error
    if pixels is None or pixels.shape[:2] != (height, width):
        raise Undecodable(f"planes.{name} does not decode to the {height} x {width} px it claims")
    return pixels


def _check_size(name: str, height: int, width: int) -> None:
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX) or (
        height * width > MAX_PLANE_PX
    ):
        raise Undecodable(
            f"planes.{name} is {height} x {width} px; 1 to {MAX_SIDE_PX} a side and at most "
            f"{MAX_PLANE_PX} in all are taken"
        )


def _png_header(data: bytes) -> tuple[int, int, int]:
    """Return (height px, width px, bits a sample). Source: PNG specification, section 11.2.1."""
    if data[:8] != _PNG_MAGIC or data[12:16] != b"IHDR":
        raise ValueError("no PNG signature")
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    return height, width, bits


def _jpeg_header(data: bytes) -> tuple[int, int, int]:
    """Return (height px, width px, bits a sample). Source: ITU-T T.81, annex B."""
    if data[:3] != _JPEG_MAGIC:
        raise ValueError("no JPEG signature")
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise ValueError(f"more than {_MAX_SCANS} scans")
    position = 2
    while (marker := _marker(data, position)) not in _START_OF_FRAME:
        if marker == _START_OF_SCAN:
            raise ValueError("a scan comes before any frame header")
        if marker == _FILL:
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    bits, height, width = struct.unpack_from(">BHH", data, position + 4)
    return height, width, bits


def _marker(data: bytes, position: int) -> int:
    if data[position] != 0xFF:
        raise ValueError("a marker was expected")
    return data[position + 1]
