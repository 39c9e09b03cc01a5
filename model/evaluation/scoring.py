"""Evaluation starts here: the bona fide scores that a network gives the samples of a data set."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.dataset import Dataset, batches
from model.data.planes import MODALITIES
from model.evaluation.metrics import MetricError
from model.network.mmfcnn import BONA_FIDE, FusionNetwork

_BATCH = 64


def score(
    network: FusionNetwork, dataset: Dataset, modalities: Sequence[str]
) -> NDArray[np.float64]:
    """Return the (N,) bona fide scores of a data set seen with some modalities only.

    Raises:
        ValueError: the data set was read for a network of another size.
        model.evaluation.metrics.MetricError: a score is not a number.
    """
    if dataset.size != network.config.size:
        raise ValueError(f"the network takes {network.config.size} px, not {dataset.size} px")
    network.eval()
    kept = torch.tensor([name in modalities for name in MODALITIES])
    scores = []
    with torch.inference_mode():
        for rows in batches(len(dataset), _BATCH):
            stored = dataset.batch(rows)
            stored = stored._replace(present=stored.present & kept)
            output = network(stored.to(network.device))
            scores.append(output.logits.double().softmax(1)[:, BONA_FIDE].cpu().numpy())
    found = np.concatenate(scores)
    for row in np.flatnonzero(~np.isfinite(found)):
        name = f"{dataset.where[row]}: {dataset.files[row]}"
        raise MetricError(f"{name}: the network's score is {found[row]}")
    return found
