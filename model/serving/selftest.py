"""`selftest.npz`: a few inputs, and the scores that the network must give for them.

NumPy's own reader allocates what a header states and evaluates it as Python, so the archive is
read by its known layout instead: five arrays, no pickles, none larger than it can be.
"""

import io
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.planes import MODALITIES, PlaneBatch, Planes
from model.serving.folder import BundleCorrupt

MAX_ROWS = 64
_HEADER_BYTES = 4096
_DIRECTORY_BYTES = 4096
# As NumPy writes it, in version 1.0 of its format.
_HEADER = re.compile(
    r"\{'descr': '([^']{1,8})', 'fortran_order': False, 'shape': \(([0-9, ]{0,60})\), \} *\n"
)
# What `zipfile` raises of a damaged archive.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, KeyError, RuntimeError),
    *(struct.error, zlib.error, zipfile.BadZipFile),
)


def write_selftest(planes: PlaneBatch, scores: NDArray[np.float32]) -> bytes:
    """Return the content of `selftest.npz`.

    Args:
        planes: the inputs, see `read_selftest`.
        scores: (B,) float32.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        rgb=planes.rgb,
        depth=planes.depth,
        ir=planes.ir,
        present=planes.present,
        scores=scores,
    )
    return buffer.getvalue()


def read_selftest(path: Path, content: bytes, size: int) -> tuple[PlaneBatch, NDArray[np.float32]]:
    """Return the inputs and the scores that they must give.

    Args:
        path: the file, for messages.
        content: its bytes.
        size: side of the network's input, px.

    Returns:
        2 to 64 faces of `size` px, each with at least one modality; (B,) float32 in [0, 1].

    Raises:
        BundleCorrupt: the archive can't be read, or an array is not what it must be.
    """
    try:
        arrays = _arrays(content, size)
    except _UNREADABLE as error:
        raise BundleCorrupt(f"{path}: can't be read: {error!r:.200}") from error
    scores = arrays["scores"]
    lengths = {name: len(each) for name, each in arrays.items()}
    if not 2 <= len(scores) <= MAX_ROWS or len(set(lengths.values())) > 1:
        raise BundleCorrupt(f"{path}: must hold 2 to {MAX_ROWS} faces in each array, has {lengths}")
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN is neither
        raise BundleCorrupt(f"{path}: scores must be numbers from 0 to 1")
    if not arrays["present"].any(1).all():
        raise BundleCorrupt(f"{path}: each face must have a modality that is present")
    return PlaneBatch(*(arrays[name] for name in (*MODALITIES, "present"))), scores


def selftest_rows(batch: PlaneBatch) -> list[Planes]:
    """Return the faces of a batch one by one, as the engine takes them."""
    return [
        Planes(
            *(
                getattr(batch, name)[row] if batch.present[row, column] else None
                for column, name in enumerate(MODALITIES)
            )
        )
        for row in range(len(batch.present))
    ]


def _arrays(content: bytes, size: int) -> dict[str, NDArray[Any]]:
    """Return the five arrays, of the right type and shape but for their number of rows."""
    layout: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "rgb": (np.uint8, (size, size, 3)),
        "depth": (np.uint16, (size, size)),
        "ir": (np.uint8, (size, size)),
        "present": (np.bool_, (len(MODALITIES),)),
        "scores": (np.float32, ()),
    }
    _check_directory(content, len(layout))
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name, (dtype, shape) in layout.items():
            info = archive.getinfo(f"{name}.npy")
            most = MAX_ROWS * int(np.prod(shape)) * np.dtype(dtype).itemsize + _HEADER_BYTES
            if info.file_size > most:
                raise ValueError(f"{name} has {info.file_size} bytes, at most {most} are read")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is neither stored nor deflated")
            arrays[name] = _array(name, archive.read(info), np.dtype(dtype), shape)
    return arrays


def _check_directory(content: bytes, entries: int) -> None:
    """Refuse an archive whose directory is long: all of it is held in memory before any check."""
    end, locator = content[-22:], content[-42:-38]
    if end[:4] != b"PK\5\6" or locator == b"PK\6\7":
        raise ValueError("not a plain zip archive")
    count, directory_bytes = struct.unpack("<HL", end[10:16])
    if count != entries or directory_bytes > _DIRECTORY_BYTES:
        raise ValueError(f"must have {entries} entries, has {count}")


def _array(name: str, content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    magic, (length,) = content[:8], struct.unpack("<H", content[8:10])
    header = _HEADER.fullmatch(content[10 : 10 + length].decode("latin1"))
    if magic != b"\x93NUMPY\x01\x00" or header is None:
        raise ValueError(f"{name} is no array in C order, as NumPy writes it")
    found = tuple(int(side) for side in header[2].split(",") if side.strip())
    if header[1] != dtype.str or found[1:] != shape or len(found) != len(shape) + 1:
        raise ValueError(
            f"{name} must be {dtype.str} {('N', *shape)}, is {header[1]} ({header[2]})"
        )
    return np.frombuffer(content, dtype, offset=10 + length).reshape(found)
