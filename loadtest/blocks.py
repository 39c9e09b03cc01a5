"""Latencies of some seconds as counts by bin, each 1 % wide: few enough to be kept in a result."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

BLOCK_S = 5.0
FIRST_MS, RATIO = 0.05, 1.01

Block = Mapping[str, int]


def block_of(latencies_ms: NDArray[np.float32]) -> dict[str, int]:
    """Return latencies as counts by bin: the number of a bin, as text, to how many are in it."""
    steps = np.log(np.maximum(latencies_ms, FIRST_MS) / FIRST_MS) / np.log(RATIO)
    bins, counts = np.unique(np.rint(steps).astype(int), return_counts=True)
    return {str(each): int(count) for each, count in zip(bins, counts, strict=True)}
