"""A run as one HTML page that needs nothing but itself, as PNG pictures, and as JSON.

result.json  report.html  latency.png  timeline.png
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from loadtest.report.charts import PERCENTILE_TICKS, Chart, Series, percentile_x
from loadtest.report.terminal import driver_line
from loadtest.result import Result, Second
from loadtest.task import STAGES

_OWN = STAGES[:-1]


def write_report(result: Result, folder: Path) -> Path:
    """Write all files of a run into a folder, which is made; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    result.save(folder / "result.json")
    page = folder / "report.html"
    page.write_text(page_of(result), encoding="utf-8")
    for name, picture in pictures_of(result).items():
        (folder / f"{name}.png").write_bytes(picture)
    return page


def page_of(result: Result) -> str:
    """Return the page."""
    steady = result.distribution("steady").summary()
    return template("report.html.jinja").render(
        result=result,
        verdict=result.verdict,
        steady=steady,
        driver=driver_line(result),
        latency=latency_chart(result).svg(),
        timeline=[each.svg() for each in timeline_charts(result)],
        stages=stages_of(result),
        kinds=_kinds(result.account["by_kind"]),
        slo=result.scenario["slo"],
    )


def template(name: str) -> jinja2.Template:
    """Return one of the page templates."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template(name)


def latency_chart(result: Result) -> Chart:
    """Return the latency by percentile."""
    series = []
    for name, label in (("steady", "decision"), ("ack", "acknowledged"), ("lateness", "sent")):
        of = result.distribution(name)
        last = 100 * (1 - 1 / max(of.count, 2))  # there is nothing to be said beyond one frame
        points = [(percentile_x(p), ms) for p, ms in of.curve() if p <= last]
        if points:
            series.append(Series(label, points))
    slo = result.scenario["slo"]
    limit_ms = slo["within"] * 1000
    return Chart(
        title="Latency by percentile",
        x_label="percentile",
        y_label="ms since due",
        series=series,
        is_log=True,
        x_ticks=PERCENTILE_TICKS,
        limits=[(limit_ms, f"p{slo['percentile']:g} within {limit_ms:g} ms")],
        x_range=(0.0, max((x for each in series for x, _ in each.points), default=1.0)),
    )


def timeline_charts(result: Result) -> list[Chart]:
    """Return throughput, latency, what waits, and replicas over time, with the faults."""
    rows = result.timeline
    bands = fault_bands(result)
    run = result.scenario["run"]
    limit_ms = result.scenario["slo"]["within"] * 1000

    def line(label: str, name: str, *, is_step: bool = False) -> Series:
        return Series(label, [(each.at_s, _number(each, name)) for each in rows], is_step)

    x_range = (0.0, max([each.at_s for each in rows] or [run["warm_up"] + run["steady"]]))
    common: dict[str, Any] = {
        "x_label": "seconds since the start", "bands": bands, "x_range": x_range,
    }  # fmt: skip
    return [
        Chart(
            "Throughput", y_label="frames/s", **common,
            series=[line("due", "due_fps"), line("verdict", "verdict_fps"),
                    line("no_decision", "no_decision_fps")],
        ),
        Chart(
            "Latency", y_label="ms", is_log=True, limits=[(limit_ms, f"{limit_ms:g} ms")], **common,
            series=[line("p99", "p99_ms"), line("p50", "p50_ms")],
        ),
        Chart(
            "What waits", y_label="frames", **common,
            series=[line("waiting", "waiting"), line("pending", "pending"),
                    line("not sent", "held")],
        ),
        Chart(
            "Replicas and senders", y_label="count, cores", **common,
            series=[line("replicas", "replicas", is_step=True), line("sender cores", "sender_cpu")],
        ),
        Chart(
            "Memory", y_label="MB", **common,
            series=[line("servers", "server_mb"), line("replicas", "replica_mb"),
                    line("senders", "sender_mb")],
        ),
    ]  # fmt: skip


def fault_bands(result: Result) -> list[tuple[float, float, str]]:
    """Return (begin s, end s, what) of each fault."""
    bands = []
    begun: dict[str, list[float]] = {}
    for each in result.faults:
        if each.event == "began":
            begun.setdefault(each.what, []).append(each.at_s)
        elif begun.get(each.what):
            bands.append((begun[each.what].pop(0), each.at_s, f"{each.what}: {each.event}"))
    return bands


def stages_of(result: Result) -> list[dict[str, float | str]]:
    """Return the waterfall: what each stage takes on average, one after another, and its p99."""
    rows: list[dict[str, float | str]] = []
    steady = result.distribution("steady").summary()
    total = result.distribution("total").summary()
    at_ms, whole_ms = 0.0, float(steady["mean"] or 0)
    inside = sum(float(result.distribution(name).summary()["mean"] or 0) for name in _OWN)
    way_ms = max(whole_ms - max(inside, float(total["mean"] or 0)), 0.0)
    rows.append(_stage("way there and back", 0.0, way_ms, whole_ms, None))
    at_ms = way_ms
    for name in _OWN:
        told = result.distribution(name).summary()
        mean_ms = float(told["mean"] or 0)
        if told["count"]:
            p99 = told["p99"]
            rows.append(_stage(name, at_ms, mean_ms, whole_ms, None if p99 is None else float(p99)))
            at_ms += mean_ms
    return rows if whole_ms else []


def _stage(
    name: str, begin_ms: float, mean_ms: float, whole_ms: float, p99_ms: float | None
) -> dict[str, Any]:
    return {
        "name": name,
        "left": 100 * begin_ms / max(whole_ms, 1e-9),
        "width": 100 * mean_ms / max(whole_ms, 1e-9),
        "mean_ms": mean_ms,
        "p99_ms": p99_ms,
    }


def _kinds(by_kind: dict[str, dict[str, int]]) -> list[tuple[str, int, list[tuple[str, int]]]]:
    order = lambda pair: -pair[1]  # noqa: E731
    return [
        (kind.replace("_", " "), sum(said.values()), sorted(said.items(), key=order))
        for kind, said in by_kind.items()
    ]


def pictures_of(result: Result) -> dict[str, bytes]:
    """Return the charts as PNG, for a README: `latency` and `timeline`."""
    return {
        "latency": picture([latency_chart(result)], result.name),
        "timeline": picture(timeline_charts(result), result.name),
    }


def picture(charts: Sequence[Chart], title: str) -> bytes:
    """Return charts as one PNG, one below the other."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - it takes a second

    figure = Figure(figsize=(8, 2.6 * len(charts) + 0.6), layout="constrained")
    figure.suptitle(title)
    for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts, strict=True):
        for number, each in enumerate(chart.series):
            xs, ys = [x for x, _ in each.points], [y for _, y in each.points]
            style = ("-", "--", ":", "-.", (0, (1, 3)))[number]
            draw = axes.step if each.is_step else axes.plot
            draw(xs, ys, linestyle=style, label=each.label)
        for begin, end, _ in chart.bands:
            axes.axvspan(begin, max(end, begin + 0.2), alpha=0.15, color="tab:red")
        for y, label in chart.limits:
            axes.axhline(y, color="tab:red", linewidth=1, label=label)
        if chart.is_log:
            axes.set_yscale("log")
        if chart.x_ticks:
            axes.set_xticks([x for x, _ in chart.x_ticks], [label for _, label in chart.x_ticks])
        axes.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
        if chart.x_range:
            axes.set_xlim(*chart.x_range)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="best")
    found = io.BytesIO()
    figure.savefig(found, dpi=110, format="png")
    return found.getvalue()


def _number(row: Second, name: str) -> float:
    value = getattr(row, name)
    return math.nan if value is None else float(value)
