"""Pictures and bytes that try to hurt: PNGs, JPEGs and Pco streams that break one rule each."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SIDE = 48
_WAVES = np.sin(np.arange(SIDE) / 3.0)
FACE: NDArray[np.uint8] = (130 + 60 * _WAVES[:, None] + 60 * _WAVES[None]).astype(np.uint8)
DEPTH: NDArray[np.uint16] = (500 + FACE.astype(np.uint16)).astype(np.uint16)
COLOUR: NDArray[np.uint8] = cv2.applyColorMap(FACE, cv2.COLORMAP_JET)  # type: ignore[assignment]


def png_chunk(kind: bytes, content: bytes, claims: int | None = None, crc: int = 0) -> bytes:
    """Return a chunk; `claims` is a length that is a lie, `crc` is added to the checksum."""
    length = len(content) if claims is None else claims
    checksum = (zlib.crc32(kind + content) + crc) & 0xFFFFFFFF
    return struct.pack(">I", length) + kind + content + struct.pack(">I", checksum)


def png_header(
    width: int = 8, height: int = 8, bits: int = 8, colour: int = 0, interlace: int = 0
) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    return png_chunk(b"IHDR", fields)


def png_rows(num_bytes: int = 8 * 9) -> bytes:
    """Return an IDAT that inflates to so many zeros; 8 x 8 px of 8 bits are 72."""
    return png_chunk(b"IDAT", zlib.compress(bytes(num_bytes), 9))


def png_file(*chunks: bytes) -> bytes:
    """Return a PNG of these chunks and the end."""
    return b"".join((PNG_MAGIC, *chunks, png_chunk(b"IEND", b"")))


def png_of(pixels: NDArray[np.integer[Any]], *flags: int) -> bytes:
    """Return a PNG as OpenCV writes it."""
    return cv2.imencode(".png", pixels, flags)[1].tobytes()


def hostile_pngs() -> Iterator[tuple[str, bytes]]:
    """Yield PNGs none of which may be decoded."""
    head, rows = png_header(), png_rows()
    yield "no signature", png_file(head, rows)[1:]
    yield "nothing else", PNG_MAGIC
    yield "pixels before the header", png_file(rows, head)
    yield "a header twice", png_file(head, head, rows)
    yield "no pixels", png_file(head)
    yield "a chunk longer than the file", png_file(head, png_chunk(b"IDAT", bytes(20), 0xFFFFFFF0))
    yield "a text longer than the file", png_file(head, png_chunk(b"tEXt", bytes(9), 1 << 30), rows)
    yield (
        "a checksum that is wrong",
        png_file(head, png_chunk(b"IDAT", zlib.compress(bytes(72)), crc=1)),
    )
    yield (
        "a text's checksum that is wrong",
        png_file(head, png_chunk(b"tEXt", b"k\0v", crc=1), rows),
    )
    yield "an unknown critical chunk", png_file(head, png_chunk(b"CRIT", b""), rows)
    yield "a chunk that has no name", png_file(head, png_chunk(b"\0\0\0\0", b""), rows)
    yield "a gap in the pixels", png_file(head, rows, png_chunk(b"tIME", bytes(7)), rows)
    yield "very many chunks", png_file(head, *[png_chunk(b"tIME", bytes(7))] * 2000, rows)
    yield "a bomb", png_file(head, png_rows(200_000_000))
    yield "one byte too many", png_file(head, png_rows(73))
    yield "one byte too few", png_file(head, png_rows(71))
    yield (
        "no checksum of the pixels",
        png_file(head, png_chunk(b"IDAT", zlib.compress(bytes(72))[:-4])),
    )
    yield (
        "an unknown row filter",
        png_file(head, png_chunk(b"IDAT", zlib.compress(b"\x07" + bytes(71)))),
    )
    yield "no zlib stream", png_file(head, png_chunk(b"IDAT", b"not compressed"))
    yield "the end cut off", (PNG_MAGIC + head + rows)
    yield "cut within the pixels", cv2.imencode(".png", FACE)[1].tobytes()[:900]
    yield "no width", png_file(png_header(0), rows)
    yield "too wide", png_file(png_header(2049), png_rows(2050 * 8))
    yield "too many px", png_file(png_header(1500, 1500), png_rows(1501 * 1500))
    yield "a size of 31 bits", png_file(png_header(2**31 - 1, 2**31 - 1), rows)
    yield "1 bit", png_file(png_header(bits=1), png_rows(16))
    yield "3 bits", png_file(png_header(bits=3), rows)
    yield "a palette", png_file(png_header(colour=3), png_chunk(b"PLTE", bytes(768)), rows)
    yield "grey with alpha", png_file(png_header(colour=4), png_rows(8 * 17))
    yield "colour with alpha", png_file(png_header(colour=6), png_rows(8 * 33))
    yield "interlaced", png_file(png_header(interlace=1), png_rows(8 * 8 + 15))
    yield (
        "another compression",
        png_file(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 1, 0, 0)), rows),
    )
    yield "a header that is too short", png_file(png_chunk(b"IHDR", bytes(12)), rows)


def pco_of(pixels: NDArray[np.uint16], **config: int) -> bytes:
    """Return a Pco stream, with settings of `pcodec.ChunkConfig`."""
    numbers = np.ascontiguousarray(pixels).reshape(-1)
    stream: bytes = standalone.simple_compress(numbers, ChunkConfig(**config))
    return stream


def hostile_pcos() -> Iterator[tuple[str, bytes]]:
    """Yield streams none of which may be decoded as depth of `FACE`'s size."""
    whole = pco_of(DEPTH)
    yield "nothing", b"x"
    yield "no magic number", whole[1:]
    yield "nothing else", whole[:4]
    yield "its header alone", whole[:12]
    yield "cut", whole[: len(whole) // 2]
    yield "its last bytes cut", whole[:-8]
    yield "of a later version", whole[:4] + b"\xff" + whole[5:]
    yield "a bomb of one value", pco_of(np.zeros(1 << 24, np.uint16))
    yield "one number too many", pco_of(np.append(DEPTH.reshape(-1), np.uint16(1)))
    yield "one number too few", pco_of(DEPTH.reshape(-1)[:-1])
    yield "a whole batch too few", pco_of(DEPTH.reshape(-1)[:-256])
    yield "none", pco_of(DEPTH[:0])
    for kind in (np.int16, np.uint32, np.float32, np.float64, np.uint64):
        yield f"of {kind.__name__}", pco_of(DEPTH.astype(kind))
    for at in range(4, 40, 3):
        yield f"all bits at {at}", whole[:at] + b"\xff" * 9 + whole[at + 9 :]


def jpeg_file(*flags: int, pixels: NDArray[np.uint8] = FACE) -> bytes:
    """Return a JPEG as OpenCV writes it, with flags such as `cv2.IMWRITE_JPEG_PROGRESSIVE, 1`."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90, *flags])[1].tobytes()


def progressive(pixels: NDArray[np.uint8] = COLOUR) -> bytes:
    return jpeg_file(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, pixels=pixels)


def jpeg_segments(data: bytes) -> list[bytes]:
    """Return a JPEG's segments; a scan's data belong to its header."""
    starts = [0, 2]
    while data[starts[-1] + 1] != 0xD9:
        at = starts[-1]
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        while data[at + 1] == 0xDA and (
            data[end] != 0xFF or data[end + 1] in {0, *range(0xD0, 0xD8)}
        ):
            end += 1
        starts.append(end)
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def jpeg_of(segments: list[bytes], kind: int) -> int:
    """Return the place of the first segment with this marker."""
    return next(at for at, each in enumerate(segments) if each[1] == kind)


def changed(data: bytes, kind: int, at: int, value: bytes) -> bytes:
    """Return a JPEG with bytes changed in its first segment with this marker."""
    segments = jpeg_segments(data)
    place = jpeg_of(segments, kind)
    old = segments[place]
    segments[place] = old[:at] + value + old[at + len(value) :]
    return b"".join(segments)


def hostile_jpegs() -> Iterator[tuple[str, bytes]]:
    """Yield JPEGs none of which may be decoded."""
    whole = jpeg_file()
    segments, scans = jpeg_segments(whole), jpeg_segments(progressive())
    scan = jpeg_of(segments, 0xDA)
    yield "nothing else", b"\xff\xd8\xff"
    yield "no signature", whole[1:]
    yield "a million fill bytes", whole[:2] + b"\xff" * 1_000_000 + whole[2:]
    yield "nothing but fill bytes", b"\xff\xd8" + b"\xff" * 5000
    yield "a scan before any frame", b"\xff\xd8\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + whole[2:]
    yield "cut", whole[: len(whole) // 2]
    yield "cut, with an end marker", whole[: len(whole) // 2] + b"\xff\xd9"
    yield "its last bytes cut, with an end marker", whole[:-8] + b"\xff\xd9"
    yield "no end marker", whole[:-2]
    yield "no scan", b"".join([*segments[:scan], segments[-1]])
    yield "a scan twice", b"".join([*segments[:-1], segments[scan], segments[-1]])
    yield "progressive, cut", progressive()[: len(progressive()) // 2] + b"\xff\xd9"
    yield "progressive, its last scan missing", b"".join([*scans[:-2], scans[-1]])
    yield (
        "progressive, its first scan missing",
        b"".join(each for at, each in enumerate(scans) if at != jpeg_of(scans, 0xDA)),
    )
    yield (
        "progressive, a scan again and again",
        b"".join([*scans[:-1], *[scans[-2]] * 100, scans[-1]]),
    )
    yield "lossless", changed(whole, 0xC0, 1, b"\xc3")
    yield "arithmetic coding", changed(whole, 0xC0, 1, b"\xc9")
    yield "hierarchical", changed(whole, 0xC0, 1, b"\xc5")
    yield "12 bits", changed(changed(whole, 0xC0, 4, b"\x0c"), 0xC0, 1, b"\xc1")
    yield "no height", changed(whole, 0xC0, 5, b"\x00\x00")
    yield (
        "a height told afterwards",
        changed(whole, 0xC0, 5, b"\x00\x00")[:-2] + (b"\xff\xdc\x00\x04\x00\x30\xff\xd9"),
    )
    yield "no width", changed(whole, 0xC0, 7, b"\x00\x00")
    yield "more rows than there are", changed(whole, 0xC0, 5, b"\x00\x60")
    yield "30000 x 30000 px", changed(whole, 0xC0, 5, b"\x75\x30\x75\x30")
    yield "a sampling of 0", changed(whole, 0xC0, 11, b"\x00")
    yield "a sampling of 15", changed(whole, 0xC0, 11, b"\xff")
    yield "a segment longer than the file", changed(whole, 0xDB, 2, b"\xff\xff")
    yield "a segment of length 0", changed(whole, 0xDB, 2, b"\x00\x00")
    yield "a scan of a component that the frame lacks", changed(whole, 0xDA, 5, b"\x09")
    yield "a table that is none", changed(whole, 0xC4, 5, b"\xff" * 16)
    yield "no quantisation table", b"".join(each for each in segments if each[1] != 0xDB)
    yield "two frames", whole[:2] + segments[jpeg_of(segments, 0xC0)] + whole[2:]
    yield "very many comments", whole[:2] + b"\xff\xfe\x00\x02" * 200_000 + whole[2:]
    yield (
        "a restart marker that is missing",
        jpeg_file(cv2.IMWRITE_JPEG_RST_INTERVAL, 2).replace(b"\xff\xd1", b"", 1),
    )
    yield "restart markers that are not due", whole[:-40] + b"\xff\xd3" * 9 + whole[-40:]
    for name, data in (("restarts", b"\xff\xd0"), ("fill", b"\xff"), ("stuffing", b"\xff\x00")):
        yield (
            f"a scan of nothing but {name}",
            b"".join([*segments[:scan], segments[scan][:10], data * 500_000, b"\xff\xd9"]),
        )
        yield (
            f"a scan of nothing but {name}, without end",
            b"".join([*segments[:scan], segments[scan][:10], data * 500_000]),
        )
    yield "four channels", changed(jpeg_file(pixels=COLOUR), 0xC0, 9, b"\x04")
