"""PADISI-Face: a partition file, the ground truth beside it, one `.npz` of 22 channels a video."""

import csv
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from model.data.lists import ListError
from model.data.readers.sample import BONA_FIDE, DatasetError, Pictures, Sample

_SPLIT = "#"
_GROUND_TRUTH = "padisi_USC_FACE_ground_truth.csv"
_BONA_FIDE_CODE = "m00000"
_ATTACK_CODE = re.compile(r"m5(\d)(\d)\d\d")
_NUM_CHANNELS = 22


def is_partition(path: Path) -> bool:
    """Return whether a path is of the form `part0.csv#train`."""
    return _SPLIT in path.name


def read(path: Path) -> Iterator[Sample]:
    """Yield the samples of one part of a partition."""
    name, _, part = path.name.partition(_SPLIT)
    table = path.with_name(name)
    codes = {
        _name(row): row["ground_truth"]
        for row in _rows(table.with_name(_GROUND_TRUTH), "ground_truth")
    }
    rows = _rows(table, "partition_name")
    parts = sorted({row["partition_name"] for row in rows})
    if part not in parts:
        raise ListError(f"{path}: there is no part {part!r}, there are {', '.join(parts)}")
    for number, row in enumerate(rows, start=2):
        if row["partition_name"] != part:
            continue
        where, sample = f"{table}:{number}", _name(row)
        code = codes.get(sample, "")
        attack = _ATTACK_CODE.fullmatch(code)
        if code != _BONA_FIDE_CODE and attack is None:
            raise ListError(f"{where}: {sample} has no ground truth code, is {code!r}")
        file = _file(table, where, f"{sample}.npz")
        species = BONA_FIDE if attack is None else f"code_{attack[1]}{attack[2]}"
        yield Sample(where, file.name, int(attack is None), species, partial(_load, file))


def _file(table: Path, where: str, name: str) -> Path:
    folders = (
        table.parent / "multi_channel",
        table.parent.parent / "face_data" / "preprocessed" / "multi_channel",
    )
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ListError(f"{where}: {name} is in none of {', '.join(map(str, folders))}")


def _name(row: dict[str, str]) -> str:
    return f"ID_{row['transaction_id']}_{row['trial_id']}_{row['trial_name']}"


def _rows(table: Path, needed: str) -> list[dict[str, str]]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ListError(f"{table}: can't be read: {error}") from error
    wanted = {"transaction_id", "trial_id", "trial_name", needed}
    if not rows or not wanted <= rows[0].keys():
        raise ListError(f"{table}:1: wanted the columns {', '.join(sorted(wanted))}")
    return rows


def _load(file: Path) -> Pictures:
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = archive["data"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{file}: can't be read: {error}") from error
    if data.ndim != 4 or data.shape[1] != _NUM_CHANNELS or not np.isfinite(data).all():
        raise DatasetError(
            f"{file}: data must be finite, (frames, {_NUM_CHANNELS}, H, W), is {data.shape}"
        )
    if not data.size or data.min() < 0 or data.max() > 1:
        raise DatasetError(f"{file}: channels must be there, and normalised to [0, 1]")
    blue, green, red, nir, depth = data[0, :5]
    rgb = np.rint(np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)
    # Normalised by the sensors' bits: 8 for colour and infrared, 16 for depth in mm.
    return rgb, np.rint(depth * 65535).astype(np.uint16), np.rint(nir * 255).astype(np.uint8)
