"""The walk over unsigned bytes: it agrees with the library, and it ends early."""

import struct
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.wire.msgpack_walk import MAX_ITEMS, check_size, find_text
from workers.wire.refusal import MalformedFrame

MANY = 1 << 18
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(width=32)
    | st.text(max_size=300)
    | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=20),
    max_leaves=30,
)


def num_items(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(num_items, (*value.keys(), *value.values())))
    return 1 + (sum(map(num_items, value)) if isinstance(value, list) else 0)


@given(VALUES, st.booleans())
def test_what_the_library_packs_is_walked_to_its_end(value: Any, single: bool) -> None:
    packed = msgpack.packb(value, use_single_float=single)
    if num_items(value) <= MAX_ITEMS:
        check_size(packed)
        with pytest.raises(MalformedFrame, match="1 bytes after its end"):
            check_size(packed + b"\x00")
        with pytest.raises(MalformedFrame, match="ends amid"):
            check_size(packed[:-1])
    else:
        with pytest.raises(MalformedFrame, match="fewer than"):
            check_size(packed)


@given(st.dictionaries(st.text(max_size=40), VALUES, max_size=12), st.text(max_size=40))
def test_a_text_is_found_wherever_it_stands(body: dict[str, Any], text: str) -> None:
    turned = {**body, "camera_id": text}
    if num_items(turned) <= MAX_ITEMS:
        assert find_text(msgpack.packb(turned), b"camera_id") == text.encode()


@pytest.mark.parametrize("value", [None, 5, b"gate-1", ["gate-1"], {"gate": 1}])
def test_another_value_is_no_text(value: Any) -> None:
    assert find_text(msgpack.packb({"camera_id": value}), b"camera_id") is None


@pytest.mark.parametrize("packed", [b"\x80", b"\xde\x00\x00", msgpack.packb({"seq": 1})])
def test_a_key_that_is_not_there(packed: bytes) -> None:
    assert find_text(packed, b"camera_id") is None


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xdb\xff\xff\xff\xffab",
        b"\x81\xdd" + struct.pack(">I", MANY) + b"\x90" * MANY + b"\x01",
        b"\x81\x81" * MANY,
        b"\x81\xa1v" + b"\x91" * MANY,
        b"\x81\xa1v" + b"\x9f" * 20 + b"\x80" * MANY,
        b"\xdf" + struct.pack(">I", MANY) + b"\x80" * MANY,
        b"\xdf" + struct.pack(">I", MANY) + b"\xa0\x01" * MANY,
        b"\xdf" + struct.pack(">I", MANY) + b"\x01" * 2 * MANY,
        b"\x81\xa1v\xc9" + struct.pack(">I", MANY) + bytes(MANY),
        b"\x81\xa1v\xd4\x01\x01",
    ],
    ids=lambda packed: packed[:4].hex(),
)
def test_hostile_bytes(packed: bytes) -> None:
    with pytest.raises(MalformedFrame):
        check_size(packed)
    with suppress(MalformedFrame):
        assert find_text(packed, b"camera_id") is None


class Counted(bytes):
    """Bytes that count how often one of them was looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        type(self).looks += 1
        return super().__getitem__(at)


@pytest.mark.parametrize(
    "packed",
    [
        b"\x81\xa1v\xdd" + struct.pack(">I", MANY) + b"\x90" * MANY,
        b"\x81\xa1v" + b"\x91" * MANY,
        b"\xdf" + struct.pack(">I", MANY) + b"\xa0\x01" * MANY,
    ],
)
def test_a_walk_ends_after_so_many_items(packed: bytes) -> None:
    Counted.looks = 0
    with pytest.raises(MalformedFrame, match="fewer than"):
        find_text(Counted(packed), b"camera_id")
    assert Counted.looks < 10 * MAX_ITEMS
