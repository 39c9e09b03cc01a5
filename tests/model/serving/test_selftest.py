"""The self-test's file: its layout is known, and nothing else is read."""

import io
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.serving.bundle import Bundle, BundleCorrupt
from model.serving.selftest import MAX_ROWS, read_selftest, write_selftest
from tests.bundles import SIZE, random_bundle

PATH = Path("selftest.npz")


@cache
def bundle() -> Bundle:
    return random_bundle()


def arrays(**changes: Any) -> dict[str, Any]:
    planes = bundle().selftest
    return {
        "rgb": planes.rgb,
        "depth": planes.depth,
        "ir": planes.ir,
        "present": planes.present,
        "scores": bundle().selftest_scores,
        **changes,
    }


def packed(**changes: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(**changes))
    return buffer.getvalue()


def rezipped(name: str, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive whose entry `name` has other content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed())) as old, zipfile.ZipFile(buffer, "w") as new:
        for info in old.infolist():
            is_it = info.filename == name
            new.writestr(
                info.filename,
                content if is_it else old.read(info),
                compression if is_it else zipfile.ZIP_DEFLATED,
            )
    return buffer.getvalue()


def header(text: str) -> bytes:
    padded = text.encode("latin1").ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded


def test_what_is_written_is_read() -> None:
    made = bundle()
    planes, scores = read_selftest(PATH, write_selftest(made.selftest, made.selftest_scores), SIZE)
    for name in ("rgb", "depth", "ir", "present"):
        assert np.array_equal(getattr(planes, name), getattr(made.selftest, name))
    assert np.array_equal(scores, made.selftest_scores)


def many(count: int) -> dict[str, Any]:
    return {name: np.repeat(each[:1], count, 0) for name, each in arrays().items()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb": arrays()["rgb"].astype(np.int16)}, r"rgb must be \|u1"),
        ({"depth": arrays()["depth"].astype(">u2")}, "depth must be <u2"),
        ({"ir": arrays()["ir"][:, :32]}, "ir must be"),
        ({"ir": np.asfortranarray(arrays()["ir"])}, "in C order"),
        ({"present": arrays()["present"].astype(np.uint8)}, r"present must be \|b1"),
        ({"present": np.zeros((4, 3), np.bool_)}, "a modality that is present"),
        ({"scores": arrays()["scores"].astype(np.float64)}, "scores must be <f4"),
        ({"scores": arrays()["scores"][:3]}, "in each array"),
        ({"scores": np.float32([0.1, 0.9, np.nan, 0.5])}, "numbers from 0 to 1"),
        ({"scores": np.float32([0.1, 0.9, 1.5, 0.5])}, "numbers from 0 to 1"),
        ({"scores": np.float32(0.5)}, "scores must be"),
        (many(1), "2 to 64 faces"),
        (many(MAX_ROWS + 1), "at most"),
        ({"extra": np.zeros(3)}, "must have 5 entries"),
        ({"scores": np.array([None] * 4, object)}, "can't be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_array_that_is_not_what_it_must_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleCorrupt, match=message):
        read_selftest(PATH, packed(**changes), SIZE)


@pytest.mark.parametrize(
    "content",
    [
        rezipped("ir.npy", bytes(20_000_000)),
        rezipped("ir.npy", header("{'descr': '|u1', 'fortran_order': False, 'shape': (9**9,)}")),
        rezipped(
            "ir.npy",
            header(
                f"{{'descr': '|u1', 'fortran_order': False, 'shape': (4000000000, {SIZE}, {SIZE})}}"
            ),
        ),
        rezipped("ir.npy", header("(" * 100)),
        rezipped("ir.npy", b""),
        rezipped("ir.npy", b"", zipfile.ZIP_LZMA),
        rezipped("scores.npy", header("{'descr': '|O', 'fortran_order': False, 'shape': (4,)}")),
        packed() + b"more",
        packed()[:-1],
        packed()[60:],
        b"PK\5\6" + bytes(18),
        b"",
    ],
    ids=range(12),
)
def test_an_archive_that_can_not_be_read(content: bytes) -> None:
    with pytest.raises(BundleCorrupt, match="can't be read"):
        read_selftest(PATH, content, SIZE)


def test_a_directory_of_many_entries_is_not_loaded() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(1000):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(BundleCorrupt, match="must have 5 entries, has 1000"):
        read_selftest(PATH, buffer.getvalue(), SIZE)
