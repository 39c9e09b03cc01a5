"""A camera's arrays and their frame: what is taken, and what to pass instead of the rest."""

from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pcodec import standalone

from workers.client.camera import CameraError, jpeg, pco, png
from workers.client.outbox import Outbox
from workers.client.pictures import make_frame
from workers.errors import WorkerError
from workers.wire.frame import EncodedPlane, pack_frame, unpack_frame
from workers.wire.refusal import FrameRefused

RGB = np.zeros((8, 10, 3), np.uint8)
IR = np.zeros((8, 10), np.uint8)
DEPTH = np.arange(80, dtype=np.uint16).reshape(8, 10)


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (RGB.astype(np.float32), "255 \\* pixels"),
        (IR.astype(np.uint16), ">> 8"),
        (IR.astype(">u2"), "own counts"),
        (IR.astype(np.int16), "clip to 0..255"),
        (IR.astype(bool), "\\* 255"),
        (IR.astype(complex), "own counts"),
        (RGB[..., None], "RGB order"),
        (np.zeros((8, 10, 4), np.uint8), "RGBA"),
        (IR[..., None], "pixels\\[..., 0\\]"),
        (IR[0], "px a side"),
        (RGB[:0], "px a side"),
        (np.zeros((2049, 1), np.uint8), "scale it down"),
        (np.zeros((1025, 1024), np.uint8), "scale it down"),
        (np.ma.masked_equal(IR, 0), "filled"),
        (IR.tolist(), "numpy.asarray"),
        (None, "numpy.asarray"),
    ],
)
def test_jpeg_says_what_to_pass(pixels: Any, advice: str) -> None:
    with pytest.raises(CameraError, match=advice):
        jpeg(pixels)


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (DEPTH.astype(np.float64), "1000 \\* depth_m"),
        (DEPTH.astype(">u2"), "swaps its bytes"),
        (DEPTH.astype(np.int16), "clip to 0..65535"),
        (DEPTH.astype(np.uint8), "below 65536"),
        (DEPTH.astype(np.uint32), "below 65536"),
        (DEPTH[..., None], "one channel"),
        (DEPTH[0], "px a side"),
        (np.ma.masked_equal(DEPTH, 0), "filled"),
        (DEPTH.tolist(), "numpy.asarray"),
    ],
)
def test_depth_says_what_to_pass(pixels: Any, advice: str) -> None:
    for encode in (png, pco):
        with pytest.raises(CameraError, match=advice):
            encode(pixels)


@pytest.mark.parametrize("unit_mm", [0, -1, 100.1, float("nan"), "1", True, None])
def test_a_unit_is_in_millimetres(unit_mm: Any) -> None:
    for encode in (png, pco):
        with pytest.raises(CameraError, match="unit_mm"):
            encode(DEPTH, unit_mm)


@pytest.mark.parametrize("quality", [0, 101, 92.0, "92", True, None])
def test_a_quality_is_a_whole_number(quality: Any) -> None:
    with pytest.raises(CameraError, match="quality"):
        jpeg(RGB, quality)


def test_what_is_taken_is_what_arrives() -> None:
    rng = np.random.default_rng(0)
    depth = rng.integers(0, 60_000, (8, 10), np.uint16)
    for view in (depth, depth[::-1], depth[:, ::2], np.asfortranarray(depth)):
        plane = png(view, np.float32(0.25))
        decoded = cv2.imdecode(np.frombuffer(plane.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert (decoded == view).all()
        assert plane.unit_mm == 0.25
        plane = pco(view, np.float32(0.25))
        assert (standalone.simple_decompress(plane.data).reshape(plane.shape) == view).all()
        assert (plane.codec, plane.unit_mm) == ("pco", 0.25)
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 255
    decoded = cv2.imdecode(np.frombuffer(jpeg(red[::-1]).data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    assert decoded[8, 8, 0] > 200
    assert decoded[8, 8, 2] < 100


@pytest.mark.parametrize(
    ("planes", "message"),
    [
        ({}, "planes"),
        (None, "jpeg\\(rgb\\)"),
        ([jpeg(RGB)], "jpeg\\(rgb\\)"),
        ({"rgb": RGB}, "pass jpeg"),
        ({"depth": DEPTH}, "pass png"),
        ({"rgb": jpeg(IR)}, "one channel"),
        ({"ir": jpeg(RGB)}, "three channels"),
        ({"depth": jpeg(RGB)}, "three channels"),
        ({"ir": png(DEPTH)}, "16 bits"),
        ({"rgb": EncodedPlane("jpeg", np.zeros(9, np.uint8))}, "tobytes"),  # type: ignore[arg-type]
        ({"uv": jpeg(IR)}, "modality"),
        ({5: jpeg(IR)}, "planes|msgpack|modality"),
    ],
)
def test_planes_are_encoded_pictures(planes: Any, message: str) -> None:
    with pytest.raises(FrameRefused, match=message):
        unpack_frame(pack_frame(make_frame(planes, None, None, None)))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (5, "four"),
        ("1234", "four"),
        ((1, 2, 3), "four"),
        ((1, 2, 3, "4"), "four"),
        ((1, 2, 3, True), "four"),
        ((1, 2, 3, float("nan")), "four"),
        (np.zeros((2, 2)), "four"),
        (np.array([1, 2, np.inf, 4]), "four"),
        ((1, 2, 0, 4), "1 px or more"),
        ((5, 5, 3, -3), "1 px or more"),
        ((10, 0, 5, 5), "outside"),
        ((-5, 0, 5, 5), "outside"),
        ((0, 8, 5, 5), "outside"),
    ],
)
def test_a_face_box_is_x_y_w_h_in_the_picture(box: Any, message: str) -> None:
    with pytest.raises(FrameRefused, match=message):
        make_frame({"rgb": jpeg(RGB)}, None, None, box)


@pytest.mark.parametrize("box", [(0, 0, 10, 8), [-3.5, -2, 9, 9], np.array([9, 7, 5, 5], np.int16)])
def test_a_face_box_may_reach_over_the_edge(box: Any) -> None:
    frame = make_frame({"rgb": jpeg(RGB)}, None, None, box)
    assert frame.face_box == tuple(float(value) for value in box)


@pytest.mark.parametrize(
    "stamp",
    [1_700_000_000, 1_700_000_000.5, 1_700_000_000_000_000, -1, 0, "now", True, np.float64(1.7e12)],
)
def test_a_stamp_is_in_milliseconds(stamp: Any) -> None:
    with pytest.raises(FrameRefused, match="Unix milliseconds"):
        make_frame({"rgb": jpeg(RGB)}, stamp, None, None)


@pytest.mark.parametrize("presentation_id", [5, "", "x" * 129, b"p"])
def test_a_presentation_id_is_a_text(presentation_id: Any) -> None:
    with pytest.raises(FrameRefused):
        unpack_frame(pack_frame(make_frame({"rgb": jpeg(RGB)}, None, presentation_id, None)))


ANYTHING = st.sampled_from(
    [
        *(None, True, 0, 1, -1, 2**70, 1.5, float("nan"), float("inf"), "x", "", "\ud800", b"x"),
        *([], (), {}, {1: 2}, object(), range(4), (1, 2, 3, 4), [10**400] * 4, int),
        *(np.array(5), np.arange(4), np.arange(4) * 1j, np.arange(4).astype(object), np.int8(4)),
        *(np.datetime64("2026-01-01"), np.uint64(2**63), np.float16(3), np.array(["a"] * 4)),
        *(np.ma.masked_array([1, 2, 3, 4]), np.zeros((8, 8)), RGB, IR, DEPTH),
        *(jpeg(RGB), jpeg(IR), png(DEPTH), EncodedPlane("raw", b"1", (1, 1))),
        *(EncodedPlane("raw", b"1"), EncodedPlane("png", b"1", None, np.float32(2))),  # type: ignore[arg-type]
        *(EncodedPlane("jpeg", None), EncodedPlane("png", b"1", 5)),  # type: ignore[arg-type]
        *(EncodedPlane("x", b"1"), EncodedPlane("png", b"1", (1, "a"))),  # type: ignore[arg-type]
    ]
)
NAMES = st.sampled_from(["rgb", "depth", "ir", "x", 5, None, "\ud800", b"rgb", np.str_("rgb")])


@given(
    ANYTHING | st.dictionaries(NAMES, ANYTHING, max_size=3),
    *([st.none() | ANYTHING] * 3),
)
def test_whatever_is_published_is_taken_or_refused_in_our_own_words(
    planes: Any, stamp: Any, presentation_id: Any, box: Any
) -> None:
    outbox = Outbox("gate-1", None, 2)
    with suppress(WorkerError):
        outbox.put(make_frame(planes, stamp, presentation_id, box))


@given(ANYTHING, ANYTHING, st.sampled_from([jpeg, png, pco]))
def test_whatever_is_encoded_is_taken_or_refused_in_our_own_words(
    pixels: Any, option: Any, encode: Any
) -> None:
    with suppress(CameraError):
        encode(pixels, option)
