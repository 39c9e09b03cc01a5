"""Ablation: mmfCNN, its parts and its peers, trained alike on one protocol and compared.

    <folder>/<variant>-<seed>/     the bundle
    <folder>/<variant>-<seed>.npz  its scores on the test list, as log odds
    <folder>/ablation.json         settings stamp: the recipe that all of them share
    <folder>/table.json, table.md  their error rates

Existing runs are not repeated, so an ablation can be interrupted and extended.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset, load_dataset
from model.data.planes import MODALITIES
from model.errors import check_choice, check_whole
from model.evaluation.evaluation import FPRS
from model.evaluation.metrics import bpcer_at_apcer, equal_error, judge, tpr_at_fpr
from model.evaluation.scoring import score
from model.network.blocks import count_parameters
from model.network.config import Fusion, Gate
from model.network.device import default_device
from model.runs.processes import processes
from model.runs.stamp import check_stamp
from model.serving.bundle import load_bundle
from model.training.loss import AbcForm
from model.training.training import TrainingConfig, described, train


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        views: inputs of the network.
        fusion: how they are combined.
        abc: form of the Average Binary Center loss.
        gate: form of the gate, for a fusion that has one.
    """

    views: tuple[str, ...] = MODALITIES
    fusion: Fusion = "multi"
    abc: AbcForm = "none"
    gate: Gate = "paper"


VARIANTS: Mapping[str, Variant] = {
    "rgb": Variant(views=("rgb",), fusion="early"),
    "depth": Variant(views=("depth",), fusion="early"),
    "ir": Variant(views=("ir",), fusion="early"),
    "early-concat": Variant(fusion="early"),
    "halfway-concat": Variant(fusion="halfway"),
    "feathernet": Variant(fusion="feather"),
    "gated-one-level": Variant(fusion="one"),
    "mmfcnn-ce": Variant(),
    "mmfcnn-abc-batch": Variant(abc="batch"),
    "mmfcnn-abc-centre": Variant(abc="centre"),
    "mmfcnn-released-gate": Variant(abc="batch", gate="released"),
}
# Not trained: the mean score of the three variants that are named after their one modality.
LATE = "late-average"
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
    """

    recipe: TrainingConfig
    test: Path
    folder: Path
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: tuple[int, ...] = (0, 1, 2)
    processes: int = 1

    def __post_init__(self) -> None:
        """Refuse what can't be compared.

        Raises:
            SettingError: a field breaks its rule.
        """
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
    for field in ("abc", "seed", "threads", "bf16"):
        del recipe[field]
    settings = {"test": config.test.name, **recipe}
    check_stamp(config.folder / "ablation.json", settings, "runs of another recipe")


def run_variant(config: AblationConfig, name: str, seed: int) -> None:
    """Train one variant with one seed, and write its scores on the test list."""
    # Read before hours of training, so that its errors show at once.
    test = _read_once(config.test, config.recipe.network.size)
    variant, bundle = VARIANTS[name], config.folder / f"{name}-{seed}"
    shape = replace(
        config.recipe.network, views=variant.views, fusion=variant.fusion, gate=variant.gate
    )
    chances = config.recipe.chances
    if len(variant.views) == 1:
        chances = replace(chances, dropout=0.0, blinding=0.0)
    recipe = replace(
        config.recipe,
        bundle=bundle,
        network=shape,
        abc=variant.abc,
        seed=seed,
        chances=chances,
    )
    if not bundle.exists():
        for _ in train(recipe, _read_once):
            pass
    network = load_bundle(bundle).network.to(default_device())
    scores = {"all": score(network, test, MODALITIES)}
    if len(variant.views) > 1:
        few = test.thinned(max(1, len(test) // _LOST_SAMPLES))
        for lost in MODALITIES:
            kept = [each for each in MODALITIES if each != lost]
            scores[f"without-{lost}"] = score(network, few, kept)
    partial = config.folder / f".{name}-{seed}.partial.npz"
    np.savez_compressed(
        partial,
        parameters=count_parameters(network),
        label=test.label,
        species=np.array(test.species),
        **{key: _log_odds(values) for key, values in scores.items()},  # type: ignore[arg-type]
    )
    partial.replace(_scores_file(config, name, seed))


@cache
def _read_once(path: Path, size: int) -> Dataset:
    """Return the samples of a list, which all runs in this process share."""
    return load_dataset(path, size)


def write_table(config: AblationConfig) -> list[dict[str, Any]]:
    """Write the table of all finished runs, as JSON and Markdown, and return its rows."""
    rows = []
    for name in (*config.variants, LATE):
        runs = [run for seed in config.seeds if (run := _run(config, name, seed)) is not None]
        if runs:
            rows.append({"variant": name, "seeds": len(runs), **_spread(runs)})
    (config.folder / "table.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (config.folder / "table.md").write_text(_markdown(rows), encoding="utf-8")
    return rows


def _run(config: AblationConfig, name: str, seed: int) -> dict[str, float] | None:
    names = MODALITIES if name == LATE else (name,)
    files = [_scores_file(config, each, seed) for each in names]
    if not all(file.exists() for file in files):
        return None
    arrays = []
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            arrays.append({key: _unpacked(key, archive[key]) for key in archive.files})
    if name == LATE:
        alone = np.stack([each["all"] for each in arrays])
        scores = {"all": alone.mean(axis=0)}
        for index, lost in enumerate(MODALITIES):
            scores[f"without-{lost}"] = np.delete(alone, index, axis=0).mean(axis=0)
    else:
        (run,) = arrays
        scores = {key: run[key] for key in run if _is_scores(key)}
    label, species = arrays[0]["label"], tuple(arrays[0]["species"].tolist())
    parameters = float(sum(int(each["parameters"]) for each in arrays))
    return {"parameters": parameters, **_figures(scores, label, species)}


def _log_odds(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return log odds as float32: half the bytes, and scores near 1 stay distinct."""
    inside = np.clip(scores, 1e-15, 1 - 1e-15)
    return (np.log(inside) - np.log1p(-inside)).astype(np.float32)


def _unpacked(key: str, values: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-values.astype(np.float64))) if _is_scores(key) else values


def _is_scores(key: str) -> bool:
    return key == "all" or key.startswith("without-")


def _figures(
    scores: Mapping[str, NDArray[np.float64]], label: NDArray[np.int64], species: Sequence[str]
) -> dict[str, float]:
    """Return the error rates; ACER is at the equal error threshold, whatever the calibration."""
    attacks = int((label == 0).sum())
    rates = {
        f"TPR@{fpr:.0e}": tpr_at_fpr(scores["all"], label, fpr)[0].value
        for fpr, needed in FPRS.items()
        if attacks >= needed
    }
    acers = {}
    for key, values in scores.items():
        every = -(-len(label) // len(values))  # rates without a modality are of fewer samples
        rate, threshold = equal_error(values, label[::every])
        acers[f"EER {key}"] = rate
        acers[f"ACER {key}"] = judge(values, species[::every], threshold).acer
    bpcer20 = bpcer_at_apcer(scores["all"], species, 0.05)[0].value
    return {**rates, "BPCER20": bpcer20, **acers}


def _spread(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return each figure's mean, minimum and maximum over the seeds."""
    spread = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        spread[key] = {
            "mean": round(float(np.mean(values)), 6),
            "least": round(min(values), 6),
            "most": round(max(values), 6),
        }
    return spread


def _markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    rates = [key for key in rows[0] if key.startswith("TPR@")] if rows else []
    titles = ["variant", "seeds", "parameters", *rates, "EER", "ACER", "ACER, worst loss of one"]
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    for row in rows:
        lost = [row[key]["mean"] for key in row if key.startswith("ACER without-")]
        cells = [row["variant"], str(row["seeds"]), f"{row['parameters']['mean'] / 1e6:.2f} M"]
        cells += [_cell(row[key]) for key in (*rates, "EER all", "ACER all")]
        cells.append(f"{max(lost):.2%}" if lost else "")
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)


def _cell(spread: Mapping[str, float]) -> str:
    return f"{spread['mean']:.2%} ({spread['least']:.2%} to {spread['most']:.2%})"


def _scores_file(config: AblationConfig, name: str, seed: int) -> Path:
    return config.folder / f"{name}-{seed}.npz"
