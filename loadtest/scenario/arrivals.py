"""When frames are meant to be sent: a rate over time, and how arrivals are spaced under it.

All of it is open loop: nothing that the deployment does changes when the next frame is due.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, field_validator

from loadtest.errors import LoadtestError
from loadtest.scenario.quantities import Seconds
from workers.settings import Settings

Rate = Annotated[float, Field(gt=0, le=10_000_000)]
Times = NDArray[np.float64]
_STEP_S = 0.05
_WINDOW_S = 5.0


class TraceError(LoadtestError):
    """A recorded trace can't be replayed; the message names file, line and rule."""


class _Shape(Settings):
    """What all shapes share.

    Attributes:
        fps: frames a second of the whole fleet; of a shape with a peak, outside it.
        spacing: `even`: as a clock ticks; `poisson`: as people come who don't know each other.
    """

    fps: Rate
    spacing: Literal["even", "poisson"] = "poisson"

    def scaled(self, by_rate: float, by_time: float) -> "_Shape":
        """Return this shape with all rates and all times multiplied."""
        changes: dict[str, Any] = {}
        for name, value in self:
            if name == "fps" or name.endswith("_fps"):
                changes[name] = (
                    [each * by_rate for each in value]
                    if isinstance(value, list)
                    else (value * by_rate)
                )
            elif name in _TIMES:
                changes[name] = value * by_time
        return self.model_copy(update=changes)

    def rate(self, at_s: Times) -> Times:
        """Return frames a second at each time since the start of the load, s."""
        raise NotImplementedError


class Constant(_Shape):
    """The same rate all the time."""

    shape: Literal["constant"] = "constant"

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        return np.full_like(at_s, self.fps)


class Ramp(_Shape):
    """From `fps` to `to_fps` within `over`, and on at that."""

    shape: Literal["ramp"]
    to_fps: Rate
    over: Seconds

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        return self.fps + (self.to_fps - self.fps) * np.clip(at_s / max(self.over, 1e-9), 0, 1)


class Step(_Shape):
    """From one level to the next every `each`; the last one stays."""

    shape: Literal["step"]
    then_fps: Annotated[list[Rate], Field(min_length=1)]
    each: Seconds

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        levels: Times = np.array([self.fps, *self.then_fps])
        index = np.floor_divide(at_s, max(self.each, 1e-9)).astype(int)
        found: Times = levels[np.clip(index, 0, len(levels) - 1)]
        return found


class Spike(_Shape):
    """`peak_fps` for a while, at once and at once over."""

    shape: Literal["spike"]
    peak_fps: Rate
    at: Seconds
    lasts: Seconds

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        is_peak = (at_s >= self.at) & (at_s < self.at + self.lasts)
        return np.where(is_peak, self.peak_fps, self.fps)


class FlashCrowd(_Shape):
    """Up to `peak_fps` at once, as when a train comes in, and down by half every `half_life`."""

    shape: Literal["flash-crowd"]
    peak_fps: Rate
    at: Seconds
    half_life: Seconds

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        gone = np.exp2(-np.maximum(at_s - self.at, 0) / max(self.half_life, 1e-9))
        return self.fps + np.where(at_s >= self.at, (self.peak_fps - self.fps) * gone, 0.0)


class MorningRush(_Shape):
    """A hill around `at`: it grows over `rise`, and takes three times as long to go down again."""

    shape: Literal["morning-rush"]
    peak_fps: Rate
    at: Seconds
    rise: Seconds

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        width_s = np.where(at_s < self.at, self.rise, 3 * self.rise) / 2
        return self.fps + (self.peak_fps - self.fps) * np.exp(
            -0.5 * ((at_s - self.at) / np.maximum(width_s, 1e-9)) ** 2
        )


class Diurnal(_Shape):
    """A day: `fps` at its quietest, half a `day` before and after `peak_fps`."""

    shape: Literal["diurnal"]
    peak_fps: Rate
    day: Seconds = 86_400.0
    peak_at: Seconds = 43_200.0

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        phase = 2 * np.pi * (at_s - self.peak_at) / max(self.day, 1e-9)
        return self.fps + (self.peak_fps - self.fps) * (1 + np.cos(phase)) / 2


class Replay(_Shape):
    """A recorded trace: lines of `seconds,fps`, the rate changing linearly between them.

    Attributes:
        trace: the file; a relative path is taken from the scenario's folder.
        fps: what the trace's mean rate is scaled to.
    """

    shape: Literal["replay"]
    trace: Path
    trace_s: tuple[float, ...] = Field(default=(), exclude=True)
    trace_rate_fps: tuple[float, ...] = Field(default=(), exclude=True)

    @field_validator("trace_s", "trace_rate_fps", mode="before")
    @classmethod
    def _is_read(cls, value: object) -> object:
        raise ValueError("is read from the trace: remove it")

    def recorded(self, folder: Path) -> "Replay":
        """Return this shape with its trace read.

        Raises:
            TraceError: the file can't be used.
        """
        path = folder / self.trace
        at_s, rate_fps = read_trace(path)
        return self.model_copy(
            update={"trace": path, "trace_s": tuple(at_s), "trace_rate_fps": tuple(rate_fps)}
        )

    def scaled(self, by_rate: float, by_time: float) -> "Replay":
        """See `_Shape.scaled`."""
        return self.model_copy(
            update={
                "fps": self.fps * by_rate,
                "trace_s": tuple(each * by_time for each in self.trace_s),
            }
        )

    def rate(self, at_s: Times) -> Times:
        """See `_Shape.rate`."""
        times, rates = np.array(self.trace_s), np.array(self.trace_rate_fps)
        mean = np.trapezoid(rates, times) / (times[-1] - times[0])
        found: Times = np.interp(at_s, times - times[0], rates * (self.fps / mean))
        return found


Shape = Annotated[
    Constant | Ramp | Step | Spike | FlashCrowd | MorningRush | Diurnal | Replay,
    Field(discriminator="shape"),
]
_TIMES = {"over", "each", "at", "lasts", "half_life", "rise", "day", "peak_at"}


def shape_of(shape: str, **keys: Any) -> Shape:  # noqa: ANN401 - as a scenario has them
    """Return a shape; its keys are those of a scenario's `arrivals`.

    Raises:
        pydantic.ValidationError: there is no such shape, or a key is wrong.
    """
    made: Shape = TypeAdapter(Shape).validate_python({"shape": shape, **keys})
    return made


def read_trace(path: Path) -> tuple[list[float], list[float]]:
    """Return times, s, and rates, frames a second, of a recorded trace.

    Raises:
        TraceError: a line is not `seconds,fps`, times do not rise, or there is nothing to replay.
    """
    at_s: list[float] = []
    rate_fps: list[float] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            first, second = map(float, line.split(","))
        except ValueError:
            raise TraceError(f"{path}:{number}: must be seconds,fps") from None
        if (at_s and first <= at_s[-1]) or not 0 <= second < 1e9 or not -1e9 < first < 1e12:
            raise TraceError(f"{path}:{number}: seconds must rise, and fps be 0 or more")
        at_s.append(first)
        rate_fps.append(second)
    if len(at_s) < 2 or not any(rate_fps):
        raise TraceError(f"{path}: needs two lines at least, and a rate above 0")
    return at_s, rate_fps


def arrivals(
    shape: _Shape, until_s: float, share: float, random: np.random.Generator
) -> Iterator[float]:
    """Yield when frames are due, s since the start of the load, rising: some seconds' at a time.

    Args:
        shape: the rate over time.
        until_s: how long the load lasts.
        share: of the rate that is wanted here, [0, 1]: one of several senders.
        random: makes it the same every time.

    Source: inversion of the cumulative rate; Cinlar, Introduction to Stochastic Processes (1975),
    section 4.7.
    """
    phase = random.random()  # of frames that are spaced evenly: until the next one
    for begin_s in np.arange(0, until_s, _WINDOW_S).tolist():
        end_s = min(begin_s + _WINDOW_S, until_s)
        grid_s = np.linspace(begin_s, end_s, max(2, math.ceil((end_s - begin_s) / _STEP_S) + 1))
        rates = np.maximum(shape.rate(grid_s), 0) * share
        steps = np.diff(grid_s) * (rates[1:] + rates[:-1]) / 2
        cumulative = np.concatenate([[0.0], np.cumsum(steps)])
        total = float(cumulative[-1])
        if shape.spacing == "even":
            marks = np.arange(phase, total, 1.0)
            phase += len(marks) - total
        else:
            most = int(total + 10 * np.sqrt(total) + 20)
            marks = np.cumsum(random.exponential(size=most))
            marks = marks[marks < total]
        yield from np.interp(marks, cumulative, grid_s).tolist()


def arrival_times(
    shape: _Shape, until_s: float, share: float, random: np.random.Generator
) -> Times:
    """Return all that `arrivals` yields."""
    return np.fromiter(arrivals(shape, until_s, share, random), np.float64)


def even_times(phases: Iterable[tuple[float, float]]) -> Iterator[float]:
    """Yield when frames are due that come evenly, s since the start.

    Args:
        phases: seconds and frames a second of each; one is asked for when the one before is over.
    """
    begin_s = 0.0
    for seconds, fps in phases:
        # Counted, not summed up: a sum of periods may miss the end of the phase by a hair.
        for index in range(math.ceil(seconds * fps - 1e-9)):
            yield begin_s + index / fps
        begin_s += seconds
