"""A data set: the face crops of a list file in memory, and their augmentation."""

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
    DepthKind,
    PlaneBatch,
    PlaneError,
    Planes,
    crop_planes,
)
from model.data.readers import DatasetError, Sample, read_samples
from model.data.tensors import PlaneTensors

# Upper limit of the noise of a sensor in the dark, in grey levels.
_DARK = 24


@dataclass(frozen=True)
class Dataset:
    """The samples of a list.

    Attributes:
        size: side of the network's input, px.
        where: `file:line` of the list that names each sample.
        files: name of each sample's colour image, relative to the list.
        planes: (N, S, S) each, uint8 and uint16, with what is present; S is `stored_px(size)`.
        label: (N,) int64, 1 = bona fide.
        species: PAI species of each, `bona_fide`, or `attack` where the data set does not tell.
        depth_kind: what the values of `planes.depth` stand for.
    """

    size: int
    where: tuple[str, ...]
    files: tuple[str, ...]
    planes: PlaneBatch
    label: NDArray[np.int64]
    species: tuple[str, ...]
    depth_kind: DepthKind = "millimetres"

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.label)

    def thinned(self, every: int) -> "Dataset":
        """Return every `every`-th sample, from the first on."""
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
            depth_kind=self.depth_kind,
        )

    def batch(self, rows: NDArray[np.int64]) -> PlaneTensors:
        """Return rows as evaluation uses them: the unchanged middle of each crop."""
        start = (stored_px(self.size) - self.size) // 2
        return _stored(self.planes, rows, np.full((len(rows), 2), start), self.size)

    def augmented(
        self, rows: NDArray[np.int64], chances: "Chances", rng: np.random.Generator
    ) -> tuple[PlaneTensors, torch.Tensor]:
        """Return rows as training uses them: randomly cropped, flipped, shaded and degraded.

        Crop and flip are the same for all modalities of a sample, so that they stay registered.

        Args:
            rows: (B,) row numbers.
            chances: probabilities of the degradations.
            rng: source of all random numbers.

        Returns:
            The samples, and which of their planes are present but blind, (B, 3) bool.
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
        # At least one plane is left that shows the face.
        is_blind &= shaded.present & (shaded.present.sum(1) > 1)[:, None]
        return blinded(shaded, is_blind, rng), is_blind


@dataclass(frozen=True, slots=True)
class Chances:
    """Probabilities with which training degrades a sample, each in [0, 1].

    Attributes:
        dropout: it loses one or two of its modalities.
        blinding: one of its planes is present but shows nothing.
        covering: a part of the face is hidden in all modalities alike, because an attack of another
            species may look bona fide just where those in training do not.
    """

    dropout: float = 0.0
    blinding: float = 0.0
    covering: float = 0.0


def blinded(stored: PlaneTensors, is_blind: torch.Tensor, rng: np.random.Generator) -> PlaneTensors:
    """Return samples with some planes replaced by what a blind sensor gives: noise, or no depth.

    Args:
        stored: B samples.
        is_blind: (B, 3) bool, the planes to replace.
        rng: source of the noise.
    """
    rgb, depth, ir = is_blind.unbind(1)
    dark = torch.from_numpy(rng.integers(0, _DARK, (*stored.rgb.shape[:3], 4), np.uint8))
    return stored._replace(
        rgb=torch.where(rgb[:, None, None, None], dark[..., :3], stored.rgb),
        depth=torch.where(depth[:, None, None], torch.zeros_like(stored.depth), stored.depth),
        ir=torch.where(ir[:, None, None], dark[..., 3], stored.ir),
    )


def stored_px(size: int) -> int:
    """Return the side, in px, of the stored crops from which training cuts inputs of `size` px.

    Source: the recipe on record, 112 out of 124.
    """
    return round(size * 124 / 112)


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
    side = stored_px(size)
    shape = (len(samples), side, side)
    batch = PlaneBatch(
        rgb=np.empty((*shape, 3), np.uint8),
        depth=np.empty(shape, np.uint16),
        ir=np.empty(shape, np.uint8),
        present=np.ones((len(samples), len(MODALITIES)), np.bool_),
    )

    kinds: list[DepthKind] = ["millimetres"] * len(samples)

    def read(row: int) -> None:
        planes = _read(samples[row], side)
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
    )


def batches(
    count: int, size: int, rng: np.random.Generator | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield row numbers in batches of `size`: in order, or shuffled by `rng`."""
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
    """Hide a rectangle of some samples: black, and a hole in depth, as outside a plane.

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
    """Yield the 7 non-empty sets of modalities, each in the order of `MODALITIES`."""
    for bits in range(1, 1 << len(MODALITIES)):
        yield tuple(name for bit, name in enumerate(MODALITIES) if bits >> bit & 1)
