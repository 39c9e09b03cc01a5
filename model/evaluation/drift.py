"""Evaluation of a site over time: do its frames still look as they did when it was calibrated?

`calibrate` keeps ten bins of the bona fide samples' log odds and quality figures in the bundle.
Later frames, most of which are of people at any working door, should fall into them alike.
How far they do not is their population stability index; a lamp, a lens or a camera's update moves
it long before error rates are known.

Source: Siddiqi, Credit Risk Scorecards, 2006, also for the limit; Yurdakul, Statistical properties
of population stability index, 2018, for what chance alone makes of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.dataset import Dataset
from model.data.planes import MODALITIES
from model.errors import ModelError
from model.evaluation.gates import quality_figures
from model.evaluation.scoring import log_odds, score
from model.network.device import default_device
from model.serving.bundle import Bundle

LIMIT = 0.25
_BINS = 10
_LEAST = 100
_SCORE = "log_odds"


class DriftError(ModelError):
    """Drift can't be told: the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a figure has moved.

    Attributes:
        index: population stability index, >= 0, less what chance alone makes on average.
        before: median when it was calibrated.
        now: median.
    """

    index: float
    before: float
    now: float

    @property
    def is_alarming(self) -> bool:
        """Whether it is above the limit."""
        return self.index > LIMIT


def reference_of(figures: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return what is kept of figures: bins of about a tenth each, and how many samples made them.

    Args:
        figures: values by name, of bona fide samples.
    """
    inner = np.arange(1, _BINS) / _BINS
    kept = {}
    for name, values in figures.items():
        if len(values) >= _LEAST:
            # Where many values are equal, deciles coincide, and a bin holds more than a tenth.
            edges = np.unique(np.round(np.quantile(values, inner), 5))
            kept[name] = {
                "edges": edges.tolist(),
                "shares": [round(float(each), 6) for each in _shares(values, edges)],
                "median": round(float(np.median(values)), 5),
                "samples": len(values),
            }
    return kept


def figures_of(scores: NDArray[np.float64], dataset: Dataset) -> dict[str, NDArray[np.float64]]:
    """Return log odds and quality figures of samples.

    Args:
        scores: (N,) with all modalities.
        dataset: the N samples.
    """
    found: dict[str, list[float]] = {}
    for each in quality_figures(dataset):
        for name, value in each.items():
            found.setdefault(name, []).append(value)
    return {_SCORE: log_odds(scores), **{name: np.array(each) for name, each in found.items()}}


def drift(bundle: Bundle, dataset: Dataset) -> dict[str, Drift]:
    """Return how far each figure of later frames is from when the bundle was calibrated.

    Args:
        bundle: calibrated for the site.
        dataset: frames of the site, nearly all of them of people.

    Raises:
        DriftError: the bundle keeps no figures, or there are too few frames.
    """
    kept = bundle.about.get("reference")
    if not isinstance(kept, Mapping) or not kept:
        raise DriftError(f"{bundle.name} keeps no figures of its site: calibrate it first")
    if len(dataset) < _LEAST:
        raise DriftError(f"{len(dataset)} samples can't show drift: it takes {_LEAST}")
    scores = score(bundle.network.to(default_device()), dataset, MODALITIES)
    now = figures_of(scores, dataset)
    return {name: moved(kept[name], now[name]) for name in kept if name in now}


def moved(reference: Mapping[str, Any], values: NDArray[np.float64]) -> Drift:
    """Return how far values have moved from a reference of `reference_of`."""
    expected = np.maximum(np.asarray(reference["shares"]), 0.5 / reference["samples"])
    # Half a sample where there is none: its logarithm would be infinite.
    shares = np.maximum(_shares(values, np.asarray(reference["edges"])), 0.5 / len(values))
    index = float(((shares - expected) * np.log(shares / expected)).sum())
    chance = (len(shares) - 1) * (1 / len(values) + 1 / reference["samples"])
    return Drift(max(0.0, index - chance), reference["median"], float(np.median(values)))


def _shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)
    return counts / len(values)


def table(found: Mapping[str, Drift]) -> str:
    """Return drift as text, the worst first; `*` marks an alarm."""
    wide = max(map(len, found))
    lines = [f"{'':{wide}} {'index':>7} {'before':>9} {'now':>9}"]
    for name, each in sorted(found.items(), key=lambda item: -item[1].index):
        mark = " *" if each.is_alarming else ""
        lines.append(f"{name:{wide}} {each.index:7.3f} {each.before:9.3f} {each.now:9.3f}{mark}")
    return "\n".join(lines)
