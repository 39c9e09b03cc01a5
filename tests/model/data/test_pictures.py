"""Pictures of a data set are read as a replica decodes them, and refused for the same reasons."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.readers import DatasetError, read_samples
from tests.hostile import COLOUR, FACE, jpeg_file, png_of, progressive
from tests.model.data.trees import write
from workers.replica.decode import decode
from workers.wire.frame import EncodedPlane, Frame


class TestPictures:
    """Readers see what a replica sees, and refuse what it refuses."""

    @pytest.fixture
    def files(self, tmp_path: Path) -> dict[str, Path]:
        files = {name: tmp_path / f"{name}.jpg" for name in ("rgb", "depth", "ir")}
        files["rgb"].write_bytes(jpeg_file(pixels=COLOUR))
        files["depth"].write_bytes(png_of(FACE.astype(np.uint16) + np.uint16(500)))
        files["ir"].write_bytes(progressive(FACE))
        return files

    def read(self, files: dict[str, Path]) -> tuple[NDArray[Any], ...]:
        names = " ".join(file.name for file in files.values())
        (sample,) = read_samples(write(files["rgb"].with_name("list.txt"), f"{names} 1"))
        return sample.load()

    def test_the_same_pixels(self, files: dict[str, Path]) -> None:
        frame = Frame(
            "-",
            0,
            0,
            {
                "rgb": EncodedPlane("jpeg", files["rgb"].read_bytes()),
                "depth": EncodedPlane("png", files["depth"].read_bytes()),
                "ir": EncodedPlane("jpeg", files["ir"].read_bytes()),
            },
        )
        served = decode(frame, 48, 0.0)
        for read, plane in zip(
            self.read(files), (served.rgb, served.depth, served.ir), strict=True
        ):
            assert np.array_equal(read, plane)

    def test_an_exif_rotation_is_ignored(self, files: dict[str, Path]) -> None:
        before = self.read(files)[0]
        data = files["rgb"].read_bytes()
        tag = struct.pack("<HHIHHI", 0x112, 3, 1, 6, 0, 0)
        exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag
        length = struct.pack(">H", len(exif) + 2)
        files["rgb"].write_bytes(data[:2] + b"\xff\xe1" + length + exif + data[2:])
        assert np.array_equal(self.read(files)[0], before)

    @pytest.mark.parametrize(
        ("modality", "data", "says"),
        [
            ("depth", jpeg_file(pixels=COLOUR), "colour picture"),
            ("ir", png_of(FACE.astype(np.uint16)), "16 bits"),
            ("rgb", jpeg_file()[:-300], "half a JPEG"),
            ("rgb", jpeg_file()[:-300] + b"\xff\xd9", "half a JPEG"),
            ("ir", png_of(FACE)[:-300], "half a PNG"),
            ("ir", b"GIF89a", "no JPEG"),
            ("ir", b"", "no JPEG"),
        ],
    )
    def test_the_same_refusals(
        self, files: dict[str, Path], modality: str, data: bytes, says: str
    ) -> None:
        files[modality].write_bytes(data)
        with pytest.raises(DatasetError, match=rf"{modality}.jpg: {modality} .*{says}"):
            self.read(files)

    def test_a_file_that_is_gone(self, files: dict[str, Path]) -> None:
        names = " ".join(file.name for file in files.values())
        (sample,) = read_samples(write(files["rgb"].with_name("list.txt"), f"{names} 1"))
        files["ir"].unlink()
        with pytest.raises(DatasetError, match=r"ir.jpg: can't be read"):
            sample.load()
