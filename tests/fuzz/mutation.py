"""Mutations that know what a frame is made of: bytes, msgpack, PNG chunks, JPEG segments.

Blind changes of bytes end at the first checksum. These go on behind it: a chunk gets its checksum
again, rows are inflated, changed and compressed again, and a JPEG's segments are moved around.
"""

import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgpack

from tests.hostile import PNG_MAGIC, png_chunk

MAX_BYTES = 1 << 20
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
    "rgb", "ir", "depth", "raw", "png", "jpeg", "\x1b[2J", "a" * 129, b"\xff" * 40, [], {}, [[[]]],
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
        how = {b"\x89P": _png, b"\xff\xd8": _jpeg}.get(plane["data"][:2], _bytes)
    plane["data"] = how(plane["data"], rng)
    return _packed(frame, data)


def _png(data: bytes, rng: random.Random) -> bytes:
    """Change chunks; their checksums are made anew."""
    chunks, at = [], len(PNG_MAGIC)
    while at + 12 <= len(data) and len(chunks) < 100:
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return _bytes(data, rng)
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    how = rng.randrange(8)
    if how in {0, 6}:
        chunks[place] = kind, _rows(content, rng) if kind == b"IDAT" else _bytes(content, rng)
    elif how == 7:
        half = len(content) // 2
        chunks[place : place + 1] = [(kind, content[:half]), (kind, content[half:])]
    elif how == 1:
        chunks[place] = kind, _bytes(content, rng)
    elif how == 2:
        del chunks[place]
    elif how == 3:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
    elif how == 4:
        names = (b"tEXt", b"PLTE", b"tRNS", b"acTL", b"fdAT", b"IDAT", b"IEND", b"ABCD")
        chunks.insert(place, (rng.choice(names), rng.randbytes(rng.choice((0, 3, 26, 300)))))
    else:
        lie = rng.choice(_ODD_NUMBERS) & 0xFFFFFFFF
        return PNG_MAGIC + b"".join(
            png_chunk(*each, claims=lie if at == place else None) for at, each in enumerate(chunks)
        )
    return PNG_MAGIC + b"".join(png_chunk(*each) for each in chunks)


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


def _jpeg(data: bytes, rng: random.Random) -> bytes:
    """Move, change, drop, repeat or cut segments."""
    starts = [0]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and len(starts) < 100:
        starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
        while (
            data[starts[-1] + 1] == 0xDA
            and at + 1 < len(data)
            and (data[at] != 0xFF or data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7)
        ):
            at = max(at + 1, data.find(b"\xff", at + 1)) if b"\xff" in data[at + 1 :] else len(data)
    segments = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    place = rng.randrange(len(segments))
    how = rng.randrange(9)
    if how == 0:
        # Headers are short, and tell more than the data after them.
        segments[place] = _bytes(segments[place][:24], rng) + segments[place][24:]
    elif how == 1:
        segments[place] = _bytes(segments[place], rng)
    elif how == 2:
        del segments[place]
    elif how == 3:
        segments.insert(rng.randrange(len(segments) + 1), segments[place])
    elif how == 4:
        segments[place] = segments[place][: rng.randrange(len(segments[place]) + 1)]
        segments.append(b"\xff\xd9")
    elif how == 5:
        segments[place:place] = [segments[place]] * rng.choice((2, 20, 600))
    elif how == 6:
        segments[place:place] = [b"\xff" * rng.choice((1, 100, 300, 5000))]
    elif how == 7:
        comment = rng.randbytes(rng.choice((0, 5, 3000)))
        segments.insert(1, b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment)
    else:
        segments.append(rng.randbytes(rng.choice((1, 64, 3000))))
    return b"".join(segments)


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
