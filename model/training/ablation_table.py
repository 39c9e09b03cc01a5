"""Ablation in figures: the scores of all runs, compared by subject and by seed.

Each figure is a mean over seeds. Its interval, and that of its difference from the reference, come
from replicates that draw subjects and seeds again, the same ones for both. A difference whose
interval leaves out 0 is marked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.composites import PROTOCOLS
from model.data.planes import MODALITIES
from model.evaluation.bootstrap import Ranking, Subjects, interval
from model.evaluation.evaluation import FPRS

# Not trained: the sum of the log odds of the three variants that are named after their modality.
SUM = "sum-of-log-odds"
_REPLICATES = 200

Figure = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True, eq=False)
class Run:
    """The scores of one trained network.

    Attributes:
        parameters: number of its weights.
        label: (N,) int64, 1 = bona fide.
        species: (N,) names.
        subjects: (N,) names.
        odds: (N,) float64 log odds with all modalities (`all`), and of every few samples without
            one (`without-rgb`).
    """

    parameters: int
    label: NDArray[np.int64]
    species: NDArray[np.str_]
    subjects: NDArray[np.str_]
    odds: Mapping[str, NDArray[np.float64]]


def read_run(file: Path) -> Run:
    """Read what `model.training.ablation.run_variant` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        odds = {
            key: archive[key].astype(np.float64)
            for key in archive.files
            if key == "all" or key.startswith("without-")
        }
        return Run(
            int(archive["parameters"]),
            archive["label"],
            archive["species"],
            archive["subjects"],
            odds,
        )


def summed(runs: Sequence[Run]) -> Run:
    """Return the run of single networks, one a modality, whose log odds are added."""
    first = runs[0]
    alone = np.stack([run.odds["all"] for run in runs])
    odds = {"all": alone.sum(0)}
    for at, lost in enumerate(MODALITIES):
        odds[f"without-{lost}"] = np.delete(alone, at, axis=0).sum(0)
    return Run(
        sum(run.parameters for run in runs), first.label, first.species, first.subjects, odds
    )


def rows_of(
    runs: Mapping[str, Sequence[Run]], reference: str, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the figures of each variant.

    Args:
        runs: of each variant, one a seed, seeds in the same order for all.
        reference: the variant that the others are compared with.
        seed: of the draws.
    """
    some = next(iter(runs.values()))[0]
    subjects = Subjects(some.subjects.tolist(), _REPLICATES, seed)
    rng = np.random.default_rng([seed, 1])
    figures = {name: [_figures(run) for run in each] for name, each in runs.items()}
    count = min(map(len, figures.values()))
    seeds = rng.integers(0, count, (_REPLICATES, count))
    drawn = {
        name: {key: _drawn([each[key] for each in of], subjects, seeds) for key in of[0]}
        for name, of in figures.items()
    }
    rows = []
    for name, of in figures.items():
        row: dict[str, Any] = {
            "variant": name,
            "seeds": len(of),
            "parameters": runs[name][0].parameters,
        }
        for key in of[0]:
            value, replicates = drawn[name][key]
            row[key] = interval(value, replicates).rounded()
            if name != reference and key in drawn.get(reference, {}):
                base, others = drawn[reference][key]
                row[f"gain {key}"] = interval(value - base, replicates - others).rounded()
        rows.append(row)
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as text; `*` marks what differs from the reference by more than chance."""
    keys = list(dict.fromkeys(key for row in rows for key in row if isinstance(row[key], dict)))
    keys = [key for key in keys if not key.startswith("gain ")]
    titles = ["variant", "seeds", "parameters", *keys]
    lines = [" | ".join(titles), " | ".join("---" for _ in titles)]
    for row in rows:
        cells = [row["variant"], str(row["seeds"]), f"{row['parameters'] / 1e6:.2f} M"]
        cells += [_cell(row, key) for key in keys]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)


def _cell(row: Mapping[str, Any], key: str) -> str:
    if key not in row:
        return ""
    low, high = row[key]["interval"]
    gain = row.get(f"gain {key}", {"interval": [0, 0]})["interval"]
    mark = " *" if gain[0] > 0 or gain[1] < 0 else ""
    return f"{row[key]['rate']:.2%} ({low:.2%} to {high:.2%}){mark}"


def _figures(run: Run) -> dict[str, Figure]:
    """Return the figures of a run: of what is listed, and of each protocol of composites."""
    made = {name for names in PROTOCOLS.values() for name in names}
    is_listed = ~np.isin(run.species, list(made))
    found: dict[str, Figure] = {}
    attacks = int((is_listed & (run.label == 0)).sum())
    for fpr, needed in FPRS.items():
        if attacks >= needed:
            found[f"BPCER@FPR={fpr:.0e}"] = _refused(run, is_listed, fpr)
    found["EER"] = _equal_error(run, "all", is_listed)
    for protocol, names in PROTOCOLS.items():
        is_made = np.isin(run.species, names)
        if is_made.any():
            found[f"EER {protocol}"] = _equal_error(run, "all", is_made | (run.label == 1))
    for key in run.odds:
        if key != "all":
            found[f"EER {key}"] = _equal_error(run, key, is_listed)
    return found


def _equal_error(run: Run, key: str, is_used: NDArray[np.bool_]) -> Figure:
    # Scores without a modality are of every few samples.
    every = -(-len(run.label) // len(run.odds[key]))
    rows = np.flatnonzero(is_used[::every])
    ranking = Ranking(run.odds[key][rows], run.label[::every][rows] == 1)
    return lambda weights: ranking.equal_error(weights[::every][rows])


def _refused(run: Run, is_used: NDArray[np.bool_], fpr: float) -> Figure:
    rows = np.flatnonzero(is_used)
    odds, is_bona_fide = run.odds["all"][rows], run.label[rows] == 1
    ranking = Ranking(odds, is_bona_fide)

    def figure(weights: NDArray[np.float64]) -> float:
        counted = weights[rows]
        refused = odds[is_bona_fide] < ranking.threshold(counted, fpr)
        bona_fide = counted[is_bona_fide]
        return float(bona_fide[refused].sum() / bona_fide.sum())

    return figure


def _drawn(
    figures: Sequence[Figure], subjects: Subjects, seeds: NDArray[np.int64]
) -> tuple[float, NDArray[np.float64]]:
    """Return a figure's mean over seeds, and that of each replicate."""
    whole = np.ones(len(subjects.of_sample))
    replicates = []
    for draw, chosen in zip(subjects.draws, seeds, strict=True):
        weights = draw[subjects.of_sample]
        replicates.append(np.mean([figures[at](weights) for at in chosen]))
    return float(np.mean([figure(whole) for figure in figures])), np.array(replicates)
