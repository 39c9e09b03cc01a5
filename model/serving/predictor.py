"""What a worker needs of a model: the seam between the science and the service.

`model.serving.engine.Engine` is the real one. This module does not load torch, so that a process
which only names these types starts at once.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.data.planes import Planes
from model.data.quality import QualityLimits


class Prediction(NamedTuple):
    """What the network says of a batch.

    Attributes:
        scores: (B,) float32 in [0, 1], bona fide score: higher is more bona fide.
        shares: (B, 3) float32, weight of each of `model.data.planes.MODALITIES`, rows sum to 1.
    """

    scores: NDArray[np.float32]
    shares: NDArray[np.float32]


class Predictor(Protocol):
    """What a worker needs of a model.

    Attributes:
        model_id: name and hash prefix.
        size: side of the planes that `predict` takes, px.
        crop_margin: for `model.data.planes.crop_planes`.
        quality: what a face must reach to be judged.
        max_batch: largest number of faces in one call.
    """

    model_id: str
    size: int
    crop_margin: float
    quality: QualityLimits
    max_batch: int

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the threshold for frames with `modalities`; None: not calibrated for them."""
        ...

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Score 1 to `max_batch` faces, `size` px each; not to be called twice at a time."""
        ...
