"""A search as one HTML page and JSON: the knee of the curve, and each step on the way to it."""

import math
from pathlib import Path

from loadtest.report.charts import Chart, Series
from loadtest.report.page import picture, template
from loadtest.search import Found


def write_search(found: Found, folder: Path) -> Path:
    """Write `search.json`, `search.html` and `knee.png` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder / "search.json")
    charts = knee(found)
    page = folder / "search.html"
    drawn = [(each.title, each.svg()) for each in charts]
    text = template("search.html.jinja").render(
        found=found, slo=found.scenario["slo"], charts=drawn
    )
    page.write_text(text, encoding="utf-8")
    (folder / "knee.png").write_bytes(picture(charts, "How much it holds"))
    return page


def knee(found: Found) -> list[Chart]:
    """Return latency and goodput over the rate that was offered."""
    steps = sorted((each for each in found.steps if each.num_frames), key=lambda each: each.fps)
    limit_ms = found.scenario["slo"]["within"] * 1000
    best = [] if found.best_fps is None else [each for each in steps if each.fps == found.best_fps]

    def of(value: float | None) -> float:
        return math.nan if value is None else value

    return [
        Chart(
            "Latency over the rate",
            "frames/s offered",
            "ms",
            [
                Series("p99", [(each.fps, of(each.p99_ms)) for each in steps]),
                Series("p50", [(each.fps, of(each.p50_ms)) for each in steps]),
            ],
            is_log=True,
            limits=[(limit_ms, f"{limit_ms:g} ms")],
            markers=[(each.fps, of(each.p99_ms), "the highest rate that holds") for each in best],
            x_range=(0.0, max([each.fps for each in steps] or [1.0])),
        ),
        Chart(
            "Goodput over the rate",
            "frames/s offered",
            "verdicts/s",
            [
                Series("in time", [(each.fps, each.goodput_fps) for each in steps]),
                Series("offered", [(each.fps, each.fps) for each in steps]),
            ],
            x_range=(0.0, max([each.fps for each in steps] or [1.0])),
        ),
    ]
