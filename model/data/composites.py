"""Composites: attacks made of the samples of a data set, without rendering or recording any.

    split      a plane of another person, as a camera gives whose one lens looks elsewhere
    covered    a plane of a picture: a print or a screen before one lens
    shifted    a plane moved against the others, as by a picture before one lens that is not aligned
    invented   planes that show no face, or that were made from another plane

Each plane of `split` and `shifted` is a person's, as good as any: that they do not belong together
is all that tells. `PROTOCOLS` names the species of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, room_for
from model.data.planes import MODALITIES, PlaneBatch
from model.data.tampering import (
    Change,
    Face,
    blobs,
    ellipsoid,
    grey_as_ir,
    noised,
    replaced,
    shaded_ellipse,
    shifted,
)
from model.errors import check_choice

# Columns of `model.data.planes.MODALITIES`.
PAIRS = ((0, 1), (0, 2), (1, 2))
# How far planes are moved, as a part of the face box's side: less is a camera's own misalignment.
_SHIFTS = (0.12, 0.4)
_PICTURES = ("phone", "tablet", "0", "photo", "screen", "print", "attack")

Source = Literal["bona_fide", "picture"]


@dataclass(frozen=True)
class Kind:
    """A species of composite.

    Attributes:
        change: makes it of a bona fide sample and another one.
        columns: of the planes that are changed.
        shows: what the changed planes show, by themselves: 1 a person, 0 none.
        source: of which samples the other one is.
        weight: how often training takes it, in parts of all weights.
    """

    change: Change
    columns: tuple[int, ...]
    shows: int
    source: Source = "bona_fide"
    weight: float = 1.0

    @property
    def planes(self) -> tuple[int, ...]:
        """Label of each plane."""
        return tuple(self.shows if at in self.columns else 1 for at in range(len(MODALITIES)))

    @property
    def pairs(self) -> tuple[int, ...]:
        """Label of each pair; of what is invented as a whole, nothing is known."""
        if len(self.columns) == len(MODALITIES):
            return (-1,) * len(PAIRS)
        return tuple(int(not set(pair) & set(self.columns)) for pair in PAIRS)


class Made(NamedTuple):
    """A composite: its species, its planes, and the labels of planes and pairs."""

    species: str
    face: Face
    planes: tuple[int, ...]
    pairs: tuple[int, ...]


def _moved(name: str) -> Change:
    def change(face: Face, other: Face, rng: np.random.Generator) -> Face:
        return shifted(name, rng.uniform(*_SHIFTS))(face, other, rng)

    return change


KINDS: Mapping[str, Kind] = {
    **{
        f"split_{name}": Kind(replaced(name), (at,), 1, weight=3)
        for at, name in enumerate(MODALITIES)
    },
    **{
        f"covered_{name}": Kind(replaced(name), (at,), 0, source="picture")
        for at, name in enumerate(MODALITIES)
    },
    **{f"shifted_{name}": Kind(_moved(name), (at,), 1) for at, name in enumerate(MODALITIES)},
    **{
        f"noise_{name}": Kind(noised(name), (at,), 0, weight=0.3)
        for at, name in enumerate(MODALITIES)
    },
    "grey_as_ir": Kind(grey_as_ir, (2,), 0),
    "ellipsoid": Kind(ellipsoid, (1,), 0, weight=0.5),
    "ellipse": Kind(shaded_ellipse, (0, 1, 2), 0, weight=0.5),
    "blobs": Kind(blobs, (0, 1, 2), 0, weight=0.5),
}
PROTOCOLS: Mapping[str, tuple[str, ...]] = {
    "split": tuple(f"split_{name}" for name in MODALITIES),
    "covered": tuple(f"covered_{name}" for name in MODALITIES),
    "shifted": tuple(f"shifted_{name}" for name in MODALITIES),
    "invented": (
        *(f"noise_{name}" for name in MODALITIES),
        "grey_as_ir",
        "ellipsoid",
        "ellipse",
        "blobs",
    ),
}
_NAMES = tuple(KINDS)
_WEIGHTS = np.array([kind.weight for kind in KINDS.values()])
_WEIGHTS /= _WEIGHTS.sum()


def compose(face: Face, dataset: Dataset, row: int, rng: np.random.Generator) -> Made:
    """Make a composite of a random species of a bona fide sample.

    Args:
        face: the sample.
        dataset: whose other samples lend their planes.
        row: of the sample, which lends none.
        rng: source of all random numbers.
    """
    return _made(_NAMES[rng.choice(len(_NAMES), p=_WEIGHTS)], face, dataset, row, rng)


def with_composites(
    dataset: Dataset, protocols: Sequence[str], seed: int = 0, *, each: int | None = None
) -> Dataset:
    """Return a data set with composites of its bona fide samples added, the same ones every time.

    Args:
        dataset: with bona fide samples, and for `covered` pictures.
        protocols: some of `PROTOCOLS`.
        seed: of which planes are put together.
        each: composites of each species at most; None: one of each bona fide sample.

    Raises:
        SettingError: there is no such protocol.
    """
    for protocol in protocols:
        check_choice("composites", protocol, tuple(PROTOCOLS))
    bona_fide = _rows(dataset, "bona_fide")
    chosen: list[tuple[str, NDArray[np.int64]]] = []
    for name in (name for protocol in protocols for name in PROTOCOLS[protocol]):
        rng = np.random.default_rng([seed, _NAMES.index(name)])
        rows = bona_fide if each is None else np.sort(rng.permutation(bona_fide)[:each])
        chosen.append((name, rows))
    sources = np.concatenate([np.arange(len(dataset)), *(rows for _, rows in chosen)])
    planes = room_for(len(sources), dataset.side)
    for name in (*MODALITIES, "present"):
        getattr(planes, name)[: len(dataset)] = getattr(dataset.planes, name)
    at, species = len(dataset), list(dataset.species)
    for name, rows in chosen:
        rng = np.random.default_rng([seed, _NAMES.index(name), 1])
        for row in rows.tolist():
            _put(planes, at, _made(name, dataset.face(row), dataset, row, rng).face)
            planes.present[at] = dataset.planes.present[row]
            at += 1
        species += [name] * len(rows)
    return replace(
        dataset,
        where=tuple(dataset.where[row] for row in sources),
        files=tuple(
            dataset.files[row] + (f"#{species[at]}" if at >= len(dataset) else "")
            for at, row in enumerate(sources)
        ),
        planes=planes,
        label=np.concatenate([dataset.label, np.zeros(len(sources) - len(dataset), np.int64)]),
        species=tuple(species),
        subjects=tuple(dataset.subjects[row] for row in sources) if dataset.subjects else (),
    )


def _put(planes: PlaneBatch, at: int, face: Face) -> None:
    planes.rgb[at], planes.depth[at], planes.ir[at] = face.rgb, face.depth, face.ir


def _made(name: str, face: Face, dataset: Dataset, row: int, rng: np.random.Generator) -> Made:
    kind = KINDS[name]
    lenders = _rows(dataset, kind.source)
    if not len(lenders):
        lenders = _rows(dataset, "bona_fide")
    other = int(rng.choice(lenders))
    while other == row and len(lenders) > 1:
        other = int(rng.choice(lenders))
    made = kind.change(face, dataset.face(other), rng)
    return Made(name, made, kind.planes, kind.pairs)


def _rows(dataset: Dataset, source: Source) -> NDArray[np.int64]:
    """Return the rows of samples that may lend a plane."""
    wanted = ("bona_fide",) if source == "bona_fide" else _PICTURES
    found = [rows for name, rows in dataset.rows_of.items() if name.startswith(wanted)]
    return np.concatenate(found) if found else np.empty(0, np.int64)
