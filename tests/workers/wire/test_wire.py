"""Wire format 1: frozen by golden files, strict about everything else."""

import math
import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.wire.told import DECISION, FRAME, KEY, VERDICT, body
from workers.wire.decision import pack_decision, unpack_decision
from workers.wire.frame import (
    pack_frame,
    peek_camera_id,
    take_fields,
    unpack_frame,
)
from workers.wire.presentation import (
    pack_verdict,
    unpack_verdict,
)
from workers.wire.refusal import (
    FrameRefused,
    FrameTooLarge,
    MalformedFrame,
    MissingKey,
    UnknownVersion,
    WrongType,
)
from workers.wire.signing import sign

GOLDEN = Path(__file__).parent / "golden"


class TestGolden:
    """The files were written once; a change here breaks every camera in the field."""

    def test_frame(self) -> None:
        golden = (GOLDEN / "frame-v1.msgpack").read_bytes()
        assert pack_frame(FRAME) == golden
        assert unpack_frame(golden) == FRAME
        assert peek_camera_id(golden) == "gate-1"

    def test_signature(self) -> None:
        golden = (GOLDEN / "frame-v1.msgpack").read_bytes()
        assert sign(golden, KEY) == (GOLDEN / "frame-v1.signature").read_bytes()

    def test_decision(self) -> None:
        golden = (GOLDEN / "decision-v1.msgpack").read_bytes()
        assert pack_decision(DECISION) == golden
        assert unpack_decision(golden) == DECISION

    def test_verdict(self) -> None:
        golden = (GOLDEN / "verdict-v1.msgpack").read_bytes()
        assert pack_verdict(VERDICT) == golden
        assert unpack_verdict(golden) == VERDICT

    def test_a_decision_and_a_verdict_are_not_mistaken_for_each_other(self) -> None:
        with pytest.raises(ValueError, match="no decision on a frame"):
            unpack_decision(pack_verdict(VERDICT))
        with pytest.raises(ValueError, match="update the reader"):
            unpack_verdict(pack_decision(DECISION))


class TestStrictness:
    @pytest.mark.parametrize("version", [0, 2, "1", True, None, 1.5])
    def test_unknown_version(self, version: object) -> None:
        with pytest.raises(UnknownVersion, match="v must be 1"):
            unpack_frame(msgpack.packb(body(v=version)))

    @pytest.mark.parametrize("key", ["v", "camera_id", "seq", "captured_at_ms", "planes"])
    def test_missing_key(self, key: str) -> None:
        with pytest.raises(MissingKey, match=key):
            unpack_frame(msgpack.packb(body(**{key: ...})))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("camera_id", ""),
            ("camera_id", "a" * 65),
            ("camera_id", "a b"),
            ("camera_id", "gate-1\n"),
            ("camera_id", "gate\u0661"),
            ("camera_id", b"gate-1"),
            ("seq", -1),
            ("seq", 1.0),
            ("seq", True),
            ("seq", "1"),
            ("captured_at_ms", -5),
            ("captured_at_ms", None),
            ("presentation_id", 5),
            ("presentation_id", ""),
            ("presentation_id", "\x1b[2J"),
            ("presentation_id", "a\nb"),
            ("face_box", [1, 2, 3]),
            ("face_box", [1, 2, 0, 4]),
            ("face_box", [1, 2, math.inf, 4]),
            ("face_box", [1, 2, math.nan, 4]),
            ("face_box", [True, 2, 3, 4]),
            ("face_box", [0, 0, 1e300, 4]),
            ("face_box", [-70_000, 2, 3, 4]),
            ("face_box", [2**64 - 1, 2, 3, 4]),
            ("face_box", "1234"),
            ("planes", {}),
            ("planes", []),
            ("planes", {"thermal": {"codec": "png", "data": b"x"}}),
            ("planes", {"rgb": b"x"}),
            ("planes", {"rgb": {"codec": "webp", "data": b"x"}}),
            ("planes", {"rgb": {"codec": "png", "data": "x"}}),
            ("planes", {"rgb": {"codec": "png", "data": b""}}),
            ("planes", {"rgb": {"codec": "raw", "data": b"x", "shape": [1]}}),
            ("planes", {"rgb": {"codec": "raw", "data": b"x", "shape": [1, -1]}}),
            ("planes", {"depth": {"codec": "png", "data": b"x", "unit_mm": 0}}),
            ("planes", {"depth": {"codec": "png", "data": b"x", "unit_mm": math.nan}}),
            ("planes", {"depth": {"codec": "png", "data": b"x", "unit_mm": -0.0}}),
            ("planes", {"depth": {"codec": "png", "data": b"x", "unit_mm": 2**64 - 1}}),
            ("planes", {"depth": {"codec": "png", "data": b"x", "unit_mm": True}}),
            ("planes", {"rgb": {"codec": ["png"], "data": b"x"}}),
            ("planes", {"rgb": {"codec": "raw", "data": b"x", "shape": [1.0, 1]}}),
            ("planes", {"rgb": {"codec": "raw", "data": b"x", "shape": [2**40, 1]}}),
        ],
    )
    def test_wrong_type_or_range(self, key: str, value: object) -> None:
        with pytest.raises(WrongType):
            unpack_frame(msgpack.packb(body(**{key: value})))

    def test_raw_needs_a_shape(self) -> None:
        with pytest.raises(MissingKey, match="shape"):
            unpack_frame(msgpack.packb(body(planes={"rgb": {"codec": "raw", "data": b"x"}})))
        with pytest.raises(MissingKey, match="shape"):
            unpack_frame(msgpack.packb(body(planes={"depth": {"codec": "pco", "data": b"x"}})))

    @pytest.mark.parametrize(
        "changed",
        [
            body(presentationId="x"),
            body(planes={"rgb": {"codec": "png", "data": b"x", "unit_mm": 1.0}}),
        ],
    )
    def test_unknown_keys_are_refused(self, changed: dict[str, Any]) -> None:
        with pytest.raises(MalformedFrame, match="unknown key"):
            unpack_frame(msgpack.packb(changed))

    def test_a_key_must_not_stand_twice(self) -> None:
        twice = b"\x82" + (msgpack.packb("v") + b"\x01") * 2
        with pytest.raises(MalformedFrame, match="twice"):
            unpack_frame(twice)

    @pytest.mark.parametrize(
        "packed",
        [
            b"",
            b"\x90",
            b"\xc1",
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff",
            b"\x81" * 3000,
            pack_frame(FRAME)[:-1],
            pack_frame(FRAME) + b"\x00",
            b"\xdc\xff\xff" + b"\x80" * 65535,
            b"\x81\xa1v" + b"\x91" * 2000 + b"\x01",
            b"\x81\xdd" + struct.pack(">I", 1 << 16) + b"\x90" * (1 << 16) + b"\x01",
            b"\x81\xa1v" + b"\x9f" * 20 + b"\x80" * 65535,
            b"\x81\xa1\xff\x01",
            b"\x81\xa9camera_id\xa3\xed\xa0\x80",
            b"\x81\xa1v\xd4\x01\x01",
            b"\x81\xa1v\xd6\xff\x00\x00\x00\x01",
            b"\x81\xc0\x01",
            b"\x81\x90\x01",
        ],
    )
    def test_hostile_bytes(self, packed: bytes) -> None:
        with pytest.raises(MalformedFrame):
            unpack_frame(packed)

    @pytest.mark.parametrize(
        "packed", [b"", b"\x80", b"\x90", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x81" * 3000]
    )
    def test_nobody_can_be_peeked(self, packed: bytes) -> None:
        with pytest.raises(MalformedFrame):
            peek_camera_id(packed)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_refused_or_a_frame(self, packed: bytes) -> None:
        for read in (unpack_frame, peek_camera_id):
            with suppress(FrameRefused):
                read(packed)

    @given(st.integers(0, 400), st.integers(0, 255))
    def test_a_changed_byte_is_refused_or_a_frame(self, at: int, value: int) -> None:
        packed = bytearray(pack_frame(FRAME))
        packed[at % len(packed)] = value
        with suppress(FrameRefused):
            unpack_frame(bytes(packed))


class TestFields:
    def test_the_signature_may_be_missing(self) -> None:
        assert take_fields({b"f": b"x"}) == (b"x", None)

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {b"s": b"x"},
            {b"f": b"x", b"g": b"y"},
            {b"f": b"x", b"s": b"x", b"": b""},
            {b"f": b"x", **{b"%d" % number: b"" for number in range(10_000)}},
        ],
        ids=len,
    )
    def test_other_fields_are_refused(self, fields: dict[bytes, bytes]) -> None:
        with pytest.raises(MalformedFrame):
            take_fields(fields)

    def test_too_large(self) -> None:
        with pytest.raises(FrameTooLarge, match="at most 10"):
            take_fields({b"f": b"x" * 8, b"s": b"yyy"}, max_bytes=10)


class TestMessages:
    """They go to logs, dead letters and terminals: type and length, nothing of what was sent."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"v": "SECRET"},
            {"camera_id": "SECRET "},
            {"camera_id": b"SECRET"},
            {"seq": "SECRET"},
            {"seq": 5317 * 10**30 % 2**63 - 2**63},
            {"presentation_id": "SECRET\n"},
            {"presentation_id": "SECRET" * 99},
            {"face_box": ["SECRET", 1, 2, 3]},
            {"SECRET": 1},
            {"planes": {"SECRET": {}}},
            {"planes": {"rgb": "SECRET"}},
            {"planes": {"rgb": {"codec": "SECRET", "data": b"x"}}},
            {"planes": {"rgb": {"codec": "png", "data": "SECRET"}}},
            {"planes": {"rgb": {"codec": "png", "data": b"x", "SECRET": 1}}},
            {"planes": {"depth": {"codec": "png", "data": b"x", "unit_mm": "SECRET"}}},
        ],
    )
    def test_a_value_is_not_shown(self, changes: dict[str, Any]) -> None:
        with pytest.raises(MalformedFrame) as caught:
            unpack_frame(msgpack.packb(body(**changes)))
        assert "SECRET" not in str(caught.value)
        assert not re.search(r"\d{8}", str(caught.value).replace(str(2**64 - 1), ""))

    def test_bytes_that_are_no_text_are_not_shown(self) -> None:
        with pytest.raises(MalformedFrame) as caught:
            unpack_frame(b"\x81\xa9SECRET\xff\xff\xff\x01")
        assert "SECRET" not in str(caught.value)

    def test_an_unknown_field_is_not_shown(self) -> None:
        with pytest.raises(MalformedFrame, match="9 bytes") as caught:
            take_fields({b"f": b"x", b"SECRET\n\n\n": b"y"})
        assert "SECRET" not in str(caught.value)

    def test_a_camera_that_is_none_is_not_shown(self) -> None:
        for value in ("SECRET " * 9, "SECRET " * 100):
            with pytest.raises(WrongType) as caught:
                peek_camera_id(msgpack.packb({"camera_id": value}))
            assert "SECRET" not in str(caught.value)

    def test_what_is_shown(self) -> None:
        with pytest.raises(WrongType, match=r"codec must be one of .*, is str of length 4"):
            unpack_frame(msgpack.packb(body(planes={"rgb": {"codec": "webp", "data": b"x"}})))


class TestPeek:
    def test_the_order_of_keys_does_not_matter(self) -> None:
        turned = dict(reversed(body().items()))
        assert peek_camera_id(msgpack.packb(turned)) == "gate-1"
        assert unpack_frame(msgpack.packb(turned)) == FRAME


def test_a_decision_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 1"):
        unpack_decision(msgpack.packb({"v": 2}))
