"""A data set: the face crops of a list file in memory, or in a file where they are too many."""

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.lists import ListError
from model.data.planes import (
    CROP_MARGIN,
    MODALITIES,
    DepthKind,
    PlaneBatch,
    PlaneError,
    Planes,
    crop_planes,
)
from model.data.readers import DatasetError, Sample, read_samples
from model.data.tampering import Face
from model.data.tensors import PlaneTensors, tensors

# What is kept around a face box, where all samples have one: room for another box.
WIDE_MARGIN = 0.4
# Larger sets lie in a temporary file, of which the system keeps in memory what there is room for.
_IN_MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class Dataset:
    """The samples of a list.

    Attributes:
        size: side of the network's input, px.
        where: `file:line` of the list that names each sample.
        files: name of each sample's colour image, relative to the list.
        planes: (N, P, P) each, uint8 and uint16, with what is present; P > `size`.
        label: (N,) int64, 1 = bona fide.
        species: PAI species of each, `bona_fide`, or `attack` where the data set does not tell.
        depth_kind: what the values of `planes.depth` stand for.
        margin: part of the face box's side that `planes` keep on each side of it.
        subjects: person whose face each sample shows; where the data set does not tell, the
            sample's own name. Empty: it tells of none.
    """

    size: int
    where: tuple[str, ...]
    files: tuple[str, ...]
    planes: PlaneBatch
    label: NDArray[np.int64]
    species: tuple[str, ...]
    depth_kind: DepthKind = "millimetres"
    margin: float = CROP_MARGIN
    subjects: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.label)

    @property
    def side(self) -> int:
        """Side of the stored planes, px."""
        return int(self.planes.ir.shape[1])

    @property
    def served_margin(self) -> float:
        """Margin of what `batch` returns, which a served face must have too."""
        return ((1 + 2 * self.margin) * self.size / self.side - 1) / 2

    @cached_property
    def rows_of(self) -> dict[str, NDArray[np.int64]]:
        """Row numbers of each species."""
        names, which = np.unique(np.array(self.species), return_inverse=True)
        return {str(name): np.flatnonzero(which == at) for at, name in enumerate(names)}

    def taken(self, rows: NDArray[np.int64]) -> "Dataset":
        """Return some rows."""
        planes = self.planes
        return replace(
            self,
            where=tuple(self.where[row] for row in rows),
            files=tuple(self.files[row] for row in rows),
            planes=PlaneBatch(
                planes.rgb[rows], planes.depth[rows], planes.ir[rows], planes.present[rows]
            ),
            label=self.label[rows],
            species=tuple(self.species[row] for row in rows),
            subjects=tuple(self.subjects[row] for row in rows) if self.subjects else (),
        )

    def thinned(self, every: int) -> "Dataset":
        """Return every `every`-th sample, from the first on."""
        return self.taken(np.arange(0, len(self), every))

    def face(self, row: int) -> Face:
        """Return a sample as a frame with a face box."""
        planes, box = self.planes, self.side / (1 + 2 * self.margin)
        start = (self.side - box) / 2
        return Face(
            self.species[row],
            planes.rgb[row],
            planes.depth[row],
            planes.ir[row],
            (start, start, box, box),
        )

    def batch(self, rows: NDArray[np.int64]) -> PlaneTensors:
        """Return rows as evaluation uses them: the unchanged middle of each crop."""
        start = (self.side - self.size) // 2
        middle = slice(start, start + self.size)
        planes = self.planes
        rgb, depth, ir = (
            np.ascontiguousarray(getattr(planes, name)[rows, middle, middle]) for name in MODALITIES
        )
        return tensors(PlaneBatch(rgb, depth, ir, planes.present[rows]))

    def window(self, row: int, moved: Sequence[float], zoom: float, face: Face) -> Planes:
        """Return what a network sees of a face by another face box, as far as it is stored.

        Args:
            row: of the sample, whose missing modalities stay missing.
            moved: (right, down), as parts of the face box's side.
            zoom: factor on the side of the window.
            face: the sample, or what was made of it.
        """
        side = min(self.side, round(self.size * zoom))
        room = self.side - side
        # The middle is where `batch` has it.
        left, top = (int(np.clip(room // 2 + round(part * face.box[2]), 0, room)) for part in moved)
        window = (left, top, side, side)
        kept = [
            getattr(face, name) if self.planes.present[row, column] else None
            for column, name in enumerate(MODALITIES)
        ]
        return crop_planes(kept[0], kept[1], kept[2], window, self.size, 0)


def joined(*parts: Dataset) -> Dataset:
    """Return the samples of several data sets as one; planes of another margin keep it.

    Raises:
        DatasetError: their depth is of different kinds, or their planes of different sizes.
    """
    first = parts[0]
    for part in parts:
        if (part.depth_kind, part.side) != (first.depth_kind, first.side):
            raise DatasetError(
                f"{part.where[0]}: {part.depth_kind} depth in planes of {part.side} px, "
                f"{first.where[0]} has {first.depth_kind} depth in {first.side} px"
            )
    planes, at = room_for(sum(map(len, parts)), first.side), 0
    for part in parts:
        for name in (*MODALITIES, "present"):
            getattr(planes, name)[at : at + len(part)] = getattr(part.planes, name)
        at += len(part)
    return replace(
        first,
        where=tuple(where for part in parts for where in part.where),
        files=tuple(file for part in parts for file in part.files),
        planes=planes,
        label=np.concatenate([part.label for part in parts]),
        species=tuple(species for part in parts for species in part.species),
        subjects=tuple(subject for part in parts for subject in part.subjects or part.files),
    )


def stored_px(size: int, margin: float = CROP_MARGIN) -> int:
    """Return the side, in px, of the stored crops from which training cuts inputs of `size` px.

    Source: the recipe on record, 112 out of 124, for crops with `CROP_MARGIN`.
    """
    return round(size * 124 / 112 * (1 + 2 * margin) / (1 + 2 * CROP_MARGIN))


def load_dataset(path: Path, size: int, *, bona_fide_alone: bool = False) -> Dataset:
    """Read a list and all images that it names.

    Args:
        path: any list that `model.data.readers` knows.
        size: side of the network's input, px.
        bona_fide_alone: whether the list may be without attacks.

    Raises:
        model.data.lists.ListError: the list breaks a rule, or has samples of one class only.
        model.data.readers.DatasetError: a picture can't be read, or some depth is in millimetres
            and some of 8 bits.
    """
    samples = read_samples(path)
    count = sum(sample.label for sample in samples)
    if count == 0 or (count == len(samples) and not bona_fide_alone):
        raise ListError(
            f"{path}: {count} of {len(samples)} samples are bona fide: a class is empty"
        )
    margin = WIDE_MARGIN if all(sample.face_box for sample in samples) else CROP_MARGIN
    side = stored_px(size, margin)
    batch = room_for(len(samples), side)

    kinds: list[DepthKind] = ["millimetres"] * len(samples)

    def read(row: int) -> None:
        planes = _read(samples[row], side, margin)
        kinds[row] = planes.depth_kind
        for name in MODALITIES:
            getattr(batch, name)[row] = getattr(planes, name)

    with ThreadPoolExecutor(2) as pool:
        deque(pool.map(read, range(len(samples))), maxlen=0)  # re-raises errors
    for sample, kind in zip(samples, kinds, strict=True):
        if kind != kinds[0]:
            raise DatasetError(
                f"{sample.where}: {sample.name} has {kind} depth, {samples[0].name} has {kinds[0]} "
                "depth: a list must hold one kind of depth"
            )
    return Dataset(
        size=size,
        where=tuple(sample.where for sample in samples),
        files=tuple(sample.name for sample in samples),
        planes=batch,
        label=np.array([sample.label for sample in samples], np.int64),
        species=tuple(sample.species for sample in samples),
        depth_kind=kinds[0],
        margin=margin,
        subjects=tuple(sample.subject or sample.name for sample in samples),
    )


def batches(
    count: int, size: int, rng: np.random.Generator | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in batches of `size`: in order, or shuffled by `rng`."""
    order = np.arange(count) if rng is None else rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def room_for(count: int, side: int) -> PlaneBatch:
    """Return room for `count` faces of `side` px; all modalities are said to be there."""

    def plane(dtype: type, *channels: int) -> NDArray[Any]:
        shape = (count, side, side, *channels)
        if count * side**2 * 6 <= _IN_MEMORY_BYTES:
            return np.empty(shape, dtype)
        # The file has no name: it is gone with the last array that refers to it.
        with tempfile.TemporaryFile() as file:
            return np.memmap(file, dtype, "w+", shape=shape)

    present = np.ones((count, len(MODALITIES)), np.bool_)
    return PlaneBatch(plane(np.uint8, 3), plane(np.uint16), plane(np.uint8), present)


def _read(sample: Sample, side: int, margin: float) -> Planes:
    try:
        return crop_planes(*sample.load(), sample.face_box, side, margin)
    except DatasetError as error:
        raise DatasetError(f"{sample.where}: {error}") from error
    except PlaneError as error:
        raise DatasetError(f"{sample.where}: {sample.name}: {error}") from error
