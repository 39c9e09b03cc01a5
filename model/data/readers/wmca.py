"""WMCA, preprocessed: one HDF5 file a video, whose name says what it shows."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from model.data.lists import ListError
from model.data.readers.sample import BONA_FIDE, DatasetError, Pictures, Sample, name_of

_FILE = re.compile(r"^(\d{3})_(\d{2})_(\d{3})_(\d)_(\d{2})$")
_TYPES = {"0": BONA_FIDE, "1": "glasses", "2": "fake_face", "3": "photo", "4": "video"}


def is_file_name(columns: Sequence[str]) -> bool:
    """Return whether a list's line names an HDF5 file."""
    return len(columns) == 1 and columns[0].endswith((".hdf5", ".h5"))


def read(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Sample]:
    """Yield the frames of the files that a list names, a file a line."""
    for number, line in lines:
        where, file = f"{path}:{number}", path.parent / line.strip()
        match = _FILE.match(file.stem)
        if match is None:
            raise ListError(
                f"{where}: {file.name} is not named client_session_presenter_type_pai.hdf5"
            )
        if not file.is_file():
            raise ListError(f"{where}: {file} is not there")
        species = _TYPES.get(match[4], f"type_{match[4]}")
        for frame in _frames(where, file):
            yield Sample(
                where,
                f"{name_of(file, path)}/{frame}",
                int(species == BONA_FIDE),
                species,
                partial(_load, file, frame),
                subject=match[1],
            )


def _frames(where: str, file: Path) -> list[str]:
    import h5py  # noqa: PLC0415 - of the extra `readers`, for this data set alone

    try:
        with h5py.File(file, "r") as container:
            frames = [name for name in container if re.fullmatch(r"Frame_\d+", name)]
    except OSError as error:
        raise DatasetError(f"{where}: {file}: can't be read as HDF5: {error}") from error
    if not frames:
        raise DatasetError(
            f"{where}: {file}: has no Frame_0, Frame_1, ...: wanted a preprocessed file"
        )
    return sorted(frames, key=lambda name: int(name.removeprefix("Frame_")))


def _load(file: Path, frame: str) -> Pictures:
    import h5py  # noqa: PLC0415

    try:
        with h5py.File(file, "r") as container:
            array = np.asarray(container[frame]["array"])
    except (OSError, KeyError) as error:
        raise DatasetError(f"{file}: {frame} has no readable `array`: {error}") from error
    if array.ndim != 3 or array.shape[0] not in (4, 6) or array.dtype != np.uint8:
        raise DatasetError(
            f"{file}: {frame} must be (4 or 6, H, W) uint8: gray or RGB, depth, infrared, thermal; "
            f"is {array.shape} {array.dtype}"
        )
    colors = array.shape[0] - 3
    rgb = np.repeat(array[:1], 3, axis=0) if colors == 1 else array[:3]
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), array[colors], array[colors + 1]
