"""JPEG: a walk over its segments and scans, then a decoder that takes no half pictures.

The walk costs microseconds and bounds what decoding costs. libjpeg-turbo then decodes in the strict
mode of `simplejpeg`: what it could only guess, such as the second half of a picture that was cut
and given an end marker, is an error. OpenCV paints such parts grey and says so on stderr only.

Source: ITU-T T.81, annexes B and G.
"""

import re
import struct
from dataclasses import dataclass

import simplejpeg

from model.data.planes import Image, PlaneError

MAGIC = b"\xff\xd8\xff"
_MAX_SEGMENTS = 512
_MAX_FILL_BYTES = 256

# Markers. Of the frames, those that are Huffman-coded and lossy: baseline, extended, progressive.
_FRAMES = (0xC0, 0xC1, 0xC2)
_PROGRESSIVE = 0xC2
_END, _SCAN = 0xD9, 0xDA
# Huffman and quantisation tables, restart interval, APP0 to APP15, comment.
_SKIPPED = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
# Within a scan, FF 00 is a byte of data, D0 to D7 restart the decoder, and FF FF is fill.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_FILL = b"\xff"

_NUM_COEFFICIENTS = 64
_UNSEEN = 0xFF


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG whose segments and scans were checked and whose pixels are still encoded.

    Attributes:
        height: px.
        width: px.
        channels: 1 or 3.
        num_samples: what decoding costs, in samples: each scan counts those that it goes over.
        data: all of it.
    """

    height: int
    width: int
    channels: int
    num_samples: int
    data: bytes

    @property
    def bits(self) -> int:
        """Bits a sample."""
        return 8

    def decode(self) -> Image:
        """Return the pixels: (H, W) uint8, or (H, W, 3) in RGB order, whatever EXIF says of it.

        Raises:
            PlaneError: a part of them is missing or broken.
        """
        try:
            pixels: Image = simplejpeg.decode_jpeg(
                self.data, "RGB" if self.channels == 3 else "GRAY"
            )
        except ValueError as error:
            raise PlaneError("is half a JPEG, or a broken one: a part does not decode") from error
        if pixels.shape[:2] != (self.height, self.width):
            raise PlaneError("is a broken JPEG: it decodes to another size than its header says")
        return pixels if self.channels == 3 else pixels[..., 0]


class _Component:
    """One of a frame's components, and how much of its coefficients the scans have told."""

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        # For each coefficient, how many of its low bits are still to come.
        self.bits_to_come = bytes((_UNSEEN,)) * _NUM_COEFFICIENTS

    def scan(self, start: int, end: int, high: int, low: int) -> None:
        before = bytes((high or _UNSEEN,)) * (end - start + 1)
        if self.bits_to_come[start : end + 1] != before or (high and low != high - 1):
            raise PlaneError("is a broken JPEG: a scan does not follow the ones before it")
        told = bytes((low,)) * len(before)
        self.bits_to_come = self.bits_to_come[:start] + told + self.bits_to_come[end + 1 :]

    @property
    def is_whole(self) -> bool:
        return not any(self.bits_to_come)


@dataclass(slots=True)
class _Frame:
    """What a start-of-frame segment says, and what the scans go over."""

    height: int
    width: int
    is_progressive: bool
    components: dict[int, _Component]
    num_samples: int = 0


def inspect(data: bytes) -> Jpeg:
    """Check a JPEG's segments up to its end marker; bytes after that are let pass.

    Raises:
        PlaneError: it breaks a rule; the message goes on where a plane's name ends.
    """
    if not data.startswith(MAGIC):
        raise PlaneError("is no JPEG: it lacks the signature")
    frame: _Frame | None = None
    at = 2
    for _ in range(_MAX_SEGMENTS):
        marker, at = _marker(data, at)
        if marker == _END:
            return _whole(frame, data)
        content, at = _segment(data, at)
        if marker == _SCAN:
            _read_scan(content, frame)
            at = _end_of_scan(data, at)
        elif marker not in _SKIPPED:
            frame = _read_frame(marker, content, frame)
    raise PlaneError(f"is a JPEG of more than {_MAX_SEGMENTS} segments")


def _marker(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at a position, and the position after it; fill bytes may come first."""
    pair = data[at : at + 2]
    if pair == b"\xff\xff":
        window = data[at : at + _MAX_FILL_BYTES]
        at += len(window) - len(window.lstrip(_FILL)) - 1
        pair = data[at : at + 2]
    if len(pair) < 2:
        raise PlaneError("is half a JPEG: it has no end marker")
    if pair[0] != _FILL[0] or pair[1] == _FILL[0]:
        raise PlaneError("is a broken JPEG: a marker was expected")
    return pair[1], at + 2


def _segment(data: bytes, at: int) -> tuple[bytes, int]:
    """Return a segment's content without its length, and the position after it."""
    end = at + int.from_bytes(data[at : at + 2])
    if end < at + 2 or end > len(data):
        raise PlaneError("is half a JPEG: a segment claims more bytes than there are")
    return data[at + 2 : end], end


def _end_of_scan(data: bytes, at: int) -> int:
    """Return where the next marker is."""
    if (found := _AFTER_SCAN.search(data, at)) is None:
        raise PlaneError("is half a JPEG: it has no end marker")
    return found.start()


def _read_frame(marker: int, content: bytes, before: _Frame | None) -> _Frame:
    if marker not in _FRAMES:
        raise PlaneError(
            f"must be a baseline or progressive JPEG with Huffman coding, has marker {marker:X}"
        )
    if before is not None:
        raise PlaneError("is a broken JPEG: it has two frames")
    if len(content) < 6 or len(content) != 6 + 3 * content[5]:
        raise PlaneError("is a broken JPEG: its frame header has the wrong length")
    bits, height, width, num_components = struct.unpack_from(">BHHB", content)
    if bits != 8:
        raise PlaneError(f"has {bits} bits a sample: a JPEG must have 8")
    if num_components not in (1, 3):
        raise PlaneError(f"has {num_components} channels: a JPEG must have 1 or 3")
    if not height:
        raise PlaneError("is a JPEG that tells its height after the picture: this is not taken")
    sampling = {
        content[at]: (content[at + 1] >> 4, content[at + 1] & 15)
        for at in range(6, len(content), 3)
    }
    if len(sampling) != num_components or not all(
        1 <= each <= 4 for pair in sampling.values() for each in pair
    ):
        raise PlaneError("is a broken JPEG: its components are not told apart or sampled so")
    across, down = (max(each) for each in zip(*sampling.values(), strict=True))
    components = {
        name: _Component(_in_blocks(width * x, across) * _in_blocks(height * y, down))
        for name, (x, y) in sampling.items()
    }
    return _Frame(height, width, marker == _PROGRESSIVE, components)


def _in_blocks(size: int, parts: int) -> int:
    """Return a part of a size, rounded up to whole blocks of 8."""
    return -(-size // (8 * parts)) * 8


def _read_scan(content: bytes, frame: _Frame | None) -> None:
    if frame is None:
        raise PlaneError("is a broken JPEG: a scan comes before any frame header")
    if len(content) < 4 or len(content) != 4 + 2 * content[0]:
        raise PlaneError("is a broken JPEG: a scan header has the wrong length")
    names = content[1:-3:2]
    start, end, bits = content[-3:]
    if not frame.is_progressive:
        start, end, bits = 0, _NUM_COEFFICIENTS - 1, 0
    if not start <= end < _NUM_COEFFICIENTS or not names:
        raise PlaneError("is a broken JPEG: a scan has no coefficients")
    for name in names:
        if name not in frame.components:
            raise PlaneError("is a broken JPEG: a scan has a component that the frame lacks")
        component = frame.components[name]
        component.scan(start, end, bits >> 4, bits & 15)
        frame.num_samples += component.num_samples


def _whole(frame: _Frame | None, data: bytes) -> Jpeg:
    if frame is None or not all(each.is_whole for each in frame.components.values()):
        raise PlaneError("is half a JPEG: scans are missing")
    return Jpeg(frame.height, frame.width, len(frame.components), frame.num_samples, data)
