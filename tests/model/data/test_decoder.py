"""The decoder: what it takes, what it refuses, and that refusing costs next to nothing."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.data.decoder import MAX_FRAME_SAMPLES, Codec, Picture, decode_planes
from model.data.planes import Image, PlaneError
from tests.hostile import (
    COLOUR,
    DEPTH,
    FACE,
    changed,
    hostile_jpegs,
    hostile_pngs,
    jpeg_file,
    jpeg_segments,
    png_chunk,
    png_file,
    png_header,
    png_of,
    progressive,
)

RGB: Image = cv2.cvtColor(COLOUR, cv2.COLOR_BGR2RGB)
PNGS, JPEGS = dict(hostile_pngs()), dict(hostile_jpegs())


def one(modality: str, codec: Codec, data: bytes) -> Image:
    return decode_planes({modality: Picture(codec, data)})[modality]


class TestPng:
    @pytest.mark.parametrize("name", PNGS)
    @pytest.mark.parametrize("modality", ["rgb", "depth", "ir"])
    def test_hostile_ones_are_refused(self, name: str, modality: str) -> None:
        with pytest.raises(PlaneError, match=f"^{modality} "):
            one(modality, "png", PNGS[name])

    @pytest.mark.parametrize(
        "row_filter",
        [
            cv2.IMWRITE_PNG_FILTER_NONE,
            cv2.IMWRITE_PNG_FILTER_SUB,
            cv2.IMWRITE_PNG_FILTER_UP,
            cv2.IMWRITE_PNG_FILTER_AVG,
            cv2.IMWRITE_PNG_FILTER_PAETH,
            cv2.IMWRITE_PNG_ALL_FILTERS,
        ],
    )
    @pytest.mark.parametrize(
        ("modality", "pixels"), [("depth", DEPTH), ("ir", FACE), ("rgb", COLOUR)]
    )
    def test_all_filters_are_lossless(self, row_filter: int, modality: str, pixels: Image) -> None:
        decoded = one(modality, "png", png_of(pixels, cv2.IMWRITE_PNG_FILTER, row_filter))
        assert np.array_equal(decoded, RGB if modality == "rgb" else pixels)
        assert decoded.dtype == pixels.dtype

    def test_pixels_in_many_chunks(self) -> None:
        whole = png_of(FACE)
        at = whole.index(b"IDAT")
        (length,) = struct.unpack(">I", whole[at - 4 : at])
        content = whole[at + 4 : at + 4 + length]
        parts = [png_chunk(b"IDAT", content[i : i + 7]) for i in range(0, length, 7)]
        data = png_file(png_header(48, 48), *parts)
        assert np.array_equal(one("ir", "png", data), FACE)

    def test_ancillary_chunks_are_passed_by_and_never_inflated(self) -> None:
        bomb = b"k\0\0" + zlib.compress(bytes(50_000_000), 9)
        whole = png_of(FACE)
        texts = [png_chunk(kind, bomb) for kind in (b"zTXt", b"iTXt", b"iCCP", b"eXIf")]
        data = whole[:33] + b"".join(texts) + whole[33:]
        tracemalloc.start()
        try:
            assert np.array_equal(one("ir", "png", data), FACE)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_bytes_after_the_end(self) -> None:
        assert np.array_equal(one("depth", "png", png_of(DEPTH) + bytes(64)), DEPTH)

    def test_a_bomb_is_never_inflated(self) -> None:
        tracemalloc.start()
        try:
            with pytest.raises(PlaneError):
                one("ir", "png", PNGS["a bomb"])
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


class TestJpeg:
    @pytest.mark.parametrize("name", JPEGS)
    @pytest.mark.parametrize("modality", ["rgb", "depth", "ir"])
    def test_hostile_ones_are_refused(self, name: str, modality: str) -> None:
        with pytest.raises(PlaneError, match=f"^{modality} "):
            one(modality, "jpeg", JPEGS[name])

    @pytest.mark.parametrize("picture", [jpeg_file(), progressive(FACE)], ids=["plain", "scans"])
    @pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.95])
    def test_a_part_of_a_picture_is_none(self, picture: bytes, part: float) -> None:
        cut = picture[: int(len(picture) * part)]
        for data in (cut, cut + b"\xff\xd9", cut + bytes(500) + b"\xff\xd9"):
            with pytest.raises(PlaneError, match="JPEG"):
                one("ir", "jpeg", data)

    def test_a_picture_cut_between_two_scans(self) -> None:
        segments = jpeg_segments(progressive())
        scans = [at for at, each in enumerate(segments) if each[1] == 0xDA]
        for at in scans[1:]:
            with pytest.raises(PlaneError, match="scans are missing"):
                one("rgb", "jpeg", b"".join([*segments[:at], b"\xff\xd9"]))

    @pytest.mark.parametrize(
        "data",
        [
            jpeg_file(),
            jpeg_file() + bytes(64),
            jpeg_file() + jpeg_file()[:300],
            jpeg_file() + b"\xff\xda\x00\x02" * 100,
            jpeg_file(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
            jpeg_file(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
            jpeg_file()[:2] + b"\xff" * 40 + jpeg_file()[2:],
            jpeg_file()[:-2] + b"\xff" * 40 + b"\xff\xd9",
            jpeg_file()[:2] + b"\xff\xfe\x00\x12a comment, or so" + jpeg_file()[2:],
            progressive(FACE),
            progressive(cv2.merge([FACE] * 3)),
        ],
        ids=range(11),
    )
    def test_what_cameras_send(self, data: bytes) -> None:
        for modality in ("rgb", "depth", "ir"):
            plane = one(modality, "jpeg", data)
            grey = plane[..., 1] if modality == "rgb" else plane
            assert np.abs(grey.astype(int) - FACE).mean() < 3

    @pytest.mark.parametrize(
        "sampling",
        [
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
    )
    def test_the_pixels_are_those_that_opencv_sees(self, sampling: int) -> None:
        for scans in (0, 1):
            data = jpeg_file(
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                sampling,
                cv2.IMWRITE_JPEG_PROGRESSIVE,
                scans,
                pixels=COLOUR,
            )
            seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
            assert np.array_equal(one("rgb", "jpeg", data), seen)

    def test_motion_jpeg_leaves_out_the_standard_tables(self) -> None:
        segments = [each for each in jpeg_segments(jpeg_file()) if each[1] != 0xC4]
        assert np.array_equal(one("ir", "jpeg", b"".join(segments)), one("ir", "jpeg", jpeg_file()))


class TestModalities:
    @pytest.mark.parametrize("modality", ["depth", "ir"])
    @pytest.mark.parametrize(
        ("codec", "data"), [("png", png_of(COLOUR)), ("jpeg", jpeg_file(pixels=COLOUR))]
    )
    def test_colour_is_neither_depth_nor_infrared(
        self, modality: str, codec: Codec, data: bytes
    ) -> None:
        with pytest.raises(PlaneError, match=rf"^{modality} .* colour picture"):
            one(modality, codec, data)

    @pytest.mark.parametrize("modality", ["depth", "ir"])
    def test_grey_in_three_channels_is_grey(self, modality: str) -> None:
        three = cv2.merge([FACE] * 3)
        assert np.array_equal(one(modality, "png", png_of(three)), FACE)
        decoded = one(modality, "jpeg", jpeg_file(pixels=three))
        assert np.array_equal(decoded, one(modality, "jpeg", jpeg_file()))

    def test_grey_serves_as_colour(self) -> None:
        assert np.array_equal(one("rgb", "png", png_of(FACE)), cv2.merge([FACE] * 3))

    @pytest.mark.parametrize(
        ("modality", "pixels"),
        [
            ("ir", DEPTH),
            ("rgb", DEPTH),
            ("rgb", cv2.merge([DEPTH] * 3)),
            ("depth", cv2.merge([DEPTH] * 3)),
        ],
        ids=["ir", "grey", "colour", "depth in three channels"],
    )
    def test_16_bits_are_for_depth_alone(self, modality: str, pixels: Image) -> None:
        with pytest.raises(PlaneError, match=f"^{modality} has 16 bits"):
            one(modality, "png", png_of(pixels))

    @pytest.mark.parametrize(
        ("modality", "shape", "num_bytes"),
        [
            ("rgb", (4, 4), 48),
            ("rgb", (4, 4, 1), 48),
            ("ir", (4, 4, 3), 48),
            ("ir", (4, 4), 15),
            ("ir", (4, 4), 17),
            ("depth", (4, 4), 16),
            ("ir", (0, 4), 0),
            ("ir", (1, 4096), 4096),
            ("ir", (65536, 65536), 1),
            ("ir", (4,), 4),
            ("ir", (4, 4, 1, 1), 16),
            ("ir", None, 16),
        ],
    )
    def test_raw_pixels_must_fit_their_shape(
        self, modality: str, shape: tuple[int, ...] | None, num_bytes: int
    ) -> None:
        with pytest.raises(PlaneError, match=f"^{modality} "):
            decode_planes({modality: Picture("raw", bytes(num_bytes), shape)})

    def test_a_shape_must_be_the_pictures(self) -> None:
        assert decode_planes({"ir": Picture("png", png_of(FACE), (48, 48))})["ir"].shape == (48, 48)
        with pytest.raises(PlaneError, match="its shape says"):
            decode_planes({"ir": Picture("png", png_of(FACE), (48, 47))})


class TestBudget:
    def test_scans_count_by_what_they_go_over(self) -> None:
        side = 1024
        flat = np.full((side, side, 3), 130, np.uint8)
        flags = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        scans = jpeg_file(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, *flags, pixels=flat)
        grey_scans = jpeg_file(cv2.IMWRITE_JPEG_PROGRESSIVE, 1, pixels=flat[..., 0].copy())
        grey = jpeg_file(pixels=flat[..., 0].copy())
        most = {
            name: Picture("jpeg", data)
            for name, data in (("rgb", scans), ("depth", grey), ("ir", grey))
        }
        assert decode_planes(most).keys() == {"rgb", "depth", "ir"}
        with pytest.raises(PlaneError, match=f"samples to decode.*at most {MAX_FRAME_SAMPLES}"):
            decode_planes({**most, "ir": Picture("jpeg", grey_scans)})

    def test_nothing_is_decoded_before_all_planes_are_checked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a plane was decoded")

        monkeypatch.setattr("simplejpeg.decode_jpeg", refuse)
        with pytest.raises(PlaneError, match=r"^ir "):
            decode_planes({"rgb": Picture("jpeg", jpeg_file()), "ir": Picture("png", b"")})


def test_nothing_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    for codec, pictures in (("png", PNGS), ("jpeg", JPEGS)):
        for data in pictures.values():
            with pytest.raises(PlaneError):
                one("rgb", codec, data)  # type: ignore[arg-type]
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_messages_do_not_show_what_is_in_a_picture() -> None:
    secret = b"SECRET" * 9
    for data in (
        png_file(png_header(), png_chunk(secret[:4], secret)),
        PNGS["no pixels"] + secret,
        png_file(png_header(), png_chunk(b"IDAT", secret)),
    ):
        with pytest.raises(PlaneError) as caught:
            one("ir", "png", data)
        assert "SECR" not in str(caught.value)
    with pytest.raises(PlaneError) as caught:
        one("ir", "jpeg", changed(jpeg_file(), 0xDB, 4, secret))
    assert "SECR" not in str(caught.value)


def test_a_file_is_read_by_what_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "picture.jpg"
    file.write_bytes(png_of(FACE))
    assert Picture.of_file(file.read_bytes()).codec == "png"
    assert Picture.of_file(jpeg_file()).codec == "jpeg"
