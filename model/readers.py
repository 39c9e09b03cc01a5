"""Data sets as they are distributed, read in place: their lists, polarities and column orders.

    rgb depth ir label      CASIA-SURF, official (train_list.txt, *_private_list.txt) and rendered
                            sets; 1 = bona fide
    color/0001.jpg label    the CASIA family's protocol lists (CASIA_SURF@p1_image_train.txt,
                            CASIA_CeFA@p4.1_image_train.txt); 0 = bona fide
    1_001_1_1_1 label       CeFA's lists of videos (4@1_train.txt); 0 = bona fide
    018_02_000_3_10.hdf5    WMCA, preprocessed: gray or RGB, depth, infrared, thermal in one file
    part0.csv#train         PADISI-Face: a partition file and the part of it that is meant

Polarity differs between these families, and public loaders have swapped columns. So whatever a path
says of its own sample (`real_part`, the PAI number in its name, `depth` in its folder) is held
against the list, and a list that contradicts its paths is refused.

Sources: the read-me files of CASIA-FAS-Dataset, of PADISI_USC_Dataset and of bob.db.batl.

    ListError               see `model.lists`
    DatasetError            a picture can't be read
"""

import csv
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.lists import ListEntry, ListError, read_list

Pictures = tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]]
BONA_FIDE = "bona_fide"
_SPLIT = "#"
_COLOR_FOLDERS = ("color", "profile")
_CASIA_TYPE = re.compile(r"0[1-6]_en?m?_[sb]")
_CEFA_VIDEO = re.compile(r"^([123])_(\d{3})_(\d)_(\d)_(\d)$")
_CEFA_MASK_VIDEO = re.compile(r"^([12])_(\d{3})_\d_\d_\d_\d_\d$")
_WMCA_FILE = re.compile(r"^(\d{3})_(\d{2})_(\d{3})_(\d)_(\d{2})$")
_CEFA_PAI = {"1": BONA_FIDE, "2": "cloth", "3": "photo", "4": "screen"}
_CEFA_MASK = {"1": "3d_mask", "2": "silicone_mask"}
_WMCA_TYPE = {"0": BONA_FIDE, "1": "glasses", "2": "fake_face", "3": "photo", "4": "video"}
_PADISI_CHANNELS = 22


class DatasetError(ValueError):
    """A sample can't be used; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """One sample of a data set.

    Attributes:
        name: of its file, relative to the list.
        label: 1 = bona fide, 0 = attack, whatever the list's own polarity.
        species: PAI species, `bona_fide`, or `attack` where the data set does not tell.
        load: reads its RGB (H, W, 3) uint8, depth (H, W) uint8 or uint16 mm, IR (H, W) uint8.
    """

    name: str
    label: int
    species: str
    load: Callable[[], Pictures]


def read_samples(path: Path) -> list[Sample]:
    """Return the samples that a list names; nothing is decoded yet.

    Raises:
        model.lists.ListError: the list is none of the known ones, breaks a rule of its family,
            contradicts its own paths, or has no sample of one class.
    """
    if _SPLIT in path.name:
        samples = list(_padisi(path))
    else:
        first = _first_line(path)
        if len(first) == 2:
            samples = list(_two_columns(path))
        elif len(first) == 1 and first[0].endswith((".hdf5", ".h5")):
            samples = list(_wmca(path))
        else:
            samples = list(_casia_surf(path))
    if not samples:
        raise ListError(f"{path}: has no samples")
    return samples


def _first_line(path: Path) -> list[str]:
    return next((line.split() for _, line in _lines(path)), [])


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path}: can't be read: {error}") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _casia_surf(path: Path) -> Iterable[Sample]:
    """Read the four columns of CASIA-SURF."""
    known = _rendered_species(path.parent)
    for number, entry in enumerate(read_list(path), start=1):
        where = f"{path}:{number}"
        for modality, file in (("rgb", entry.rgb), ("depth", entry.depth), ("ir", entry.ir)):
            said = _modality_of(file.relative_to(path.parent))
            if said not in (None, modality):
                raise ListError(
                    f"{where}: the {modality} column names {file}, which is of {said}: columns "
                    "are rgb, depth, ir, in this order"
                )
        name = entry.rgb.relative_to(path.parent).as_posix()
        species = known.get(name) or _casia_species(name) or ""
        _check_polarity(where, name, entry.label, species, bona_fide_is=1)
        yield Sample(
            name,
            entry.label,
            species or (BONA_FIDE if entry.label else "attack"),
            partial(_load_files, entry),
        )


def _two_columns(path: Path) -> Iterable[Sample]:
    """Read the CASIA family's protocol lists: a colour image or a video, and 0 = bona fide."""
    for number, line in _lines(path):
        where, columns = f"{path}:{number}", line.split()
        if len(columns) != 2 or columns[1] not in ("0", "1"):
            raise ListError(f"{where}: wanted a path and 0 or 1, is {line!r:.80}")
        name, label = columns[0], 1 - int(columns[1])
        species = _casia_species(name) or _cefa_species(name)
        if species is None:
            raise ListError(
                f"{where}: {name} does not say what it shows: this list's polarity can't be "
                "checked; wanted real_part, fake_part or CeFA's five numbers in the path"
            )
        _check_polarity(where, name, label, species, bona_fide_is=0)
        for file in _colour_files(where, path.parent / name):
            yield Sample(
                file.relative_to(path.parent).as_posix(),
                label,
                species,
                partial(_load_files, _beside(where, file, label)),
            )


def _colour_files(where: str, path: Path) -> list[Path]:
    if path.suffix:
        return [path]
    for folder in _COLOR_FOLDERS:
        if (path / folder).is_dir():
            return sorted((path / folder).iterdir())
    raise ListError(f"{where}: {path} is no image and has no folder {' or '.join(_COLOR_FOLDERS)}")


def _beside(where: str, color: Path, label: int) -> ListEntry:
    """Return a colour image's entry: depth and infrared lie in the folders beside its own."""
    if color.parent.name not in _COLOR_FOLDERS:
        raise ListError(f"{where}: {color} does not lie in {' or '.join(_COLOR_FOLDERS)}")
    video = color.parent.parent
    entry = ListEntry(color, video / "depth" / color.name, video / "ir" / color.name, label)
    for file in (entry.rgb, entry.depth, entry.ir):
        if not file.is_file():
            raise ListError(f"{where}: {file} is not there")
    return entry


def _wmca(path: Path) -> Iterable[Sample]:
    """Read a list of WMCA's files; the type in each name says what it shows."""
    for number, line in _lines(path):
        file = path.parent / line.strip()
        match = _WMCA_FILE.match(file.stem)
        if match is None:
            raise ListError(
                f"{path}:{number}: {file.name} is not named client_session_presenter_type_pai.hdf5"
            )
        if not file.is_file():
            raise ListError(f"{path}:{number}: {file} is not there")
        species = _WMCA_TYPE.get(match[4], f"type_{match[4]}")
        for frame in _wmca_frames(file):
            yield Sample(
                f"{line.strip()}/{frame}",
                int(species == BONA_FIDE),
                species,
                partial(_load_wmca, file, frame),
            )


def _padisi(path: Path) -> Iterable[Sample]:
    """Read one part of a PADISI-Face partition; its ground truth lies beside it."""
    name, _, part = path.name.partition(_SPLIT)
    table = path.with_name(name)
    codes = {
        _padisi_name(row): row["ground_truth"]
        for row in _rows(table.with_name("padisi_USC_FACE_ground_truth.csv"), "ground_truth")
    }
    rows = _rows(table, "partition_name")
    parts = sorted({row["partition_name"] for row in rows})
    if part not in parts:
        raise ListError(f"{path}: there is no part {part!r}, there are {', '.join(parts)}")
    for number, row in enumerate(rows, start=2):
        if row["partition_name"] != part:
            continue
        sample = _padisi_name(row)
        code = codes.get(sample, "")
        if code != "m00000" and not re.fullmatch(r"m5\d{4}", code):
            raise ListError(f"{table}:{number}: {sample} has no ground truth code, is {code!r}")
        file = _padisi_file(table, number, f"{sample}.npz")
        is_bona_fide = code == "m00000"
        species = BONA_FIDE if is_bona_fide else f"code_{code[2:4]}"
        yield Sample(file.name, int(is_bona_fide), species, partial(_load_padisi, file))


def _padisi_file(table: Path, number: int, name: str) -> Path:
    folders = (
        table.parent / "multi_channel",
        table.parent.parent / "face_data" / "preprocessed" / "multi_channel",
    )
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ListError(f"{table}:{number}: {name} is in none of {', '.join(map(str, folders))}")


def _padisi_name(row: dict[str, str]) -> str:
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


def _check_polarity(where: str, name: str, label: int, species: str, *, bona_fide_is: int) -> None:
    if species and (species == BONA_FIDE) != bool(label):
        shown = "bona fide" if species == BONA_FIDE else f"an attack ({species})"
        raise ListError(
            f"{where}: {name} shows {shown}, its label says otherwise: in a list of this kind "
            f"{bona_fide_is} must be bona fide; swap the labels"
        )


def _modality_of(path: Path) -> str | None:
    """Return what a path says it shows, by its folder or the end of its name."""
    words = {path.parent.name.lower(), *re.split(r"[-_.]", path.stem.lower())[-1:]}
    if words & {"color", "rgb", "profile"}:
        return "rgb"
    return next((name for name in ("depth", "ir") if name in words), None)


def _casia_species(name: str) -> str | None:
    if "real_part" in name:
        return BONA_FIDE
    match = _CASIA_TYPE.search(name)
    if match is not None:
        return match[0]
    return "attack" if "fake_part" in name else None


def _cefa_species(name: str) -> str | None:
    for folder in Path(name).parts:
        if match := _CEFA_VIDEO.match(folder):
            return _CEFA_PAI.get(match[5])
        if match := _CEFA_MASK_VIDEO.match(folder):
            return _CEFA_MASK[match[1]]
    return None


def _rendered_species(folder: Path) -> dict[str, str]:
    index = folder / "samples.jsonl"
    if not index.exists():
        return {}
    rows = map(json.loads, index.read_text(encoding="utf-8").splitlines())
    return {
        f"subject-{row['subject']:06d}/{row['name']}_rgb.jpg": str(row["species"]) for row in rows
    }


def _load_files(entry: ListEntry) -> Pictures:
    depth = _image(entry.depth, cv2.IMREAD_UNCHANGED)
    if depth.ndim == 3:
        depth = depth[:, :, 0]  # CASIA-SURF keeps its 8-bit depth in three equal channels
    return (
        _image(entry.rgb, cv2.IMREAD_COLOR_RGB),
        depth,
        _image(entry.ir, cv2.IMREAD_GRAYSCALE),
    )


def _image(path: Path, flags: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DatasetError(f"{path}: can't be read as a picture")
    return image  # type: ignore[return-value]


def _wmca_frames(file: Path) -> list[str]:
    import h5py  # noqa: PLC0415 - of the extra `readers`, for this data set alone

    try:
        with h5py.File(file, "r") as container:
            frames = [name for name in container if name.startswith("Frame_")]
    except OSError as error:
        raise DatasetError(f"{file}: can't be read as HDF5: {error}") from error
    if not frames:
        raise DatasetError(f"{file}: has no Frame_0, Frame_1, ...: wanted a preprocessed file")
    return sorted(frames, key=lambda name: int(name.removeprefix("Frame_")))


def _load_wmca(file: Path, frame: str) -> Pictures:
    import h5py  # noqa: PLC0415

    with h5py.File(file, "r") as container:
        array = np.asarray(container[frame]["array"])
    if array.ndim != 3 or array.shape[0] not in (4, 6) or array.dtype != np.uint8:
        raise DatasetError(
            f"{file}: {frame} must be (4 or 6, H, W) uint8: gray or RGB, depth, infrared, thermal; "
            f"is {array.shape} {array.dtype}"
        )
    colors = array.shape[0] - 3
    rgb = np.repeat(array[:1], 3, axis=0) if colors == 1 else array[:3]
    return np.ascontiguousarray(rgb.transpose(1, 2, 0)), array[colors], array[colors + 1]


def _load_padisi(file: Path) -> Pictures:
    try:
        with np.load(file, allow_pickle=False) as archive:
            data = archive["data"]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{file}: can't be read: {error}") from error
    if data.ndim != 4 or data.shape[1] != _PADISI_CHANNELS or not np.isfinite(data).all():
        raise DatasetError(
            f"{file}: data must be (frames, {_PADISI_CHANNELS}, H, W), is {data.shape}"
        )
    if data.min() < 0 or data.max() > 1:
        raise DatasetError(f"{file}: channels must be normalised to [0, 1]")
    blue, green, red, nir, depth = data[0, :5]
    rgb = np.rint(np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)
    # Normalised by the sensors' bits: 8 for colour and infrared, 16 for depth in mm.
    return rgb, np.rint(depth * 65535).astype(np.uint16), np.rint(nir * 255).astype(np.uint8)
