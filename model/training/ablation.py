"""Ablation: mmfCNN, its parts and its peers, trained alike on one protocol and compared.

    <folder>/<variant>-<seed>/     the bundle
    <folder>/<variant>-<seed>.npz  its scores on the test list and on composites, as log odds
    <folder>/ablation.json         settings stamp: the recipe that all of them share
    <folder>/table.json, table.md  their error rates

Existing runs are not repeated, so an ablation can be interrupted and extended.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from model.data.augmentation import Chances
from model.data.composites import PROTOCOLS, with_composites
from model.data.dataset import Dataset, load_dataset
from model.data.planes import MODALITIES
from model.errors import check_choice, check_whole
from model.evaluation.scoring import evidence
from model.network.blocks import count_parameters
from model.network.config import Fusion, Gate
from model.network.device import default_device
from model.runs.processes import processes
from model.runs.stamp import check_stamp
from model.serving.bundle import load_bundle
from model.training.ablation_table import SUM, markdown, read_run, rows_of, summed
from model.training.loss import AbcForm
from model.training.recipe import TrainingConfig, described
from model.training.training import train


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        views: inputs of the network.
        fusion: how they are combined.
        abc: form of the Average Binary Center loss.
        abc_scale: its factor b; None: as on record.
        gate: form of the gate, for a fusion that has one.
        matching: weight of the pairs' own loss, for a fusion that compares pairs; None: the
            recipe's.
    """

    views: tuple[str, ...] = MODALITIES
    fusion: Fusion = "multi"
    abc: AbcForm = "none"
    abc_scale: float | None = None
    gate: Gate = "paper"
    matching: float | None = None


VARIANTS: Mapping[str, Variant] = {
    "rgb": Variant(views=("rgb",), fusion="early"),
    "depth": Variant(views=("depth",), fusion="early"),
    "ir": Variant(views=("ir",), fusion="early"),
    "evidence": Variant(fusion="evidence"),
    "evidence-no-matching": Variant(fusion="evidence", matching=0.0),
    "evidence-stacked": Variant(fusion="stacked"),
    "heads": Variant(fusion="heads"),
    "mmfcnn-ce": Variant(),
    "mmfcnn-abc-0.001": Variant(abc="batch"),
    "mmfcnn-abc-0.1": Variant(abc="batch", abc_scale=0.1),
    "mmfcnn-abc-1": Variant(abc="batch", abc_scale=1.0),
    "mmfcnn-abc-centre": Variant(abc="centre"),
    "mmfcnn-released-gate": Variant(gate="released"),
    "gated-one-level": Variant(fusion="one"),
    "halfway-concat": Variant(fusion="halfway"),
    "early-concat": Variant(fusion="early"),
    "feathernet": Variant(fusion="feather"),
}
# Enough samples for error rates of a few per cent, unlike for a TPR@FPR=1e-4.
_LOST_SAMPLES = 3000


@dataclass(frozen=True)
class AblationConfig:
    """An ablation.

    Attributes:
        recipe: training of each network; network, loss, seed and bundle are replaced.
        test: list file on which all are compared.
        folder: of the runs.
        variants: names in `VARIANTS`.
        seeds: each variant is trained once with each of them.
        processes: number of networks trained in parallel.
        composites: protocols of `model.data.composites` that are added to the test list.
    """

    recipe: TrainingConfig
    test: Path
    folder: Path
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    processes: int = 1
    composites: tuple[str, ...] = tuple(PROTOCOLS)

    def __post_init__(self) -> None:
        """Refuse what can't be compared.

        Raises:
            SettingError: a field breaks its rule.
        """
        for name in self.composites:
            check_choice("composites", name, tuple(PROTOCOLS))
        for name in self.variants:
            check_choice("variants", name, tuple(VARIANTS))
        for seed in self.seeds:
            check_whole("seeds", seed, 0)
        check_whole("processes", self.processes, 1)


def ablate(config: AblationConfig) -> Iterator[str]:
    """Train and score the runs that are missing, yielding the name of each; then write the table.

    Raises:
        model.data.lists.ListError: a list file breaks a rule.
        model.runs.stamp.StampMismatch: the folder holds runs of another recipe.
        model.training.checkpoint.CheckpointError: an unfinished run was begun with other threads
            or another bf16.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    _check_recipe(config)
    todo = missing_runs(config)
    with processes(config.processes) as pool:
        runs = {pool.submit(run_variant, config, *each): each for each in todo}
        for done in as_completed(runs):
            done.result()
            yield "{}-{}".format(*runs[done])
    write_table(config)


def missing_runs(config: AblationConfig) -> list[tuple[str, int]]:
    """Return variant and seed of each run without scores, in the order in which they are trained.

    All variants of a seed come before the next seed: an interruption leaves a complete table of
    fewer seeds.
    """
    return [
        (name, seed)
        for seed in config.seeds
        for name in config.variants
        if not _scores_file(config, name, seed).exists()
    ]


def _check_recipe(config: AblationConfig) -> None:
    """Keep runs of different recipes out of one table; threads and bf16 are up to the machine."""
    recipe = described(config.recipe)
    for field in ("abc", "abc_scale", "matching", "seed", "threads", "bf16"):
        del recipe[field]
    settings = {"test": config.test.name, "composites": list(config.composites), **recipe}
    check_stamp(config.folder / "ablation.json", settings, "runs of another recipe")


def run_variant(config: AblationConfig, name: str, seed: int) -> None:
    """Train one variant with one seed, and write its scores on the test list."""
    # Read before hours of training, so that its errors show at once.
    test = _read_test(config.test, config.recipe.network.size, config.composites)
    variant, bundle = VARIANTS[name], config.folder / f"{name}-{seed}"
    recipe = replace(
        config.recipe,
        bundle=bundle,
        network=replace(
            config.recipe.network, views=variant.views, fusion=variant.fusion, gate=variant.gate
        ),
        abc=variant.abc,
        abc_scale=variant.abc_scale,
        matching=config.recipe.matching if variant.matching is None else variant.matching,
        seed=seed,
        chances=_chances(config.recipe.chances, variant),
    )
    if not bundle.exists():
        for _ in train(recipe, _read_once):
            pass
    network = load_bundle(bundle).network.to(default_device())
    odds = {"all": evidence(network, test, MODALITIES).sum(1)}
    if len(variant.views) > 1:
        few = test.thinned(max(1, len(test) // _LOST_SAMPLES))
        for lost in MODALITIES:
            kept = [each for each in MODALITIES if each != lost]
            odds[f"without-{lost}"] = evidence(network, few, kept).sum(1)
    partial = config.folder / f".{name}-{seed}.partial.npz"
    np.savez_compressed(
        partial,
        parameters=count_parameters(network),
        label=test.label,
        species=np.array(test.species),
        subjects=np.array(test.subjects or test.files),
        # As float32: half the bytes, and scores near 1 stay distinct.
        **{key: values.astype(np.float32) for key, values in odds.items()},
    )
    partial.replace(_scores_file(config, name, seed))


def _chances(chances: Chances, variant: Variant) -> Chances:
    """Return a recipe's chances; one plane alone can't be lost, nor be of another presentation."""
    if len(variant.views) > 1:
        return chances
    return replace(chances, dropout=0.0, blinding=0.0, composing=0.0)


@cache
def _read_test(path: Path, size: int, composites: tuple[str, ...]) -> Dataset:
    return with_composites(_read_once(path, size), composites)


@cache
def _read_once(path: Path, size: int) -> Dataset:
    """Return the samples of a list, which all runs in this process share."""
    return load_dataset(path, size)


def write_table(config: AblationConfig) -> list[dict[str, Any]]:
    """Write the table of the runs of all complete seeds, as JSON and Markdown; return its rows."""
    seeds = [
        seed
        for seed in config.seeds
        if all(_scores_file(config, name, seed).exists() for name in config.variants)
    ]
    runs = {
        name: [read_run(_scores_file(config, name, seed)) for seed in seeds]
        for name in config.variants
    }
    if seeds and set(MODALITIES) <= runs.keys():
        alone = zip(*(runs[name] for name in MODALITIES), strict=True)
        runs[SUM] = [summed(each) for each in alone]
    reference = SUM if SUM in runs else config.variants[0]
    rows = rows_of(runs, reference) if seeds else []
    (config.folder / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (config.folder / "table.md").write_text(markdown(rows), encoding="utf-8")
    return rows


def _scores_file(config: AblationConfig, name: str, seed: int) -> Path:
    return config.folder / f"{name}-{seed}.npz"
