"""Mutations that know what a frame is made of: msgpack, PNG chunks, JPEG segments, Pco headers.

Blind changes of bytes end at the first checksum. These go on behind it: a chunk gets its checksum
again, rows are inflated, changed and compressed again, and a JPEG's segments are moved around.
"""

import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgpack

from tests.hostile import PNG_MAGIC, png_chunk

MAX_BYTES = 1 << 20
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_ODD_NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    2047,
    2048,
    2049,
    65535,
    2**31,
    2**63,
    2**64 - 1,
)
_ODD_VALUES: tuple[Any, ...] = (
    *_ODD_NUMBERS, -1, -0.0, 0.5, 1e-300, 1e300, float("inf"), float("nan"), None, True, b"", "",
    "rgb", "ir", "depth", "raw", "png", "jpeg", "pco",
    "\x1b[2J", "a" * 129, b"\xff" * 40, [], {}, [[[]]],
    [1, 2], [8, 8, 3], [0.0, 0.0, 1.0, 1.0], {"codec": "raw"}, msgpack.ExtType(5, b"x"),
)  # fmt: skip
_ODD_KEYS = (0, -1.5, None, True, b"v", "", "v", "seq", "face_box", "shape", "unit_mm", "a" * 129)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return one to four mutations of a packed frame, at most `MAX_BYTES` of it."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = rng.choice((_bytes, _values, _values, _plane, _plane, _plane, _plane))(data, rng)
    return data[:MAX_BYTES]


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, cut, repeat or insert a few bytes."""
    changed = bytearray(data or b"\0")
    at = rng.randrange(len(changed))
    size = rng.choice((1, 1, 2, 4, 16, 300))
    how = rng.randrange(7)
    if how == 0:
        changed[at] ^= 1 << rng.randrange(8)
    elif how == 1:
        changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif how == 2:
        changed[at : at + size] = rng.choice(_ODD_NUMBERS).to_bytes(8)[-size:]
    elif how == 3:
        del changed[at : at + size]
    elif how == 4:
        changed[at:at] = changed[at : at + size] * rng.choice((1, 1, 2, 50))
    elif how == 5:
        changed[at:at] = rng.randbytes(size)
    else:
        del changed[at:]
    return bytes(changed)


def _values(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, add or wrap a value of the frame's map, or of a plane's."""
    frame = _unpacked(data)
    if frame is None:
        return _bytes(data, rng)
    if rng.random() < 0.3:
        # A box that may be a good one: much of cropping lies behind it.
        corner, sides = (-rng.random() * 30, rng.random() * 60), (rng.random() * 90, 40)
        frame["face_box"] = rng.sample([*corner, *sides], 4)
        return _packed(frame, data)
    body = frame
    planes = frame.get("planes")
    if isinstance(planes, dict) and planes and rng.random() < 0.6:
        body = rng.choice([planes, *(each for each in planes.values() if isinstance(each, dict))])
    key = rng.choice([*body, *_ODD_KEYS])
    how = rng.randrange(5)
    if how == 0:
        body.pop(key, None)
    elif how == 1:
        body[key] = [body.get(key)] * rng.choice((1, 2, 200))
    elif how == 2 and body:
        other = rng.choice(list(body))
        body[key], body[other] = body[other], body.get(key)
    elif how == 3 and isinstance(body.get(key), list) and body[key]:
        body[key][rng.randrange(len(body[key]))] = rng.choice(_ODD_VALUES)
    else:
        body[key] = rng.choice(_ODD_VALUES)
    return _packed(frame, data)


def _plane(data: bytes, rng: random.Random) -> bytes:
    """Change one of the pictures."""
    frame = _unpacked(data)
    planes = frame.get("planes") if frame is not None else None
    pictures = [
        plane
        for plane in (planes.values() if isinstance(planes, dict) else ())
        if isinstance(plane, dict) and isinstance(plane.get("data"), bytes)
    ]
    if frame is None or not pictures:
        return _bytes(data, rng)
    plane = rng.choice(pictures)
    how: Callable[[bytes, random.Random], bytes] = _bytes
    if rng.random() < 0.8:
        how = {b"\x89P": _png, b"\xff\xd8": _jpeg, b"pc": _header}.get(plane["data"][:2], _bytes)
    plane["data"] = how(plane["data"], rng)
    return _packed(frame, data)


Chunk = tuple[bytes, bytes]


def _png(data: bytes, rng: random.Random) -> bytes:
    """Change chunks; their checksums are made anew."""
    chunks: list[Chunk] = []
    at = len(PNG_MAGIC)
    while at + 12 <= len(data) and len(chunks) < 100:
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return _bytes(data, rng)
    place = rng.randrange(len(chunks))
    lie = rng.choice(_ODD_NUMBERS) & 0xFFFFFFFF if rng.random() < 0.1 else None
    rng.choice(_CHUNK_CHANGES)(chunks, place, rng)
    return PNG_MAGIC + b"".join(
        png_chunk(*each, claims=lie if at == place else None) for at, each in enumerate(chunks)
    )


def _change_chunk(chunks: list[Chunk], place: int, rng: random.Random) -> None:
    kind, content = chunks[place]
    change = _rows if kind == b"IDAT" and rng.random() < 0.8 else _bytes
    chunks[place] = kind, change(content, rng)


def _drop_chunk(chunks: list[Chunk], place: int, _: random.Random) -> None:
    del chunks[place]


def _repeat_chunk(chunks: list[Chunk], place: int, rng: random.Random) -> None:
    chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])


def _add_chunk(chunks: list[Chunk], place: int, rng: random.Random) -> None:
    names = (b"tEXt", b"PLTE", b"tRNS", b"acTL", b"fdAT", b"IDAT", b"IEND", b"ABCD")
    chunks.insert(place, (rng.choice(names), rng.randbytes(rng.choice((0, 3, 26, 300)))))


def _halve_chunk(chunks: list[Chunk], place: int, _: random.Random) -> None:
    kind, content = chunks[place]
    half = len(content) // 2
    chunks[place : place + 1] = [(kind, content[:half]), (kind, content[half:])]


_CHUNK_CHANGES = (
    _change_chunk,
    _change_chunk,
    _change_chunk,
    _drop_chunk,
    _repeat_chunk,
    _add_chunk,
    _halve_chunk,
)


def _rows(content: bytes, rng: random.Random) -> bytes:
    """Change what an IDAT inflates to."""
    try:
        rows = zlib.decompressobj().decompress(content, MAX_BYTES)
    except zlib.error:
        return _bytes(content, rng)
    if rng.random() < 0.1:
        rows += bytes(rng.choice((1, 1000, 3_000_000)))
    if rng.random() < 0.2:
        rows = _bytes(rows, rng)
    elif rows:
        at = rng.randrange(len(rows))
        rows = (
            rows[:at] + bytes((rng.choice((0, 1, 2, 3, 4, rng.randrange(256))),)) + rows[at + 1 :]
        )
    return zlib.compress(rows, rng.choice((0, 1, 9)))


def _header(data: bytes, rng: random.Random) -> bytes:
    """Change the beginning of a Pco stream: counts, modes, tables; the rest is numbers."""
    at = 4 + rng.randrange(60)
    return data[:4] + _bytes(data[4:at], rng) + data[at:]


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """Move, change, drop, repeat or cut segments."""
    segments = _segments(data)
    rng.choice(_SEGMENT_CHANGES)(segments, rng.randrange(len(segments)), rng)
    return b"".join(segments)


def _segments(data: bytes) -> list[bytes]:
    """Return a JPEG's segments, as far as there are any; a scan's data are one of their own."""
    starts, at = [0], 2
    while data[at : at + 1] == b"\xff" and len(starts) < 100:
        starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[starts[-1] + 1 : starts[-1] + 2] == b"\xda":
            starts.append(at)
            found = _AFTER_SCAN.search(data, at)
            at = found.start() if found else len(data)
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def _change_header(segments: list[bytes], place: int, rng: random.Random) -> None:
    """Headers are short, and tell more than the data after them."""
    segments[place] = _bytes(segments[place][:24], rng) + segments[place][24:]


def _change_segment(segments: list[bytes], place: int, rng: random.Random) -> None:
    segments[place] = _bytes(segments[place], rng)


def _drop_segment(segments: list[bytes], place: int, _: random.Random) -> None:
    del segments[place]


def _repeat_segment(segments: list[bytes], place: int, rng: random.Random) -> None:
    at = rng.randrange(len(segments) + 1)
    segments[at:at] = [segments[place]] * rng.choice((1, 1, 2, 20, 600))


def _cut_segment(segments: list[bytes], place: int, rng: random.Random) -> None:
    segments[place] = segments[place][: rng.randrange(len(segments[place]) + 1)]
    segments.append(b"\xff\xd9")


def _fill(segments: list[bytes], place: int, rng: random.Random) -> None:
    segments.insert(place, b"\xff" * rng.choice((1, 100, 300, 5000)))


def _comment(segments: list[bytes], _: int, rng: random.Random) -> None:
    comment = rng.randbytes(rng.choice((0, 5, 3000)))
    segments.insert(1, b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment)


def _append(segments: list[bytes], _: int, rng: random.Random) -> None:
    segments.append(rng.randbytes(rng.choice((1, 64, 3000))))


_SEGMENT_CHANGES = (
    _change_header,
    _change_segment,
    _drop_segment,
    _repeat_segment,
    _cut_segment,
    _fill,
    _comment,
    _append,
)


def _unpacked(data: bytes) -> dict[Any, Any] | None:
    try:
        frame = msgpack.unpackb(data, strict_map_key=False, max_map_len=64, max_array_len=512)
    except Exception:  # noqa: BLE001 - mutated bytes are no msgpack in many ways
        return None
    return frame if isinstance(frame, dict) else None


def _packed(frame: dict[Any, Any], data: bytes) -> bytes:
    try:
        packed: bytes = msgpack.packb(frame)
    except (ValueError, OverflowError, TypeError):
        return data
    return packed
