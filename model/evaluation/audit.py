"""Evaluation of a data set: does anything simpler than the judgement tell its classes apart?

For each figure of `model.evaluation.statistics`, and for what a rendered set says of its scenes,
the audit gives the area under the ROC curve (AUC) of each species against bona fide: 0.5 is chance,
and whichever class has the larger values counts. A figure above the limit is a finding, unless it
is in the species' nature: `PHYSICAL` names each such case with its reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.lists import ListError, read_list
from model.data.planes import CROP_MARGIN, MODALITIES, PlaneError, crop_planes
from model.data.readers import DatasetError, Sample, read_samples
from model.errors import ModelError
from model.evaluation.statistics import describe

BONA_FIDE = "bona_fide"
ALL_ATTACKS = "all attacks"
MAX_AUC = 0.65
# With fewer of either class, chance alone moves an AUC by more than 0.05 (one standard deviation).
MIN_SAMPLES = 40
# What `model.render.dataset` writes of a scene: it must not depend on the species either.
_SCENE_WORDS = ("sensor", "fill", "trouble")
_SCENE_NUMBERS = ("distance_m", "emitter", "nir_ambient", "glasses")


class AuditError(ModelError):
    """The data can't be audited: the message says what it lacks."""


@dataclass(frozen=True)
class Physical:
    """A figure that a species shows by its nature, on any site.

    Attributes:
        figures: beginnings of the figures' names.
        species: beginnings of the species' names; CASIA-SURF's begin with a digit.
        reason: why no data set can be without it.
    """

    figures: tuple[str, ...]
    species: tuple[str, ...]
    reason: str


_PRINTS = ("0", "half")
_SHEETS = (*_PRINTS, "phone", "tablet")
PHYSICAL = (
    Physical(
        ("framing_near", "framing_y"),
        _SHEETS,
        "what is held before a face hides the background beside it, at the face's own distance",
    ),
    Physical(
        ("ir_brightness", "ir_contrast", "ir_sharpness"),
        ("phone", "tablet"),
        "a display sends out no near infrared, and its glass reflects little of the emitter's",
    ),
    Physical(
        ("ir_contrast", "ir_sharpness"),
        _PRINTS,
        "the emitter beside the camera leaves no shadows on a sheet, and dyes are clear there",
    ),
    Physical(
        ("depth_file_bytes",),
        ("phone",),
        "it is a plane, and its holder hides the background, which would be farther and noisier",
    ),
    Physical(("",), ("back", "hand"), "it is no face at all"),
)


@dataclass(frozen=True, eq=False)
class Audit:
    """What a data set's figures tell.

    Attributes:
        counts: samples of each species, bona fide among them.
        figures: names, the rows of `auc`.
        species: names, its columns; the last is `all attacks`, those that have the figure by their
            nature left out.
        auc: (figures, species) in [0.5, 1]; NaN: too few samples of the species have the figure.
        limit: above which an AUC is a finding.
    """

    counts: Mapping[str, int]
    figures: tuple[str, ...]
    species: tuple[str, ...]
    auc: NDArray[np.float64]
    limit: float

    def findings(self) -> list[str]:
        """Return what is above the limit and in no species' nature, the worst first."""
        rows, columns = np.nonzero(self.auc > self.limit)
        found = [
            (self.auc[row, column], self.figures[row], self.species[column])
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if physical(self.figures[row], self.species[column]) is None
        ]
        return [
            f"{name} tells {kind} apart: AUC {auc:.3f}" for auc, name, kind in sorted(found)[::-1]
        ]

    def table(self) -> str:
        """Return it as text: `*` marks a finding, `.` what is in a species' nature."""
        wide = max(map(len, self.figures)) + 1
        lines = [" " * wide + "".join(f"{name:>12.11}" for name in self.species)]
        for row, figure in enumerate(self.figures):
            cells = (self._cell(row, column) for column in range(len(self.species)))
            lines.append(f"{figure:{wide}}" + "".join(f"{cell:>12}" for cell in cells))
        return "\n".join(lines)

    def _cell(self, row: int, column: int) -> str:
        value = self.auc[row, column]
        if np.isnan(value):
            return "-  "
        if value <= self.limit:
            return f"{value:.3f}  "
        is_natural = physical(self.figures[row], self.species[column]) is not None
        return f"{value:.3f} {'.' if is_natural else '*'}"


def audit(list_file: Path, size: int, limit: float = MAX_AUC) -> Audit:
    """Figure how well each simple figure tells each species of a list from bona fide.

    Args:
        list_file: any list that `model.data.readers` knows.
        size: side of the crops that are measured, px.
        limit: above which an AUC is a finding.

    Raises:
        model.data.lists.ListError: the list breaks a rule.
        model.data.readers.DatasetError: a picture can't be read.
        AuditError: too few bona fide samples, or no species with enough.
    """
    samples = read_samples(list_file)
    scenes, sizes = _scenes(list_file), _file_bytes(list_file)
    rows = [
        _figures_of(sample, size, scenes.get(sample.name, {}), sizes.get(sample.name, ()))
        for sample in samples
    ]
    return compare(rows, [sample.species for sample in samples], limit)


def compare(
    rows: Sequence[Mapping[str, float]], species: Sequence[str], limit: float = MAX_AUC
) -> Audit:
    """Figure the AUC of each figure for each species.

    Args:
        rows: the figures of each sample.
        species: of each sample, `bona_fide` among them.
        limit: above which an AUC is a finding.

    Raises:
        AuditError: too few bona fide samples, or no species with enough.
    """
    kinds = np.asarray(species)
    names, counts = np.unique(kinds, return_counts=True)
    counted = dict(zip(names.tolist(), counts.tolist(), strict=True))
    attacks = [name for name in counted if name != BONA_FIDE]
    enough = max((count for name, count in counted.items() if name != BONA_FIDE), default=0)
    if min(counted.get(BONA_FIDE, 0), enough) < MIN_SAMPLES:
        raise AuditError(
            f"{counted.get(BONA_FIDE, 0)} bona fide samples and at most {enough} of a species: an "
            f"audit takes {MIN_SAMPLES} of both"
        )
    figures = sorted({name for row in rows for name in row})
    values = np.array([[row.get(name, np.nan) for name in figures] for row in rows])
    columns = (*attacks, ALL_ATTACKS)
    found = np.full((len(figures), len(columns)), np.nan)
    for at, name in enumerate(columns):
        for row, figure in enumerate(figures):
            pooled = [each for each in attacks if physical(figure, each) is None]
            is_kind = np.isin(kinds, pooled if name == ALL_ATTACKS else [name])
            bona_fide, attack = values[kinds == BONA_FIDE, row], values[is_kind, row]
            found[row, at] = auc(bona_fide[~np.isnan(bona_fide)], attack[~np.isnan(attack)])
    return Audit(counted, tuple(figures), columns, found, limit)


def auc(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve between two samples, the larger of both directions.

    Equal values count half, which is the Mann-Whitney statistic. NaN if a sample is too small.
    """
    if min(len(one), len(other)) < MIN_SAMPLES:
        return float("nan")
    ordered = np.sort(one)
    below, upto = np.searchsorted(ordered, other), np.searchsorted(ordered, other, "right")
    area = float((below + upto).mean() / 2 / len(one))
    return max(area, 1 - area)


def physical(figure: str, species: str) -> Physical | None:
    """Return why a species has a figure by its nature; None: it has not."""
    for case in PHYSICAL:
        if figure.startswith(case.figures) and species.startswith(case.species):
            return case
    return None


def _figures_of(
    sample: Sample, size: int, scene: Mapping[str, float], file_bytes: Sequence[int]
) -> dict[str, float]:
    try:
        planes = crop_planes(*sample.load(), sample.face_box, size, CROP_MARGIN)
    except (DatasetError, PlaneError) as error:
        raise DatasetError(f"{sample.where}: {error}") from error
    return {**describe(planes, file_bytes), **scene}


def _file_bytes(list_file: Path) -> dict[str, tuple[int, ...]]:
    """Return the sizes of each sample's three files; of lists that name others: nothing."""
    try:
        entries = read_list(list_file)
    except ListError:
        return {}
    return {
        entry.rgb.relative_to(list_file.parent).as_posix(): tuple(
            getattr(entry, name).stat().st_size for name in MODALITIES
        )
        for entry in entries
    }


def _scenes(list_file: Path) -> dict[str, dict[str, float]]:
    """Return what a rendered set says of each scene, as numbers; of other sets: nothing."""
    index = list_file.parent / "samples.jsonl"
    if not index.is_file():
        return {}
    rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
    words = sorted({(name, row[name]) for row in rows for name in _SCENE_WORDS if name in row})
    scenes = {}
    for row in rows:
        scene = {f"scene_{name}": float(row[name]) for name in _SCENE_NUMBERS if name in row}
        scene |= {f"scene_{name}_{word}": float(row.get(name) == word) for name, word in words}
        scenes[f"subject-{row['subject']:06d}/{row['name']}_rgb.jpg"] = scene
    return scenes
