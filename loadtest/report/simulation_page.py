"""A study of policies as one HTML page, a picture and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.environment import environment
from loadtest.report.charts import Chart, Series
from loadtest.report.page import picture, template
from loadtest.simulation.model import Fleet
from loadtest.simulation.study import ORACLE, WORKLOADS, Agreement, Judgement, Point
from workers.settings import ScalingSettings

_SHOWN = ("livegate", "clairvoyant", "hpa", "keda", "ray")
_FEWEST = 1e-6
_MOST_HOURS = 3.0


@dataclass(frozen=True, slots=True)
class Study:
    """What was simulated, and what came out."""

    num_cameras: int
    fleet: Fleet
    scaling: ScalingSettings
    points: Sequence[Point]
    judgements: Sequence[Judgement]
    agreement: Agreement


def write_study(study: Study, folder: Path) -> Path:
    """Write `simulation.json`, `simulation.html` and `simulation.png`; returns the page."""
    fleet, points, judgements = study.fleet, study.points, study.judgements
    num_cameras, agreement, scaling = study.num_cameras, study.agreement, study.scaling
    folder.mkdir(parents=True, exist_ok=True)
    assumptions = {
        "replica": f"{fleet.service.service_fps:.0f} frames/s; {fleet.service.source}",
        "cold start": f"{fleet.cold_s:g} s",
        "life of a replica": f"{fleet.mean_life_s / 86_400:g} days in the mean",
        "deadline": f"{fleet.deadline_s:g} s: what is older is not inferred",
        "noise": f"{fleet.noise:.1%} for about a minute, besides the arrivals' own",
        "policy": scaling.model_dump_json(),
        **{name: str(value) for name, value in environment().items()},
    }
    told = {
        "version": 1,
        "cameras": num_cameras,
        "assumptions": assumptions,
        "agreement": asdict(agreement),
        "judgements": [{**asdict(each), "is_good": each.is_good} for each in judgements],
        "points": [asdict(each) for each in points],
    }
    (folder / "simulation.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    charts = trade_offs(points)
    page = folder / "simulation.html"
    text = template("simulation.html.jinja").render(
        cameras=f"{num_cameras:,}",
        fleet=fleet,
        charts=[(each.title, each.svg()) for each in charts],
        judgements=judgements,
        points=points,
        agreement=agreement,
        assumptions=assumptions,
    )
    page.write_text(text, encoding="utf-8")
    (folder / "simulation.png").write_bytes(picture(charts, f"A day of {num_cameras:,} cameras"))
    return page


def trade_offs(points: Sequence[Point]) -> list[Chart]:
    """Return a chart a workload: misses over replica-hours, a line a policy."""
    charts = []
    for name in WORKLOADS:
        of = [each for each in points if each.workload == name]
        free = [e.replica_hours for e in of if e.policy == ORACLE and e.missed <= _FEWEST]
        if not free:
            continue
        least = min(free)
        series = []
        for policy in _SHOWN:
            line = sorted(
                (each.replica_hours / least, max(each.missed, _FEWEST))
                for each in of
                if each.policy == policy
            )
            series.append(Series(policy, [each for each in line if each[0] <= _MOST_HOURS]))
        charts.append(
            Chart(
                name,
                "replica-hours, times the clairvoyant's without a miss",
                "missed",
                series,
                is_log=True,
                x_range=(0.8, _MOST_HOURS),
            )
        )
    return charts
