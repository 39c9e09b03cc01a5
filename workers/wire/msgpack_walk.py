"""A walk over the bytes of a msgpack map that builds nothing and stops early.

What claims to be a frame is looked at before its signature was checked, so looking must not cost
more than a good frame does, whatever the bytes say: 512 KiB of empty arrays in the place of one key
took the library half a second. A frame has fewer than 64 items; a walk that has met
`MAX_ITEMS`, of any kind and at any depth, is over.

Source: the msgpack specification, github.com/msgpack/msgpack/blob/master/spec.md.
"""

from workers.wire.refusal import MalformedFrame

MAX_ITEMS = 128

# By an item's first byte, (how many bytes tell a length, what it counts): the item's own bytes, for
# bin and text, or the items in it, for array and map.
_BYTES, _ITEMS, _PAIRS = 0, 1, 2
_LENGTHS = {
    **dict.fromkeys((0xC4, 0xD9), (1, _BYTES)),
    **dict.fromkeys((0xC5, 0xDA), (2, _BYTES)),
    **dict.fromkeys((0xC6, 0xDB), (4, _BYTES)),
    0xDC: (2, _ITEMS),
    0xDD: (4, _ITEMS),
    0xDE: (2, _PAIRS),
    0xDF: (4, _PAIRS),
}
# The same for what has no length: how many bytes follow. Nil and booleans; floats; integers.
_FIXED = {
    **dict.fromkeys((0xC0, 0xC2, 0xC3), 0),
    **dict.fromkeys((0xCC, 0xD0), 1),
    **dict.fromkeys((0xCD, 0xD1), 2),
    **dict.fromkeys((0xCA, 0xCE, 0xD2), 4),
    **dict.fromkeys((0xCB, 0xCF, 0xD3), 8),
}


def check_size(packed: bytes) -> None:
    """Return if the bytes are one item that holds fewer than `MAX_ITEMS`, and nothing after it.

    Raises:
        MalformedFrame: they are not.
    """
    end, _ = _skip(packed, 0, MAX_ITEMS)
    if end != len(packed):
        raise MalformedFrame(f"f has {len(packed) - end} bytes after its end")


def find_text(packed: bytes, wanted: bytes) -> bytes | None:
    """Return the text that stands beside a key of the outermost map; None: there is none.

    Raises:
        MalformedFrame: there is no map, or no such key among its first `MAX_ITEMS` items.
    """
    _, at, num_items = _head(packed, 0)
    if not (packed[0] & 0xF0 == 0x80 or packed[0] in (0xDE, 0xDF)):
        raise MalformedFrame("f must be a map")
    budget = MAX_ITEMS
    for _ in range(num_items // 2):
        key, at = _text(packed, at)
        if key is None:
            raise MalformedFrame("a key of f must be a text")
        if key == wanted:
            return _text(packed, at)[0]
        at, budget = _skip(packed, at, budget - 1)
    return None


def _text(packed: bytes, at: int) -> tuple[bytes | None, int]:
    """Return the text at a position, None if it is another item; and the position after it."""
    start, end, _ = _head(packed, at)
    is_text = packed[at] & 0xE0 == 0xA0 or packed[at] in (0xD9, 0xDA, 0xDB)
    return (packed[start:end] if is_text else None), end


def _skip(packed: bytes, at: int, budget: int) -> tuple[int, int]:
    """Return the position after an item and all that it holds, and what is left of the budget."""
    waiting = 1
    while waiting:
        if budget <= 0:
            raise MalformedFrame(f"f must have fewer than {MAX_ITEMS} items")
        _, at, num_items = _head(packed, at)
        waiting += num_items - 1
        budget -= 1
    return at, budget


def _head(packed: bytes, at: int) -> tuple[int, int, int]:
    """Return where an item's own bytes start and end, and how many items follow that it holds."""
    start, end, num_items = at + 1, at + 1, 0
    first = packed[at] if at < len(packed) else 0xC1
    if first < 0x80 or first >= 0xE0:  # a small integer
        return start, end, 0
    if first < 0xA0:  # a map or an array of up to 15
        return start, end, (first & 0x0F) << (first < 0x90)
    if first < 0xC0:  # a text of up to 31 bytes
        end += first & 0x1F
    elif first in _LENGTHS:
        width, counts = _LENGTHS[first]
        start = end = start + width
        length = int.from_bytes(packed[at + 1 : start])
        end += length if counts == _BYTES else 0
        num_items = length * counts
    else:
        end += _FIXED.get(first, len(packed))
    if end > len(packed):
        raise MalformedFrame("f ends amid an item, or has one of a type that no frame has")
    return start, end, num_items
