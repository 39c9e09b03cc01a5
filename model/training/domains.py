"""Training on some data sets, tested on another: the multi-modal protocols of the field.

    1  leave one out: three data sets to train on, the fourth to test
    2  the same, and depth, infrared or both are missing in the test
    3  fewer sources: two to train on, the other two to test

Source: Lin et al., Suppress and Rebalance: Towards Generalized Multi-Modal Face Anti-Spoofing, CVPR
2024. C is CeFA, P PADISI-Face, S CASIA-SURF, W WMCA. Published tables give HTER at the equal error
of the test list itself; beside it stands HTER at a threshold of the sources' held-out lists, which
is what a door would have.

    <folder>/<sources>/           the bundle
    <folder>/domains.json         settings stamp
    <folder>/table.json, table.md
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Dataset, joined, load_dataset
from model.data.planes import MODALITIES
from model.data.readers import read_samples
from model.errors import ModelError, check_choice
from model.evaluation.bootstrap import Ranking, Subjects
from model.evaluation.metrics import equal_error, judge
from model.evaluation.scoring import score
from model.network.device import default_device
from model.network.normalise import face_filled
from model.runs.stamp import check_stamp
from model.serving.bundle import load_bundle
from model.training.recipe import TrainingConfig, described
from model.training.training import train

DATA_SETS = {"C": "cefa", "P": "padisi", "S": "casia-surf", "W": "wmca"}
_LEFT_OUT = (("CPS", "W"), ("CPW", "S"), ("CSW", "P"), ("PSW", "C"))
_ROWS = 512


class DomainError(ModelError):
    """A protocol can't be run: the message says which data sets it takes."""


class Trial(NamedTuple):
    """One test.

    Attributes:
        protocol: `1`, `2` or `3`.
        sources: letters of the data sets to train on.
        target: letters of those to test on.
        lost: modalities that are missing in the test.
    """

    protocol: str
    sources: str
    target: str
    lost: tuple[str, ...] = ()


PROTOCOLS: Mapping[str, tuple[Trial, ...]] = {
    "1": tuple(Trial("1", *each) for each in _LEFT_OUT),
    "2": tuple(
        Trial("2", *each, lost)
        for lost in (("depth",), ("ir",), ("depth", "ir"))
        for each in _LEFT_OUT
    ),
    "3": (Trial("3", "CW", "PS"), Trial("3", "PS", "CW")),
}


@dataclass(frozen=True)
class DomainConfig:
    """Protocols to run.

    Attributes:
        recipe: of each training; network, lists and bundle are replaced, depth is of 8 bits.
        lists: training list and test list by letter.
        folder: of the runs.
        protocols: some of `PROTOCOLS`; trials whose data sets are not all there are left out.
    """

    recipe: TrainingConfig
    lists: Mapping[str, tuple[Path, Path]]
    folder: Path
    protocols: tuple[str, ...] = tuple(PROTOCOLS)

    def __post_init__(self) -> None:
        """Refuse what can't be run.

        Raises:
            SettingError: there is no such protocol.
            DomainError: no trial has all of its data sets.
        """
        for protocol in self.protocols:
            check_choice("protocols", protocol, tuple(PROTOCOLS))
        if not self.trials:
            raise DomainError(
                f"no protocol can be run on {''.join(sorted(self.lists)) or 'nothing'}: 1 and 2 "
                "take three data sets to train on and one to test, 3 takes all four"
            )

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """What can be run."""
        return tuple(
            trial
            for protocol in self.protocols
            for trial in PROTOCOLS[protocol]
            if set(trial.sources + trial.target) <= self.lists.keys()
        )

    @property
    def trainings(self) -> tuple[str, ...]:
        """Sources of each network."""
        return tuple(dict.fromkeys(trial.sources for trial in self.trials))


def plan(config: DomainConfig) -> str:
    """Return what would be run, with the samples of each list; every list is read.

    Raises:
        model.data.lists.ListError: a list breaks a rule.
        model.data.readers.DatasetError: the first sample of a list can't be read.
    """
    lines = []
    for letter, paths in sorted(config.lists.items()):
        for part, path in zip(("train", "test"), paths, strict=True):
            samples = read_samples(path)
            shape = "x".join(map(str, samples[0].load()[0].shape[:2]))
            bona_fide = sum(sample.label for sample in samples)
            lines.append(
                f"{letter} {DATA_SETS[letter]} {part}: {len(samples)} samples, {bona_fide} bona "
                f"fide, {len({sample.species for sample in samples}) - 1} species, {shape} px"
            )
    for trial in config.trials:
        lost = f" without {' and '.join(trial.lost)}" if trial.lost else ""
        lines.append(f"protocol {trial.protocol}: {trial.sources} -> {trial.target}{lost}")
    return "\n".join(lines)


def run(config: DomainConfig) -> Iterator[str]:
    """Train and test, yielding a line for each network; then write the table.

    Raises:
        model.runs.stamp.StampMismatch: the folder holds runs of another recipe.
        model.data.lists.ListError: a list breaks a rule.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    recipe = described(config.recipe)
    for field in ("train", "val", "threads", "bf16"):
        del recipe[field]
    check_stamp(config.folder / "domains.json", recipe, "runs of another recipe")
    rows: dict[Trial, dict[str, Any]] = {}
    for sources in config.trainings:
        bundle = config.folder / sources
        parts = [_read(config, letter, 0) for letter in sources]
        held_out = joined(*(_read(config, letter, 1) for letter in sources))
        if not bundle.exists():
            # Names stand for data sets in memory; the lists lie in different places.
            made = replace(config.recipe, train=Path("train"), val=Path("test"), bundle=bundle)
            lists = {"train": joined(*parts), "test": held_out}
            for _ in train(made, partial(_known, lists)):
                pass
        network = load_bundle(bundle).network.to(default_device())
        for trial in config.trials:
            if trial.sources == sources:
                kept = [name for name in MODALITIES if name not in trial.lost]
                target = joined(*(_read(config, letter, 1) for letter in trial.target))
                inside = score(network, held_out, kept)
                rows[trial] = figures(
                    score(network, target, kept), target, equal_error(inside, held_out.label)[1]
                )
        yield sources
    table = [{**trial._asdict(), **rows[trial]} for trial in config.trials]
    (config.folder / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    (config.folder / "table.md").write_text(markdown(table), encoding="utf-8")


def figures(scores: NDArray[np.float64], dataset: Dataset, threshold: float) -> dict[str, Any]:
    """Return the figures of a test.

    Args:
        scores: (N,) bona fide scores.
        dataset: the N samples.
        threshold: of the sources.

    Returns:
        `HTER`, at the test's own equal error, and `HTER sources`, at the sources' threshold: means
        of the attacks that pass and the bona fide that don't; `AUC`; APCER of the worst species and
        BPCER at the sources' threshold.
    """
    is_bona_fide = dataset.label == 1
    ranking = Ranking(scores, is_bona_fide)
    subjects = Subjects(dataset.subjects or dataset.files, 200)
    fpr, tpr = ranking.rates(np.ones(len(scores)))
    report = judge(scores, dataset.species, threshold)
    return {
        "HTER": subjects.estimate(ranking.equal_error).rounded(),
        "AUC": round(float(np.trapezoid([0, *tpr], [0, *fpr])), 6),
        "HTER sources": round(report.acer_pooled, 6),
        "APCER": round(report.apcer, 6),
        "BPCER": round(report.bpcer.value, 6),
    }


def markdown(table: list[dict[str, Any]]) -> str:
    """Return the table as text."""
    titles = ("protocol", "trained on", "tested on", "without", "HTER", "AUC", "HTER, sources")
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    for row in table:
        low, high = row["HTER"]["interval"]
        lines.append(
            f"{row['protocol']} | {row['sources']} | {row['target']} | {', '.join(row['lost'])} | "
            f"{row['HTER']['rate']:.2%} ({low:.2%} to {high:.2%}) | {row['AUC']:.2%} | "
            f"{row['HTER sources']:.2%}"
        )
    return "".join(f"| {line} |\n" for line in lines)


def _known(lists: Mapping[str, Dataset], path: Path, _size: int) -> Dataset:
    return lists[path.name]


def _read(config: DomainConfig, letter: str, part: int) -> Dataset:
    """Return a list's samples, their names told apart, with depth of 8 bits."""
    found = load_dataset(config.lists[letter][part], config.recipe.network.size)
    return as_8_bit(
        replace(
            found,
            files=tuple(f"{letter}/{file}" for file in found.files),
            subjects=tuple(f"{letter}/{subject}" for subject in found.subjects),
        )
    )


def as_8_bit(dataset: Dataset) -> Dataset:
    """Return a data set whose depth is grey values as CASIA-SURF has them: nearer is brighter."""
    if dataset.depth_kind == "8-bit":
        return dataset
    for start in range(0, len(dataset), _ROWS):
        depth = dataset.planes.depth[start : start + _ROWS]
        relief = face_filled(torch.from_numpy(depth.astype(np.float32))[:, None])[:, 0]
        dataset.planes.depth[start : start + _ROWS] = ((relief + 1) * 127.5).round().numpy()
    return replace(dataset, depth_kind="8-bit")
