"""Evaluation of two bundles on one list: what differs, and whether it could be chance.

Both judge the same samples, and each replicate draws the same subjects for both, so what makes a
list hard or easy takes itself away: the interval is that of the difference.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset
from model.data.planes import MODALITIES
from model.evaluation.bootstrap import Estimate, Ranking, Subjects, Weights, interval
from model.evaluation.evaluation import FPRS
from model.evaluation.metrics import refuse_swapped
from model.evaluation.scoring import score
from model.network.device import default_device
from model.runs.progress import Advance, ignore
from model.serving.bundle import Bundle

_Figure = Callable[[Weights], float]


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of two bundles.

    Attributes:
        first: of the first one.
        second: of the second one.
        gain: second less first, with its paired interval.
    """

    first: float
    second: float
    gain: Estimate

    @property
    def is_shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.gain.low > 0 or self.gain.high < 0


def compare(
    first: Bundle, second: Bundle, datasets: tuple[Dataset, Dataset], advance: Advance = ignore
) -> dict[str, Difference]:
    """Return the figures of two bundles on the same samples, with all modalities.

    Args:
        first: a bundle.
        second: another one.
        datasets: the same list, read for the size of each.
        advance: called with the amount of work done, in bundles.

    Raises:
        model.evaluation.scoring.DepthKindMismatch: the depth is of another kind than a network's.
        model.evaluation.metrics.MetricError: a class is empty, or the classes are swapped.
    """
    figures = []
    for bundle, dataset in zip((first, second), datasets, strict=True):
        scores = score(bundle.network.to(default_device()), dataset, MODALITIES, advance)
        refuse_swapped(scores, dataset.label)
        figures.append(_figures(scores, dataset, bundle.threshold_for(MODALITIES)))
    subjects = Subjects(datasets[0].subjects or datasets[0].files)
    return paired(figures[0], figures[1], subjects)


def paired(
    first: Mapping[str, _Figure], second: Mapping[str, _Figure], subjects: Subjects
) -> dict[str, Difference]:
    """Return the difference of each figure that both have."""
    weights = [draw[subjects.of_sample] for draw in subjects.draws]
    whole = np.ones(len(subjects.of_sample))
    found = {}
    for name in (name for name in first if name in second):
        one, other = first[name], second[name]
        drawn = np.array([other(each) - one(each) for each in weights])
        values = one(whole), other(whole)
        found[name] = Difference(*values, interval(values[1] - values[0], drawn))
    return found


def table(found: Mapping[str, Difference]) -> str:
    """Return differences as text, a figure a line; `*` marks what is more than chance."""
    wide = max(map(len, found))
    lines = [f"{'':{wide}} {'first':>9} {'second':>9} {'gain':>9}  95 % interval, by subject"]
    for name, each in found.items():
        gain = each.gain
        lines.append(
            f"{name:{wide}} {each.first:9.3%} {each.second:9.3%} {gain.value:+9.3%}  "
            f"{gain.low:+.3%} to {gain.high:+.3%}{' *' if each.is_shown else ''}"
        )
    return "\n".join(lines)


def _figures(
    scores: NDArray[np.float64], dataset: Dataset, threshold: float | None
) -> dict[str, _Figure]:
    is_bona_fide, names = dataset.label == 1, np.array(dataset.species)
    ranking, attacks = Ranking(scores, is_bona_fide), int((dataset.label == 0).sum())

    def share(is_counted: NDArray[np.bool_], is_trial: NDArray[np.bool_]) -> _Figure:
        def figure(weights: Weights) -> float:
            total = weights[is_trial].sum()
            return float(weights[is_counted & is_trial].sum() / total) if total else np.nan

        return figure

    def refused(fpr: float) -> _Figure:
        def figure(weights: Weights) -> float:
            accepted = scores >= ranking.threshold(weights, fpr)
            return share(~accepted, is_bona_fide)(weights)

        return figure

    found: dict[str, _Figure] = {"EER": ranking.equal_error}
    found |= {
        f"BPCER@FPR={fpr:.0e}": refused(fpr) for fpr, least in FPRS.items() if attacks >= least
    }
    if threshold is not None:
        accepted = scores >= threshold
        found["BPCER"] = share(~accepted, is_bona_fide)
        found |= {
            f"APCER {name}": share(accepted, names == name)
            for name in sorted(set(dataset.species) - {"bona_fide"})
        }
    return found
