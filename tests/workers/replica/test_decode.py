"""Decoding: what a plane claims is checked before a pixel is touched."""

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from tests.workers import frames
from workers.client.camera import jpeg, pco, png
from workers.replica.decode import decode
from workers.wire.frame import EncodedPlane
from workers.wire.refusal import Undecodable

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 255, (40, 48, 3), np.uint8)
DEPTH = RNG.integers(300, 900, (40, 48), np.uint16)
IR = RNG.integers(0, 255, (40, 48), np.uint8)


def run(**planes: EncodedPlane) -> Any:
    return decode(frames.frame("c", 1, 1, planes=planes, face_box=None), 32, 0.2)


def raw(pixels: Any, **changes: Any) -> EncodedPlane:
    return EncodedPlane("raw", pixels.tobytes(), **{"shape": pixels.shape, **changes})


class TestWhatIsTaken:
    def test_all_three_modalities(self) -> None:
        planes = run(rgb=jpeg(RGB), depth=png(DEPTH), ir=jpeg(IR))
        assert planes.present == ("rgb", "depth", "ir")
        assert (planes.rgb.shape, planes.rgb.dtype) == ((32, 32, 3), np.uint8)
        assert (planes.depth.shape, planes.depth.dtype) == ((32, 32), np.uint16)

    def test_raw_is_what_it_says(self) -> None:
        square = RNG.integers(300, 900, (32, 32), np.uint16)
        assert (run(depth=raw(square)).depth == square).all()

    def test_channels_are_rgb(self) -> None:
        red = np.zeros((32, 32, 3), np.uint8)
        red[..., 0] = 250
        assert run(rgb=jpeg(red)).rgb.mean((0, 1)).argmax() == 0
        assert (run(rgb=raw(red)).rgb == red).all()

    def test_depth_counts_become_mm(self) -> None:
        counts = np.full((32, 32), 4000, np.uint16)
        counts[0, 0] = 0
        depth = run(depth=png(counts, unit_mm=0.25)).depth
        assert (depth[0, 0], depth[5, 5]) == (0, 1000)

    def test_depth_beyond_16_bits_is_a_hole(self) -> None:
        counts = np.full((32, 32), 60_000, np.uint16)
        assert (run(depth=png(counts, unit_mm=10.0)).depth == 0).all()

    def test_depth_of_8_bits_as_casia_surf_has_it(self) -> None:
        assert run(depth=as_png(np.full((32, 32), 77, np.uint8))).depth[3, 3] == 77

    def test_an_exif_rotation_is_ignored(self) -> None:
        data = jpeg(RGB).data
        exif = (
            b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)
        )
        turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
        assert (run(rgb=EncodedPlane("jpeg", turned)).rgb == run(rgb=jpeg(RGB)).rgb).all()


def as_png(pixels: Any) -> EncodedPlane:
    """Encode what a camera client of ours would refuse to."""
    return EncodedPlane("png", cv2.imencode(".png", pixels)[1].tobytes())


def png_header(width: int, height: int, bits: int = 8) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("name", "plane"),
        [
            ("rgb", EncodedPlane("jpeg", frames.bomb())),
            ("rgb", EncodedPlane("jpeg", frames.bomb(2048))),
            ("ir", EncodedPlane("png", png_header(16_000, 16_000))),
            ("ir", EncodedPlane("png", png_header(0, 5))),
            ("rgb", EncodedPlane("jpeg", b"\xff\xd8\xff")),
            ("rgb", EncodedPlane("jpeg", b"\xff\xd8\xff\xda\x00\x02")),
            ("rgb", EncodedPlane("jpeg", b"\xff\xd8" + b"\xff" * 5000)),
            ("rgb", EncodedPlane("jpeg", png(DEPTH).data)),
            ("rgb", EncodedPlane("png", jpeg(RGB).data)),
            ("rgb", EncodedPlane("jpeg", jpeg(RGB).data[:200])),
            ("ir", EncodedPlane("png", png_header(8, 8))),
            ("ir", png(DEPTH)),
            ("depth", as_png(RGB)),
            ("rgb", EncodedPlane("jpeg", jpeg(RGB).data, (41, 48))),
            ("rgb", raw(IR)),
            ("rgb", raw(RGB, shape=(40, 47, 3))),
            ("depth", raw(DEPTH, shape=(40, 48, 2))),
            ("ir", raw(IR, shape=(4000, 4000))),
            ("ir", raw(IR, shape=(0, 48))),
        ],
        ids=str,
    )
    def test_a_plane_that_is_not_what_it_claims(self, name: str, plane: EncodedPlane) -> None:
        with pytest.raises(Undecodable):
            run(**{name: plane})

    def test_a_face_box_outside_the_picture(self) -> None:
        frame = frames.frame("c", 1, 1, planes={"rgb": jpeg(RGB)}, face_box=(500.0, 0.0, 9.0, 9.0))
        with pytest.raises(Undecodable, match="face_box"):
            decode(frame, 32, 0.2)

    @pytest.mark.parametrize("box", [(0.0, 0.0, 1e9, 1e9), (-1e300, -1e300, 1.7e308, 1.7e308)])
    def test_a_face_box_beyond_all_bounds(self, box: tuple[float, ...]) -> None:
        frame = frames.frame("c", 1, 1, planes={"rgb": jpeg(RGB)}, face_box=box)
        with pytest.raises(Undecodable):
            decode(frame, 32, 0.2)

    def test_a_jpeg_of_very_many_scans(self) -> None:
        data = jpeg(RGB).data
        with pytest.raises(Undecodable, match=r"^rgb .* scan "):
            run(rgb=EncodedPlane("jpeg", data[:-2] + b"\xff\xda\x00\x02" * 100 + data[-2:]))

    def test_depth_of_another_kind_than_the_models(self) -> None:
        counts = {"jpeg": jpeg(IR), "png": as_png(IR)}
        for plane in counts.values():
            frame = frames.frame("c", 1, 1, planes={"depth": plane}, face_box=None)
            assert decode(frame, 32, 0.2, "8-bit").depth_kind == "8-bit"
            with pytest.raises(Undecodable, match=r"^depth is 8-bit, .* trained on millimetres"):
                decode(frame, 32, 0.2, "millimetres")
        for plane in (png(DEPTH), pco(DEPTH), raw(DEPTH)):
            frame = frames.frame("c", 1, 1, planes={"depth": plane}, face_box=None)
            assert decode(frame, 32, 0.2, "millimetres").depth_kind == "millimetres"
            with pytest.raises(Undecodable, match=r"^depth is millimetres, .* trained on 8-bit"):
                decode(frame, 32, 0.2, "8-bit")

    def test_planes_of_different_aspect_ratios(self) -> None:
        planes = {"rgb": jpeg(RGB), "ir": jpeg(IR[:30])}
        frame = frames.frame("c", 1, 1, planes=planes, face_box=(5.0, 5.0, 20.0, 20.0))
        with pytest.raises(Undecodable, match=r"rgb is 40 x 48 px and ir 30 x 48"):
            decode(frame, 32, 0.2)
