"""Distributions of what a run measures: HdrHistogram, in bounded memory however long it is."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

# Microseconds, so that an hour and a tenth of a millisecond fit with three significant digits.
_MOST_US = 3_600_000_000
_PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0)


class Distribution:
    """Durations, recorded in batches and told in milliseconds."""

    def __init__(self, encoded: str = "") -> None:
        """Begin empty, or with what `encode` returned."""
        self._of = HdrHistogram(1, _MOST_US, 3)
        if encoded:
            self._of.decode_and_add(encoded)

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._of.get_total_count())

    def add(self, values_ms: NDArray[np.float64] | Iterable[float]) -> None:
        """Record durations, ms; a negative one, of a clock that was set, counts as none at all."""
        values = np.asarray(values_ms, np.float64)
        if not values.size:
            return
        us = np.clip(np.rint(values * 1000), 1, _MOST_US)
        # Three significant digits are what the histogram keeps: equal ones are recorded at once.
        digits = np.maximum(np.floor(np.log10(us)) - 3, 0)
        rounded = np.rint(us / 10**digits) * 10**digits
        for value, count in zip(
            *np.unique(rounded.astype(np.int64), return_counts=True), strict=True
        ):
            self._of.record_value(min(int(value), _MOST_US), int(count))

    def merge(self, other: "Distribution") -> None:
        """Add what another one has recorded."""
        self._of.add(other._of)

    def at(self, percent: float) -> float | None:
        """Return a percentile, ms; None of nothing."""
        return float(self._of.get_value_at_percentile(percent)) / 1000 if self.count else None

    def above(self, limit_ms: float) -> int:
        """Return how many are above a limit, to the histogram's precision."""
        limit_us = limit_ms * 1000
        return sum(
            int(each.count_at_value_iterated_to)
            for each in self._of.get_recorded_iterator()
            if each.value_iterated_to > limit_us * 1.001
        )

    def curve(self) -> list[tuple[float, float]]:
        """Return (percentile, ms) as HdrHistogram plots are drawn: 10 steps each halving."""
        return [
            (float(each.percentile_level_iterated_to), float(each.value_iterated_to) / 1000)
            for each in self._of.get_percentile_iterator(10)
        ]

    def summary(self) -> dict[str, float | int | None]:
        """Return count, mean and percentiles, ms, for JSON."""
        told: dict[str, float | int | None] = {"count": self.count}
        told["mean"] = round(float(self._of.get_mean_value()) / 1000, 3) if self.count else None
        for percent in _PERCENTILES:
            value = self.at(percent)
            told["max" if percent == 100 else f"p{percent:g}"] = (
                None if value is None else round(value, 3)
            )
        return told

    def encode(self) -> str:
        """Return all of it in HdrHistogram's own format (V2, base64), which its tools read."""
        return str(self._of.encode().decode())


def percentile(values: NDArray[Any] | Sequence[float], percent: float) -> float | None:
    """Return a percentile of a few values; None of none."""
    return round(float(np.percentile(values, percent)), 2) if len(values) else None
