"""Evaluation starts here: the bona fide scores that a network gives the samples of a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Dataset, batches
from model.data.planes import MODALITIES
from model.errors import ModelError
from model.evaluation.metrics import MetricError
from model.network.mmfcnn import BONA_FIDE, FusionNetwork, NetworkConfig
from model.runs.progress import Advance, ignore

_BATCH = 64


class DepthKindMismatch(ModelError):
    """The data set's depth is in another unit than the network takes."""


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
) -> NDArray[np.float64]:
    """Return the bona fide scores of a data set when only some modalities are there.

    Args:
        network: is put into evaluation mode.
        dataset: N samples.
        modalities: some of `model.data.planes.MODALITIES`.
        advance: called with parts of the whole, 1 in total.

    Returns:
        (N,) float64 in [0, 1].

    Raises:
        ValueError: the data set was read for a network of another size.
        DepthKindMismatch: the data set's depth is of another kind than the network takes.
        model.evaluation.metrics.MetricError: a score is not a number.
    """
    if dataset.size != network.config.size:
        raise ValueError(f"the network takes {network.config.size} px, not {dataset.size} px")
    check_depth_kind(network.config, dataset)
    network.eval()
    kept = torch.tensor([name in modalities for name in MODALITIES])
    scores = []
    with torch.inference_mode():
        for rows in batches(len(dataset), _BATCH):
            stored = dataset.batch(rows)
            stored = stored._replace(present=stored.present & kept)
            output = network(stored.to(network.device))
            scores.append(output.logits.double().softmax(1)[:, BONA_FIDE].cpu().numpy())
            advance(len(rows) / len(dataset))
    found = np.concatenate(scores)
    for row in np.flatnonzero(~np.isfinite(found)):
        name = f"{dataset.where[row]}: {dataset.files[row]}"
        raise MetricError(f"{name}: the network's score is {found[row]}")
    return found
