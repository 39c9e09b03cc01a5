"""CASIA-SURF's list files: one sample a line, `rgb depth ir label`, 1 = bona fide.

Paths are relative to the list's folder. A list that breaks a rule is refused as a whole, with file
and line: a sample that is skipped silently changes every figure that is computed later.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from model.errors import ModelError

_COLUMNS = ("rgb", "depth", "ir", "label")
_LABELS = {"0": 0, "1": 1}


class ListError(ModelError):
    """A list file breaks a rule; the message starts with `file:line`."""


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One sample of a list.

    Attributes:
        rgb: the colour image.
        depth: the depth image.
        ir: the infrared image.
        label: 1 = bona fide, 0 = attack.
    """

    rgb: Path
    depth: Path
    ir: Path
    label: int


def read_list(path: Path) -> list[ListEntry]:
    """Return the samples of a list file, in its order.

    Args:
        path: the list; its folder is what the paths in it are relative to.

    Raises:
        ListError: the list is missing, empty or not UTF-8; a line has not four columns, a label
            that is neither 0 nor 1, or names a file that is not there.
    """
    entries = [parse_entry(path, number, line) for number, line in read_lines(path)]
    if not entries:
        raise ListError(f"{path}: has no samples")
    return entries


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Return a list file's lines and their numbers, from 1, without the empty ones.

    Raises:
        ListError: the list is missing or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path}: can't be read: {error}") from error
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def write_list(path: Path, entries: Iterable[ListEntry]) -> None:
    """Write a list file, with paths relative to its folder; it appears whole or not at all.

    Args:
        path: the list; an older one is replaced.
        entries: the samples, whose files lie below the list's folder.

    Raises:
        ListError: a file lies elsewhere, a path has a space in it, or a label is not 0 or 1.
    """
    lines = [_line(path, number, entry) for number, entry in enumerate(entries, start=1)]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(path)


def parse_entry(path: Path, number: int, line: str) -> ListEntry:
    """Return what one line of a list says; see `read_list` for what it raises."""
    columns = line.split()
    if len(columns) == 3:
        raise ListError(
            f"{path}:{number}: 3 columns, wanted 4 ({' '.join(_COLUMNS)}): this looks like a list "
            "without labels, such as CASIA-SURF's *_public_list.txt"
        )
    if len(columns) != 4:
        raise ListError(f"{path}:{number}: {len(columns)} columns, wanted 4 ({' '.join(_COLUMNS)})")
    if columns[3] not in _LABELS:
        raise ListError(f"{path}:{number}: label must be 0 or 1 (1 = bona fide), is {columns[3]!r}")
    rgb, depth, ir = (path.parent / column for column in columns[:3])
    for name, file in zip(_COLUMNS, (rgb, depth, ir), strict=False):
        if not file.is_file():
            raise ListError(f"{path}:{number}: the {name} file {file} is not there")
    return ListEntry(rgb, depth, ir, _LABELS[columns[3]])


def _line(path: Path, number: int, entry: ListEntry) -> str:
    if entry.label not in _LABELS.values():
        raise ListError(f"{path}:{number}: label must be 0 or 1, is {entry.label!r}")
    columns = []
    for file in (entry.rgb, entry.depth, entry.ir):
        if not file.is_relative_to(path.parent):
            raise ListError(f"{path}:{number}: {file} does not lie below {path.parent}")
        columns.append(file.relative_to(path.parent).as_posix())
    if any(len(column.split()) != 1 for column in columns):
        raise ListError(f"{path}:{number}: a path with a space can't be told from two columns")
    return f"{' '.join(columns)} {entry.label}\n"
