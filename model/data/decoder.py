"""Encoded pictures in, pixels out: the one decoder of serving and of the readers of data sets.

A 1.4 kB JPEG can claim 30000 x 30000 px, a 200 kB PNG can inflate to gigabytes, and both can be
cut in half. So all planes of a face are checked first, in microseconds, for what they are and for
what decoding them will cost; then they are decoded by code that takes no half pictures. It releases
the interpreter lock: `decode_planes` is meant for a thread pool.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from model.data import jpeg, pco, png
from model.data.planes import Image, PlaneError

MAX_SIDE_PX = 2048
MAX_PLANE_PX = 1 << 20
# What all planes of a frame may cost: a progressive colour picture of the largest size, which goes
# over its samples 14 times, with depth and infrared of the same size.
MAX_FRAME_SAMPLES = 16 * MAX_PLANE_PX

Codec = Literal["jpeg", "png", "raw", "pco"]

# A grey picture in three channels, after JPEG's rounding: they differ by no more than this.
_MAX_TINT = 8
_DTYPES: dict[str, np.dtype[Any]] = {
    "rgb": np.dtype(np.uint8),
    "depth": np.dtype("<u2"),
    "ir": np.dtype(np.uint8),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """One modality's picture as a camera sent it, or as a file holds it.

    Attributes:
        codec: how `data` is encoded; raw: rows from the top, little-endian, depth of 16 bits.
        data: the encoded picture.
        shape: (height, width) or (height, width, channels) px; needed for `raw` and `pco`.
    """

    codec: Codec
    data: bytes
    shape: tuple[int, ...] | None = None

    @classmethod
    def of_file(cls, content: bytes) -> "Picture":
        """Return a file's picture, whatever the file's name says; what is no PNG may be a JPEG."""
        return cls("png" if content.startswith(png.MAGIC) else "jpeg", content)


class _Inspected(Protocol):
    """A picture that was checked, and not decoded yet."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def bits(self) -> int: ...
    @property
    def num_samples(self) -> int: ...
    def decode(self) -> Image: ...


@dataclass(frozen=True, slots=True)
class _Raw:
    """Pixels as they are."""

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    data: bytes

    @property
    def bits(self) -> int:
        return 8 * self.dtype.itemsize

    @property
    def num_samples(self) -> int:
        return self.height * self.width * self.channels

    def decode(self) -> Image:
        shape = (self.height, self.width, self.channels)[: 2 if self.channels == 1 else 3]
        pixels: Image = np.frombuffer(self.data, self.dtype).reshape(shape)
        return pixels.astype(self.dtype.newbyteorder("="), copy=False)


def decode_planes(pictures: Mapping[str, Picture]) -> dict[str, Image]:
    """Decode the planes of one face.

    Args:
        pictures: by modality, some of `model.data.planes.MODALITIES`.

    Returns:
        `rgb` (H, W, 3) uint8 in RGB order; `ir` (H, W) uint8; `depth` (H, W) uint16 counts, 0 =
        hole, or uint8 as CASIA-SURF stores depth. Sizes may differ. A grey picture serves as `rgb`;
        one in three equal channels as `depth` and `ir`. A rotation noted in EXIF is ignored: it
        would break the planes' register.

    Raises:
        PlaneError: a plane is not what its codec and its modality say, or decoding them would cost
            too much; the message names plane and rule.
    """
    inspected: dict[str, _Inspected] = {}
    for name, picture in pictures.items():
        try:
            inspected[name] = _INSPECT[picture.codec](name, picture)
            _check(name, inspected[name], picture.shape)
        except PlaneError as error:
            raise PlaneError(f"{name} {error}") from error
    num_samples = sum(each.num_samples for each in inspected.values())
    if num_samples > MAX_FRAME_SAMPLES:
        raise PlaneError(
            f"{', '.join(inspected)}: {num_samples} samples to decode, each scan counted; at most "
            f"{MAX_FRAME_SAMPLES} are taken"
        )
    decoded: dict[str, Image] = {}
    for name, each in inspected.items():
        try:
            decoded[name] = (_colour if name == "rgb" else _grey)(each.decode())
        except PlaneError as error:
            raise PlaneError(f"{name} {error}") from error
    return decoded


def _check(name: str, found: _Inspected, shape: tuple[int, ...] | None) -> None:
    height, width = found.height, found.width
    if (
        not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX)
        or height * width > MAX_PLANE_PX
    ):
        raise PlaneError(
            f"is {height} x {width} px; 1 to {MAX_SIDE_PX} a side and at most {MAX_PLANE_PX} in "
            "all are taken"
        )
    if shape is not None and shape[:2] != (height, width):
        raise PlaneError(f"is {height} x {width} px, its shape says {shape[:2]}")
    if found.bits > 8 and (name != "depth" or found.channels > 1):
        # Nothing here guesses how 16 bits were meant to become 8.
        raise PlaneError(f"has {found.bits} bits a sample, at most 8 are taken")


def _inspect_raw(name: str, picture: Picture) -> _Raw:
    dtype, channels = _DTYPES[name], 3 if name == "rgb" else 1
    height, width, found = (*(picture.shape or ()), 1, 1, 1)[:3]
    if picture.shape is None or len(picture.shape) not in (2, 3) or found != channels:
        raise PlaneError(f"must have {channels} channel(s), its shape says {picture.shape}")
    needed = height * width * channels * dtype.itemsize
    if len(picture.data) != needed:
        raise PlaneError(
            f"must have {needed} bytes for its shape {picture.shape}, has {len(picture.data)}"
        )
    return _Raw(height, width, channels, dtype, picture.data)


_INSPECT: dict[str, Callable[[str, Picture], _Inspected]] = {
    "jpeg": lambda _, picture: jpeg.inspect(picture.data),
    "png": lambda _, picture: png.inspect(picture.data),
    "raw": _inspect_raw,
    "pco": lambda name, picture: pco.inspect(name, picture.data, picture.shape),
}


def _colour(pixels: Image) -> Image:
    return pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


def _grey(pixels: Image) -> Image:
    if pixels.ndim == 2:
        return pixels
    red, green, blue = cv2.split(pixels)
    if max(cv2.absdiff(red, green).max(), cv2.absdiff(blue, green).max()) > _MAX_TINT:
        raise PlaneError("must have one channel, or three equal ones; this is a colour picture")
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
