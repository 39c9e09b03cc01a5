"""The predictor: all that a worker knows of a model.

`model.serving.engine.Engine` implements it. This module does not import torch, so that a process
that only needs these types starts quickly.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.planes import SUBSETS, DepthKind, Planes
from model.data.quality import QualityLimits
from model.serving.presentations import ErrorRates

_SUBSET_NAMES = tuple(map("+".join, SUBSETS))


class Prediction(NamedTuple):
    """Output of the network for a batch.

    Attributes:
        scores: (B,) float32 in [0, 1], bona fide scores: higher is more bona fide.
        evidence: (B, 7) float32, log odds of bona fide by what they rest on, in the order of
            `model.data.planes.SUBSETS`; rows sum to the log odds of the score.
    """

    scores: NDArray[np.float32]
    evidence: NDArray[np.float32]

    def evidence_of(self, row: int) -> dict[str, float]:
        """Return a face's evidence by modalities, such as `depth` or `rgb+ir`, where there is any.

        Losing a modality takes away what rests on it, alone and with others, and nothing else.
        """
        return {
            names: round(odds, 4)
            for names, odds in zip(_SUBSET_NAMES, self.evidence[row].tolist(), strict=True)
            if odds
        }


class Predictor(Protocol):
    """What a worker may ask of a model.

    Attributes:
        model_id: name and the first 12 digits of the bundle's digest.
        size: side of the planes that `predict` takes, px.
        crop_margin: for `model.data.planes.crop_planes`, [0, 1].
        quality: limits of the quality gates.
        depth_kind: what the depth values must stand for; others would be misread.
        max_batch: largest number of faces in one call.
    """

    model_id: str
    size: int
    crop_margin: float
    quality: QualityLimits
    depth_kind: DepthKind
    max_batch: int

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the threshold for frames that have `modalities`; None: no decision is made."""
        ...

    def error_rates(self, modalities: Sequence[str]) -> ErrorRates:
        """Return how often that threshold is wrong, at most."""
        ...

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Score 1 to `max_batch` faces of `size` px; calls must not overlap."""
        ...


def is_bona_fide(score: float, threshold: float | None) -> bool:
    """Say whether a face is accepted: its score is at or above the threshold, and there is one.

    A NaN compares false and so never opens a door.
    """
    return threshold is not None and score >= threshold
