"""A replica whose network decides by brightness, and can be ended by a frame.

    python -m tests.faults.replica SETTINGS NAME

The rest of it is `loadtest.replica`.
"""

import os
import random
import signal
import time
from collections.abc import Sequence

import numpy as np

from loadtest.replica import main
from model.data.planes import SUBSETS, Planes
from model.serving.predictor import Prediction
from workers.testing import ConstantPredictor

POISON, ATTACK, BONA_FIDE = 7, 60, 200  # the value of all pixels of a frame


class ByBrightness(ConstantPredictor):
    """Bright frames are bona fide, dark ones are not, and one value ends the process."""

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        values = [float(np.asarray(each.rgb).mean()) for each in planes]
        if any(abs(value - POISON) < 1 for value in values):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(random.uniform(0, 0.04))  # so that faults meet frames in every step
        scores = np.array([0.9 if value > 128 else 0.1 for value in values], np.float32)
        return Prediction(scores, np.zeros((len(planes), len(SUBSETS)), np.float32))


if __name__ == "__main__":
    main(lambda settings: ByBrightness(max_batch=settings.max_batch))
