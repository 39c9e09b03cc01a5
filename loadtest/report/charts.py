"""Line charts as SVG text, for a page that needs nothing but itself.

Colours are the page's own variables, so that a chart is right in the light and in the dark; every
series is told apart by its dash and its label as well as by its colour.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

_W, _H = 480.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 50.0, 10.0, 26.0, 34.0
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 4")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line.

    Attributes:
        label: what it is.
        points: (x, y), x rising; a y of NaN leaves a gap.
        is_step: y holds until the next x.
    """

    label: str
    points: Sequence[Point]
    is_step: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    Attributes:
        title: above it.
        x_label: with its unit.
        y_label: with its unit.
        series: at most five.
        is_log: of the y axis.
        x_ticks: (x, label); none: they are chosen.
        limits: (y, label) of horizontal lines.
        bands: (from x, to x, label) of what happened meanwhile.
        x_range: None: as the points are.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    is_log: bool = False
    x_ticks: Sequence[tuple[float, str]] = ()
    limits: Sequence[tuple[float, str]] = ()
    bands: Sequence[tuple[float, float, str]] = ()
    x_range: tuple[float, float] | None = None
    markers: Sequence[tuple[float, float, str]] = field(default=())

    def svg(self) -> str:
        """Return the chart, or a line that says that there is nothing to draw."""
        ys = [y for each in self.series for _, y in each.points if math.isfinite(y)]
        ys = [y for y in ys if y > 0] if self.is_log else ys
        if not ys:
            return f'<p class="empty">{escape(self.title)}: nothing to draw</p>'
        xs = [x for each in self.series for x, _ in each.points]
        return _Drawing(self, self.x_range or (min(xs), max(xs)), _y_range(self, ys)).svg()


class _Drawing:
    def __init__(self, chart: Chart, x_range: Point, y_range: Point) -> None:
        self._chart = chart
        self._x0, x1 = x_range
        self._x_span = max(x1 - self._x0, 1e-9)
        self._y0, self._y1 = map(self._of_y, y_range)
        self._range = y_range

    def svg(self) -> str:
        chart = self._chart
        parts = [
            f'<svg viewBox="0 0 {_W:g} {_H:g}" role="img" aria-label="{escape(chart.title)}">',
            *self._bands(), *self._grid(), *self._limits(),
        ]  # fmt: skip
        for number, each in enumerate(chart.series):
            parts += self._line(each, number)
        for x, y, label in chart.markers:
            parts.append(
                f'<circle class="mark" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="4">'
                f"<title>{escape(label)}</title></circle>"
            )
        parts += self._legend()
        return "".join(parts) + "</svg>"

    def _of_y(self, y: float) -> float:
        return math.log10(max(y, 1e-9)) if self._chart.is_log else y

    def _x(self, x: float) -> float:
        return _LEFT + (x - self._x0) / self._x_span * (_W - _LEFT - _RIGHT)

    def _y(self, y: float) -> float:
        share = (self._of_y(y) - self._y0) / max(self._y1 - self._y0, 1e-9)
        return _H - _BOTTOM - min(max(share, 0.0), 1.0) * (_H - _TOP - _BOTTOM)

    def _bands(self) -> list[str]:
        found = []
        for begin, end, label in self._chart.bands:
            x = self._x(begin)
            width = max(2.0, self._x(end) - x)
            found.append(
                f'<rect class="band" x="{x:.1f}" y="{_TOP:g}" width="{width:.1f}" '
                f'height="{_H - _TOP - _BOTTOM:g}"><title>{escape(label)}</title></rect>'
            )
        return found

    def _grid(self) -> list[str]:
        chart, found = self._chart, []
        for y in _log_ticks(*self._range) if chart.is_log else _ticks(*self._range, 4):
            at = self._y(y)
            found.append(
                f'<line class="grid" x1="{_LEFT:g}" x2="{_W - _RIGHT:g}" '
                f'y1="{at:.1f}" y2="{at:.1f}"/>'
                f'<text x="{_LEFT - 5:g}" y="{at + 4:.1f}" text-anchor="end">{_told(y)}</text>'
            )
        end = self._x0 + self._x_span
        for x, label in chart.x_ticks or [(x, _told(x)) for x in _ticks(self._x0, end, 6)]:
            if self._x0 <= x <= end:
                at = self._x(x)
                found.append(
                    f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP:g}" '
                    f'y2="{_H - _BOTTOM:g}"/><text x="{at:.1f}" y="{_H - _BOTTOM + 14:g}" '
                    f'text-anchor="middle">{escape(label)}</text>'
                )
        found.append(
            f'<text class="axis" x="{(_W + _LEFT) / 2:g}" y="{_H - 4:g}" text-anchor="middle">'
            f"{escape(chart.x_label)}</text>"
        )
        return found

    def _limits(self) -> list[str]:
        found = []
        for y, label in self._chart.limits:
            at = self._y(y)
            found.append(
                f'<line class="limit" x1="{_LEFT:g}" x2="{_W - _RIGHT:g}" y1="{at:.1f}" '
                f'y2="{at:.1f}"/><text class="limit" x="{_W - _RIGHT:g}" y="{at - 4:.1f}" '
                f'text-anchor="end">{escape(label)}</text>'
            )
        return found

    def _line(self, series: Series, number: int) -> list[str]:
        runs: list[list[Point]] = [[]]
        for x, y in series.points:
            if not math.isfinite(y) or (self._chart.is_log and y <= 0):
                runs.append([])
                continue
            if series.is_step and runs[-1]:
                runs[-1].append((x, runs[-1][-1][1]))
            runs[-1].append((x, y))
        dash = f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""
        found = []
        for run in runs:
            if len(run) == 1:
                x, y = run[0]
                at = f'cx="{self._x(x):.1f}" cy="{self._y(y):.1f}"'
                found.append(f'<circle class="s{number} dot" {at} r="2"/>')
            elif run:
                points = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in run)
                found.append(f'<polyline class="s{number}" points="{points}"{dash}/>')
        return found

    def _legend(self) -> list[str]:
        unit = escape(self._chart.y_label)
        found = [f'<text class="axis" x="4" y="12">{unit}</text>']
        x = max(_LEFT, 7.0 * len(self._chart.y_label) + 14)
        for number, each in enumerate(self._chart.series):
            dash = f' stroke-dasharray="{_DASHES[number]}"' if _DASHES[number] else ""
            found.append(
                f'<line class="s{number}" x1="{x:g}" x2="{x + 22:g}" y1="8" y2="8"{dash}/>'
                f'<text x="{x + 26:g}" y="12">{escape(each.label)}</text>'
            )
            x += 40 + 6.6 * len(each.label)
        return found


def _y_range(chart: Chart, ys: Sequence[float]) -> Point:
    every = [*ys, *(y for y, _ in chart.limits)]
    if chart.is_log:
        low, high = min(every), max(every)
        return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.05))
    return 0.0, _nice(max(every) * 1.05 or 1.0)


def _nice(value: float) -> float:
    power = 10 ** math.floor(math.log10(max(value, 1e-9)))
    steps = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)
    return float(next(each * power for each in steps if each * power >= value))


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    raw = max(high - low, 1e-9) / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw)
    return [
        each * step for each in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)
    ]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(round(math.log10(low)), round(math.log10(high)) + 1)
    steps = (1,) if len(decades) > 3 else (1, 2, 5)
    return [each * 10**d for d in decades for each in steps if low <= each * 10**d <= high * 1.001]


def _told(value: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def percentile_x(percent: float) -> float:
    """Return where a percentile stands on HdrHistogram's axis: each nine as far as the last one."""
    return math.log10(1 / max(1 - percent / 100, 1e-7))


PERCENTILE_TICKS = tuple(
    (percentile_x(percent), f"{percent:g}%") for percent in (50, 90, 99, 99.9, 99.99, 99.999)
)
