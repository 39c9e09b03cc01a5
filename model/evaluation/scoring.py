"""Evaluation starts here: the bona fide scores that a network gives the samples of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Dataset, batches
from model.data.planes import MODALITIES, SUBSETS, collate
from model.data.tensors import PlaneTensors, tensors
from model.errors import ModelError
from model.evaluation.metrics import MetricError
from model.network.config import NetworkConfig
from model.network.mmfcnn import FusionNetwork
from model.runs.progress import Advance, ignore

_BATCH = 64


class DepthKindMismatch(ModelError):
    """The data set's depth is in another unit than the network takes."""


@dataclass(frozen=True, slots=True)
class Jitter:
    """How far each sample's face box is moved before it is judged, at random.

    Attributes:
        shift: at most, as a part of the box's side.
        zoom: by which the box is scaled at most.
        seed: of the moves.
    """

    shift: float = 0.0
    zoom: float = 0.0
    seed: int = 0


def check_depth_kind(config: NetworkConfig, dataset: Dataset) -> None:
    """Return if the network can take the data set's depth, or does not look at depth.

    Raises:
        DepthKindMismatch: it would read millimetres as grey values, or the other way round.
    """
    if "depth" in config.views and dataset.depth_kind != config.depth_kind:
        raise DepthKindMismatch(
            f"{dataset.where[0]}: the list's depth is {dataset.depth_kind}, a network of depth "
            f"mode {config.depth_mode} takes {config.depth_kind}: use a network of the other depth "
            "mode, or data of the other kind"
        )


def score(
    network: FusionNetwork,
    dataset: Dataset,
    modalities: Sequence[str],
    advance: Advance = ignore,
    jitter: Jitter | None = None,
) -> NDArray[np.float64]:
    """Return the bona fide scores of a data set when only some modalities are there.

    Args:
        network: is put into evaluation mode.
        dataset: N samples.
        modalities: some of `model.data.planes.MODALITIES`.
        advance: called with parts of the whole, 1 in total.
        jitter: of the face boxes; None: they are as the list says.

    Returns:
        (N,) float64 in [0, 1].

    Raises:
        ValueError: the data set was read for a network of another size.
        DepthKindMismatch: the data set's depth is of another kind than the network takes.
        model.evaluation.metrics.MetricError: a score is not a number.
    """
    return from_log_odds(evidence(network, dataset, modalities, advance, jitter).sum(1))


def score_all_sets(
    network: FusionNetwork,
    dataset: Dataset,
    advance: Advance = ignore,
    jitter: Jitter | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Return the scores for each set of modalities, keyed by names such as `rgb+ir`.

    Of additive evidence one run tells all of them; other networks run once a set.

    Args:
        network: see `score`, which also says what is raised.
        dataset: N samples.
        advance: called with the amount of work done, in sets, 7 in total.
        jitter: of the face boxes.
    """
    if not network.is_additive:
        return {
            "+".join(names): score(network, dataset, names, advance, jitter) for names in SUBSETS
        }
    found = evidence(network, dataset, MODALITIES, lambda part: advance(7 * part), jitter)
    return {
        "+".join(names): from_log_odds(
            found[:, [at for at, each in enumerate(SUBSETS) if set(each) <= set(names)]].sum(1)
        )
        for names in SUBSETS
    }


def evidence(
    network: FusionNetwork,
    dataset: Dataset,
    modalities: Sequence[str],
    advance: Advance = ignore,
    jitter: Jitter | None = None,
) -> NDArray[np.float64]:
    """Return log odds by what they rest on, (N, 7); see `Output.evidence`, and `score` for more."""
    if dataset.size != network.config.size:
        raise ValueError(f"the network takes {network.config.size} px, not {dataset.size} px")
    check_depth_kind(network.config, dataset)
    network.eval()
    kept = torch.tensor([name in modalities for name in MODALITIES])
    rng = np.random.default_rng(jitter.seed if jitter else 0)
    parts = []
    with torch.inference_mode():
        for rows in batches(len(dataset), _BATCH):
            stored = dataset.batch(rows) if jitter is None else _moved(dataset, rows, jitter, rng)
            stored = stored._replace(present=stored.present & kept)
            parts.append(network(stored.to(network.device)).evidence.double().cpu().numpy())
            advance(len(rows) / len(dataset))
    found = np.concatenate(parts)
    for row in np.flatnonzero(~np.isfinite(found).all(1)):
        name = f"{dataset.where[row]}: {dataset.files[row]}"
        raise MetricError(f"{name}: the network's score is {found[row].sum()}")
    return found


def from_log_odds(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores in [0, 1]."""
    scores: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return scores


def log_odds(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log odds of scores; those of 0 and 1 are about 35."""
    inside = np.clip(scores, 1e-15, 1 - 1e-15)
    odds: NDArray[np.float64] = np.log(inside) - np.log1p(-inside)
    return odds


def _moved(
    dataset: Dataset, rows: NDArray[np.int64], jitter: Jitter, rng: np.random.Generator
) -> PlaneTensors:
    faces = []
    for row in rows:
        moved = rng.uniform(-jitter.shift, jitter.shift, 2).tolist()
        zoom = 1 + rng.uniform(-jitter.zoom, jitter.zoom)
        faces.append(dataset.window(int(row), moved, zoom, dataset.face(int(row))))
    return tensors(collate(faces))
