"""Face crops of a list file, in memory, and what training does to them."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.lists import ListError
from model.data.planes import (
    CROP_MARGIN,
    MODALITIES,
    PlaneBatch,
    PlaneError,
    Planes,
    crop_planes,
)
from model.data.readers import DatasetError, Sample, read_samples
from model.data.tensors import PlaneTensors

# Values of a sensor that sees nothing stay below this.
_DARK = 24


@dataclass(frozen=True)
class Dataset:
    """All samples of a list.

    Attributes:
        size: side of the network's input, px.
        where: `file:line` of the list that names each sample.
        files: name of each sample's colour image, relative to the list.
        planes: (N, S, S) each, uint8 and uint16, with what is present; S is `stored_px(size)`.
        label: (N,) int64, 1 = bona fide.
        species: PAI species of each, `bona_fide`, or `attack` where the data set does not tell.
    """

    size: int
    where: tuple[str, ...]
    files: tuple[str, ...]
    planes: PlaneBatch
    label: NDArray[np.int64]
    species: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.label)

    def thinned(self, every: int) -> "Dataset":
        """Return every so manieth sample, the first one among them."""
        planes = self.planes
        return Dataset(
            size=self.size,
            where=self.where[::every],
            files=self.files[::every],
            planes=PlaneBatch(
                planes.rgb[::every],
                planes.depth[::every],
                planes.ir[::every],
                planes.present[::every],
            ),
            label=self.label[::every],
            species=self.species[::every],
        )

    def batch(self, rows: NDArray[np.int64]) -> PlaneTensors:
        """Return rows as evaluation sees them: the middle, as it is."""
        start = (stored_px(self.size) - self.size) // 2
        return _stored(self.planes, rows, np.full((len(rows), 2), start), self.size)

    def augmented(
        self, rows: NDArray[np.int64], chances: "Chances", rng: np.random.Generator
    ) -> tuple[PlaneTensors, torch.Tensor]:
        """Return rows as training sees them: cropped anywhere, flipped, shaded, planes spoiled.

        Crop and flip are the same for all modalities of a sample: they are registered to each
        other, and stay so.

        Args:
            rows: which samples.
            chances: of what is done to planes.
            rng: all chance comes from here.

        Returns:
            The samples, and which of their planes are there but blind, (B, 3) bool.
        """
        starts = rng.integers(0, stored_px(self.size) - self.size + 1, (len(rows), 2))
        stored = _stored(self.planes, rows, starts, self.size, rng.random(len(rows)) < 0.5)
        gain = torch.from_numpy(rng.uniform(0.75, 1.3, (len(rows), 1, 1, 4)).astype(np.float32))
        shaded = PlaneTensors(
            rgb=(stored.rgb * gain[..., :3]).clamp(0, 255).to(torch.uint8),
            depth=stored.depth,
            ir=(stored.ir * gain[..., 3]).clamp(0, 255).to(torch.uint8),
            present=_drop(stored.present, chances.dropout, rng),
        )
        shaded = _covered(shaded, chances.covering, rng)
        chosen = torch.from_numpy(rng.integers(0, len(MODALITIES), len(rows)))
        is_blind = torch.nn.functional.one_hot(chosen, len(MODALITIES)).bool()
        is_blind &= torch.from_numpy(rng.random(len(rows)) < chances.blinding)[:, None]
        # Something is left that shows the face.
        is_blind &= shaded.present & (shaded.present.sum(1) > 1)[:, None]
        return blinded(shaded, is_blind, rng), is_blind


@dataclass(frozen=True, slots=True)
class Chances:
    """How often training spoils planes.

    Attributes:
        dropout: that a sample loses one or two of its modalities.
        blinding: that one of its planes shows nothing, but is there.
        covering: that a part of the face is hidden, from all modalities alike: an attack of another
            species may be bona fide just where those in training are not.
    """

    dropout: float = 0.0
    blinding: float = 0.0
    covering: float = 0.0


def blinded(stored: PlaneTensors, is_blind: torch.Tensor, rng: np.random.Generator) -> PlaneTensors:
    """Return samples some of whose planes show nothing: noise in the dark, or no depth at all.

    Args:
        stored: a batch.
        is_blind: (B, 3) bool, which planes.
        rng: of the noise.
    """
    rgb, depth, ir = is_blind.unbind(1)
    dark = torch.from_numpy(rng.integers(0, _DARK, (*stored.rgb.shape[:3], 4), np.uint8))
    return stored._replace(
        rgb=torch.where(rgb[:, None, None, None], dark[..., :3], stored.rgb),
        depth=torch.where(depth[:, None, None], torch.zeros_like(stored.depth), stored.depth),
        ir=torch.where(ir[:, None, None], dark[..., 3], stored.ir),
    )


def stored_px(size: int) -> int:
    """Return the side at which crops are kept for a network of `size` px, which training cuts out.

    Source: the recipe on record, 112 out of 124.
    """
    return round(size * 124 / 112)


def load_dataset(path: Path, size: int) -> Dataset:
    """Read a list and all the pictures it names.

    Args:
        path: any list that `model.data.readers` knows.
        size: side of the network's input, px.

    Raises:
        model.data.lists.ListError: the list breaks a rule, or has samples of one class only.
        model.data.readers.DatasetError: a picture can't be read.
    """
    samples = read_samples(path)
    count = sum(sample.label for sample in samples)
    if count in (0, len(samples)):
        raise ListError(
            f"{path}: {count} of {len(samples)} samples are bona fide: a class is empty"
        )
    side = stored_px(size)
    shape = (len(samples), side, side)
    batch = PlaneBatch(
        rgb=np.empty((*shape, 3), np.uint8),
        depth=np.empty(shape, np.uint16),
        ir=np.empty(shape, np.uint8),
        present=np.ones((len(samples), len(MODALITIES)), np.bool_),
    )

    def read(row: int) -> None:
        planes = _read(samples[row], side)
        for name in MODALITIES:
            getattr(batch, name)[row] = getattr(planes, name)

    with ThreadPoolExecutor(2) as pool:
        deque(pool.map(read, range(len(samples))), maxlen=0)  # raises what a read raised
    return Dataset(
        size=size,
        where=tuple(sample.where for sample in samples),
        files=tuple(sample.name for sample in samples),
        planes=batch,
        label=np.array([sample.label for sample in samples], np.int64),
        species=tuple(sample.species for sample in samples),
    )


def batches(
    count: int, size: int, rng: np.random.Generator | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in batches: in order, or in the order that `rng` shuffles them into."""
    order = np.arange(count) if rng is None else rng.permutation(count)
    for start in range(0, count, size):
        yield order[start : start + size]


def _read(sample: Sample, side: int) -> Planes:
    try:
        return crop_planes(*sample.load(), sample.face_box, side, CROP_MARGIN)
    except DatasetError as error:
        raise DatasetError(f"{sample.where}: {error}") from error
    except PlaneError as error:
        raise DatasetError(f"{sample.where}: {sample.name}: {error}") from error


def _stored(
    planes: PlaneBatch,
    rows: NDArray[np.int64],
    starts: NDArray[np.int64],
    size: int,
    flips: NDArray[np.bool_] | None = None,
) -> PlaneTensors:
    steps = np.ones(len(rows), np.int64) if flips is None else np.where(flips, -1, 1)

    def cut(plane: NDArray[Any]) -> torch.Tensor:
        crops = [
            plane[row, top : top + size, left : left + size][:, ::step]
            for row, (top, left), step in zip(rows, starts, steps, strict=True)
        ]
        return torch.from_numpy(np.stack(crops))

    return PlaneTensors(
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


def _covered(stored: PlaneTensors, covering: float, rng: np.random.Generator) -> PlaneTensors:
    """Hide a rectangle of some samples: black, and a hole in depth, as outside of a plane.

    Source: Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
    """
    size = stored.ir.shape[1]
    for row in np.flatnonzero(rng.random(len(stored.ir)) < covering):
        height, width = (rng.uniform(0.2, 0.7, 2) * size).astype(int)
        top, left = rng.integers(0, (size - height + 1, size - width + 1))
        for plane in (stored.rgb, stored.depth, stored.ir):
            plane[row, top : top + height, left : left + width] = 0
    return stored


def subsets() -> Iterator[tuple[str, ...]]:
    """Yield the 7 sets of modalities that a frame can have."""
    for bits in range(1, 1 << len(MODALITIES)):
        yield tuple(name for bit, name in enumerate(MODALITIES) if bits >> bit & 1)
