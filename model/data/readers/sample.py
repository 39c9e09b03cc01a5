"""One sample of a data set, whichever data set it is of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.lists import ListError
from model.data.planes import Box
from model.errors import ModelError

Pictures = tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.uint8]]
BONA_FIDE = "bona_fide"
_INDICES = ("thumbs.db", "ehthumbs.db", "desktop.ini")


class DatasetError(ModelError):
    """A sample can't be used; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """One sample of a data set.

    Attributes:
        where: `file:line` of the list that names it.
        name: of its file, relative to the list.
        label: 1 = bona fide, 0 = attack, whatever the list's own polarity.
        species: PAI species, `bona_fide`, or `attack` where the data set does not tell.
        load: reads its RGB (H, W, 3) uint8, depth (H, W) uint8 or uint16 mm, IR (H, W) uint8.
        face_box: (x, y, w, h) px of RGB where the face is in them; None: they are face crops.
        subject: the person whose face it shows; "" where the data set does not tell.
    """

    where: str
    name: str
    label: int
    species: str
    load: Callable[[], Pictures]
    face_box: Box | None = None
    subject: str = ""


def is_left_behind(file: Path) -> bool:
    """Return whether a file is one that file managers leave in folders, and no one's picture.

    Hidden files, such as macOS's `.DS_Store` and its `._` twin of each picture; Windows' indices.
    """
    return file.name.startswith((".", "@", "__MACOSX")) or file.name.lower() in _INDICES


def name_of(file: Path, list_file: Path) -> str:
    """Return a file's name as a list's reader knows it: relative to the list, if it lies below."""
    folder = list_file.parent
    return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()


def check_polarity(where: str, name: str, label: int, species: str, *, bona_fide_is: int) -> None:
    """Refuse a label that contradicts what the sample's path says.

    Args:
        where: `file:line` of the list.
        name: the sample's path.
        label: what the list says, 1 = bona fide.
        species: what the path says; "" if it says nothing.
        bona_fide_is: how lists of this kind write bona fide.

    Raises:
        ListError: they differ.
    """
    if species and (species == BONA_FIDE) != bool(label):
        shown = "bona fide" if species == BONA_FIDE else f"an attack ({species})"
        raise ListError(
            f"{where}: {name} shows {shown}, its label says otherwise: in a list of this kind "
            f"{bona_fide_is} must be bona fide; swap the labels"
        )
