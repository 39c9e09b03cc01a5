"""Face crops of a list file, in memory, and what training does to them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model.lists import ListEntry, read_list
from model.normalise import Stored
from model.planes import MODALITIES, PlaneBatch, Planes, collate, crop_planes

# Side at which crops are kept: training cuts its 112 px out of them. Source: the recipe on record.
STORED_PX = 124


class DatasetError(ValueError):
    """A sample can't be used; the message names the list and the file."""


@dataclass(frozen=True)
class Dataset:
    """All samples of a list.

    Attributes:
        files: name of each sample's colour image, relative to the list.
        planes: (N, 124, 124) each, uint8 and uint16, with what is present.
        label: (N,) int64, 1 = bona fide.
        species: PAI species of each, `bona_fide`, or `attack` where the data set does not tell.
    """

    files: tuple[str, ...]
    planes: PlaneBatch
    label: NDArray[np.int64]
    species: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.label)

    def batch(self, rows: NDArray[np.int64], size: int) -> Stored:
        """Return rows as evaluation sees them: the middle, as it is."""
        start = (STORED_PX - size) // 2
        return _stored(self.planes, rows, np.full((len(rows), 2), start), size)

    def augmented(
        self, rows: NDArray[np.int64], size: int, dropout: float, rng: np.random.Generator
    ) -> Stored:
        """Return rows as training sees them: cropped anywhere, flipped, shaded, planes dropped.

        Crop and flip are the same for all modalities of a sample: they are registered to each
        other, and stay so.

        Args:
            rows: which samples.
            size: side of the network's input, px.
            dropout: chance that a sample loses one or two of its modalities.
            rng: all chance comes from here.
        """
        starts = rng.integers(0, STORED_PX - size + 1, (len(rows), 2))
        stored = _stored(self.planes, rows, starts, size, rng.random(len(rows)) < 0.5)
        gain = torch.from_numpy(rng.uniform(0.75, 1.3, (len(rows), 1, 1, 4)).astype(np.float32))
        return Stored(
            rgb=(stored.rgb * gain[..., :3]).clamp(0, 255).to(torch.uint8),
            depth=stored.depth,
            ir=(stored.ir * gain[..., 3]).clamp(0, 255).to(torch.uint8),
            present=_drop(stored.present, dropout, rng),
        )


def load_dataset(path: Path) -> Dataset:
    """Read a list file and all the pictures it names.

    Raises:
        model.lists.ListError: the list breaks a rule.
        DatasetError: a picture can't be read.
    """
    entries = read_list(path)
    with ThreadPoolExecutor(2) as pool:
        planes = list(pool.map(_read, entries))
    return Dataset(
        files=tuple(entry.rgb.relative_to(path.parent).as_posix() for entry in entries),
        planes=collate(planes),
        label=np.array([entry.label for entry in entries], np.int64),
        species=_species(path, entries),
    )


def batches(
    count: int, size: int, rng: np.random.Generator | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in batches: in order, or in the order that `rng` shuffles them into."""
    order = np.arange(count) if rng is None else rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _read(entry: ListEntry) -> Planes:
    rgb = _image(entry.rgb, cv2.IMREAD_COLOR_RGB)
    depth = _image(entry.depth, cv2.IMREAD_UNCHANGED)
    ir = _image(entry.ir, cv2.IMREAD_GRAYSCALE)
    if depth.ndim == 3:
        depth = depth[:, :, 0]  # CASIA-SURF keeps its 8-bit depth in three equal channels
    return crop_planes(rgb, depth, ir, None, STORED_PX, 0.0)


def _image(path: Path, flags: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise DatasetError(f"{path}: can't be read as a picture")
    return image  # type: ignore[return-value]


def _species(path: Path, entries: list[ListEntry]) -> tuple[str, ...]:
    index = path.parent / "samples.jsonl"
    known: dict[str, str] = {}
    if index.exists():
        for line in index.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            known[f"subject-{row['subject']:06d}/{row['name']}_rgb.jpg"] = row["species"]
    return tuple(
        known.get(
            entry.rgb.relative_to(path.parent).as_posix(),
            "bona_fide" if entry.label else "attack",
        )
        for entry in entries
    )


def _stored(
    planes: PlaneBatch,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    size: int,
    flips: NDArray[np.bool_] | None = None,
) -> Stored:
    steps = np.ones(len(rows), np.int64) if flips is None else np.where(flips, -1, 1)

    def cut(plane: NDArray[Any]) -> torch.Tensor:
        crops = [
            plane[row, top : top + size, left : left + size][:, ::step]
            for row, (top, left), step in zip(rows, starts, steps, strict=True)
        ]
        return torch.from_numpy(np.stack(crops))

    return Stored(
        cut(planes.rgb), cut(planes.depth), cut(planes.ir), torch.from_numpy(planes.present[rows])
    )


def _drop(present: torch.Tensor, dropout: float, rng: np.random.Generator) -> torch.Tensor:
    kept = present.clone()
    for row in np.flatnonzero(rng.random(len(present)) < dropout):
        there = np.flatnonzero(present[row].numpy())
        if len(there) > 1:
            lost = rng.choice(there, rng.integers(1, len(there)), replace=False)
            kept[row, torch.from_numpy(lost)] = False
    return kept


def subsets() -> Iterator[tuple[str, ...]]:
    """Yield the 7 sets of modalities that a frame can have."""
    for bits in range(1, 1 << len(MODALITIES)):
        yield tuple(name for bit, name in enumerate(MODALITIES) if bits >> bit & 1)
