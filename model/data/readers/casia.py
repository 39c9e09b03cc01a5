"""The CASIA family: CASIA-SURF, CeFA, and rendered sets, which use CASIA-SURF's lists."""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from model.data.decoder import Picture, decode_planes
from model.data.lists import ListEntry, ListError, parse_entry
from model.data.planes import Box, PlaneError
from model.data.readers.sample import (
    BONA_FIDE,
    DatasetError,
    Pictures,
    Sample,
    check_polarity,
    is_left_behind,
    name_of,
)

_COLOR_FOLDERS = ("color", "profile")
_CASIA_TYPE = re.compile(r"0[1-6]_en?m?_[sb]")
_CASIA_SUBJECT = re.compile(r"[A-Z]{4}_[A-Z]{2}\d{4}")
_CEFA_VIDEO = re.compile(r"^([123])_(\d{3})_(\d)_(\d)_(\d)$")
_CEFA_MASK_VIDEO = re.compile(r"^([12])_(\d{3})_\d_\d_\d_\d_\d$")
_CEFA_PAI = {"1": BONA_FIDE, "2": "cloth", "3": "photo", "4": "screen"}
_CEFA_MASK = {"1": "3d_mask", "2": "silicone_mask"}


def read_four_columns(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Sample]:
    """Yield the samples of CASIA-SURF's lists: `rgb depth ir label`, 1 = bona fide."""
    known = _rendered(path.parent)
    for number, line in lines:
        where, entry = f"{path}:{number}", parse_entry(path, number, line)
        for modality, file in (("rgb", entry.rgb), ("depth", entry.depth), ("ir", entry.ir)):
            told = _modality_of(Path(name_of(file, path)))
            if told not in (None, modality):
                raise ListError(
                    f"{where}: the {modality} column names {file}, which is of {told}: columns "
                    "are rgb, depth, ir, in this order"
                )
        name = name_of(entry.rgb, path)
        said, box, subject = known.get(name, (None, None, _subject(name)))
        species = said or _casia_species(name) or ""
        check_polarity(where, name, entry.label, species, bona_fide_is=1)
        yield Sample(
            where,
            name,
            entry.label,
            species or (BONA_FIDE if entry.label else "attack"),
            partial(_load, entry),
            box,
            subject,
        )


def read_two_columns(path: Path, lines: Sequence[tuple[int, str]]) -> Iterator[Sample]:
    """Yield the samples of protocol lists: a colour image or a video, and 0 = bona fide."""
    for number, line in lines:
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
        check_polarity(where, name, label, species, bona_fide_is=0)
        for file in _colour_files(where, path.parent / name):
            entry = _beside(where, file, label)
            yield Sample(
                where,
                name_of(file, path),
                label,
                species,
                partial(_load, entry),
                subject=_subject(name),
            )


def _colour_files(where: str, path: Path) -> list[Path]:
    if path.suffix:
        return [path]
    for folder in _COLOR_FOLDERS:
        if (path / folder).is_dir():
            files = sorted(each for each in (path / folder).iterdir() if not is_left_behind(each))
            if not files:
                raise ListError(f"{where}: {path / folder} has no pictures")
            return files
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


def _subject(name: str) -> str:
    """Return the person in a path: CASIA-SURF's `CLKJ_AS0005`, CeFA's race and number."""
    if match := _CASIA_SUBJECT.search(name):
        return match[0]
    for folder in Path(name).parts:
        if match := _CEFA_VIDEO.match(folder) or _CEFA_MASK_VIDEO.match(folder):
            return f"{match[1]}_{match[2]}"
    return ""


def _rendered(folder: Path) -> dict[str, tuple[str, Box | None, str]]:
    """Return species, face box and subject of each colour image of a rendered set."""
    index = folder / "samples.jsonl"
    if not index.exists():
        return {}
    try:
        rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
        return {
            f"subject-{row['subject']:06d}/{row['name']}_rgb.jpg": (
                str(row["species"]),
                tuple(row["face_box"]) if "face_box" in row else None,
                str(row["subject"]),
            )
            for row in rows
        }
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ListError(f"{index}: is no index of rendered samples: {error!r}") from error


def _load(entry: ListEntry) -> Pictures:
    """Read a sample as the workers read a frame: the same pixels, or the same refusal."""
    files = {"rgb": entry.rgb, "depth": entry.depth, "ir": entry.ir}
    try:
        planes = decode_planes(
            {name: Picture.of_file(file.read_bytes()) for name, file in files.items()}
        )
    except OSError as error:
        raise DatasetError(f"{error.filename}: can't be read: {error.strerror}") from error
    except PlaneError as error:
        named = ", ".join(str(file) for name, file in files.items() if str(error).startswith(name))
        raise DatasetError(f"{named}: {error}") from error
    return planes["rgb"], planes["depth"], planes["ir"]
