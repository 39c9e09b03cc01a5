"""Augmentation of a data set: what training sees of its samples, and what each plane then shows.

A sample's window, its flip and whatever is hidden are the same for all modalities, so that they
stay registered. Some bona fide samples become attacks (`model.data.composites`), so labels are part
of the result: one for the presentation, one for each plane, and one for each pair of planes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.composites import PAIRS, compose
from model.data.dataset import Dataset
from model.data.planes import MODALITIES, collate
from model.data.tampering import Face, holes_filled, with_holes
from model.data.tensors import PlaneTensors, tensors

# Upper limit of the noise of a sensor in the dark, in grey levels.
_DARK = 24
# Largest part of depth that is blinded in patches.
_MOST_HOLES = 0.35


@dataclass(frozen=True, slots=True)
class Chances:
    """Probabilities with which training changes a sample, and how far; each in [0, 1].

    Attributes:
        dropout: it loses one or two of its modalities.
        blinding: one of its planes is present but shows nothing.
        covering: a part of the face is hidden in all modalities alike, because an attack of another
            species may look bona fide just where those in training do not.
        composing: it becomes an attack, if it is bona fide: planes of other presentations, planes
            shifted against each other, or no face.
        holes: depth gets more holes, or loses all of them.
        shift: how far the face box is moved at most, as a part of its side.
        zoom: how far it is scaled at most.
    """

    dropout: float = 0.0
    blinding: float = 0.0
    covering: float = 0.0
    composing: float = 0.0
    holes: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0


class Augmented(NamedTuple):
    """A batch as training uses it.

    Attributes:
        stored: the planes.
        is_blind: (B, 3) bool, planes that are present and show nothing.
        label: (B,) int64, 1 = bona fide: all that is present is, and belongs together.
        planes: (B, 3) int64, 1: the plane shows a person who is there; 0: it does not.
        pairs: (B, 3) int64, 1: the two planes of `composites.PAIRS` are of one presentation; 0:
            they are not; -1: nobody knows, or it says nothing.
    """

    stored: PlaneTensors
    is_blind: Tensor
    label: Tensor
    planes: Tensor
    pairs: Tensor


def augmented(
    dataset: Dataset, rows: NDArray[np.int64], chances: Chances, rng: np.random.Generator
) -> Augmented:
    """Return rows of a data set as training uses them.

    Args:
        dataset: where composites take the planes of other presentations from, too.
        rows: (B,) row numbers.
        chances: probabilities of the changes.
        rng: source of all random numbers.
    """
    shown, labels = [], []
    for row in rows:
        face, told = _presented(dataset, int(row), chances, rng)
        moved = rng.uniform(-chances.shift, chances.shift, 2)
        zoom = 1 + rng.uniform(-chances.zoom, chances.zoom)
        shown.append(dataset.window(int(row), moved.tolist(), zoom, face))
        labels.append(told)
    both = torch.tensor(labels)
    planes, pairs = both[:, : len(MODALITIES)], both[:, len(MODALITIES) :]
    stored = _flipped(tensors(collate(shown)), torch.from_numpy(rng.random(len(rows)) < 0.5))
    gain = torch.from_numpy(rng.uniform(0.75, 1.3, (len(rows), 1, 1, 4)).astype(np.float32))
    stored = PlaneTensors(
        rgb=(stored.rgb * gain[..., :3]).clamp(0, 255).to(torch.uint8),
        depth=stored.depth,
        ir=(stored.ir * gain[..., 3]).clamp(0, 255).to(torch.uint8),
        present=_drop(stored.present, chances.dropout, rng),
    )
    stored = _covered(stored, chances.covering, rng)
    # A foreign plane that shows nothing would be no one's.
    is_blind = _to_blind(stored.present, chances.blinding, rng) & ~_foreign(pairs)
    label = _label(stored.present, planes, pairs)
    return Augmented(blinded(stored, is_blind, rng), is_blind, label, planes, pairs)


def blinded(stored: PlaneTensors, is_blind: Tensor, rng: np.random.Generator) -> PlaneTensors:
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


def _presented(
    dataset: Dataset, row: int, chances: Chances, rng: np.random.Generator
) -> tuple[Face, tuple[int, ...]]:
    """Return a sample, or what is made of it, and the labels of its planes and of its pairs."""
    face = dataset.face(row)
    if rng.random() < chances.holes:
        change = holes_filled() if rng.random() < 0.3 else with_holes(rng.uniform(0, _MOST_HOLES))
        face = change(face, face, rng)
    label = int(dataset.label[row])
    if label and rng.random() < chances.composing:
        made = compose(face, dataset, row, rng)
        return made.face, (*made.planes, *made.pairs)
    return face, (*(label,) * len(MODALITIES), *(label or -1,) * len(PAIRS))


def _foreign(pairs: Tensor) -> Tensor:
    """Return which planes are in a pair that is not of one presentation, (B, 3) bool."""
    wrong = pairs == 0
    return torch.stack(
        [
            wrong[:, [at for at, pair in enumerate(PAIRS) if column in pair]].any(1)
            for column in range(len(MODALITIES))
        ],
        1,
    )


def _label(present: Tensor, planes: Tensor, pairs: Tensor) -> Tensor:
    """Return the label of a presentation, by what is present of it alone, (B,) int64."""
    both = torch.stack([present[:, one] & present[:, other] for one, other in PAIRS], 1)
    is_wrong = ((planes == 0) & present).any(1) | ((pairs == 0) & both).any(1)
    return (~is_wrong).long()


def _flipped(stored: PlaneTensors, is_flipped: Tensor) -> PlaneTensors:
    rows = is_flipped.nonzero()[:, 0].tolist()
    for plane in (stored.rgb, stored.depth, stored.ir):
        for row in rows:
            plane[row] = torch.from_numpy(plane[row].numpy()[:, ::-1].copy())
    return stored


def _to_blind(present: Tensor, blinding: float, rng: np.random.Generator) -> Tensor:
    chosen = torch.from_numpy(rng.integers(0, len(MODALITIES), len(present)))
    is_blind = torch.nn.functional.one_hot(chosen, len(MODALITIES)).bool()
    is_blind &= torch.from_numpy(rng.random(len(present)) < blinding)[:, None]
    # At least one plane is left that shows the face.
    return is_blind & present & (present.sum(1) > 1)[:, None]


def _drop(present: Tensor, dropout: float, rng: np.random.Generator) -> Tensor:
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
