"""Reports and plans: whole, self-contained, and of the figures that they are made from."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from loadtest.planning.inputs import FIGURES, MACHINES, PlanError, read_figures, read_machines
from loadtest.planning.plan import Wanted, plan
from loadtest.report.charts import Chart, Series
from loadtest.report.page import fault_bands, page_of, write_report
from loadtest.report.search_page import write_search
from loadtest.report.terminal import summarise
from loadtest.result import Check, ResultError, read_result
from loadtest.search import Found, Step
from tests.loadtest.results import result_of

LATENCIES = np.random.default_rng(1).lognormal(3, 0.3, 5000)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        assert tag not in ("script", "link", "img")


def test_a_report_is_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    result = result_of(LATENCIES, errors={"refused: <script>": 3})
    page = write_report(result, tmp_path / "out").read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.links == []
    assert "http" not in re.sub(r"https?://www.w3.org", "", page)
    assert "<script>" not in page
    assert "prefers-color-scheme: dark" in page
    assert "kill a replica" in page
    assert "met" in page
    assert page.count("<svg") == 6
    names = {each.name for each in (tmp_path / "out").iterdir()}
    assert names == {"result.json", "report.html", "latency.png", "timeline.png"}
    for name in ("latency.png", "timeline.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = result_of(LATENCIES)
    result.save(tmp_path / "r.json")
    again = read_result(tmp_path / "r.json")
    assert again == result
    assert again.distribution("steady").at(99) == pytest.approx(np.percentile(LATENCIES, 99), 0.01)
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["verdict"] == "met"
    assert told["latency_ms"]["steady"]["count"] == 5000
    for text in ("", "[]", "{}", '{"version": 1}', '{"version": 9}'):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(ResultError, match=r"r\.json"):
            read_result(tmp_path / "r.json")


def test_a_verdict_is_missed_for_one_broken_promise_and_invalid_for_one_doubt() -> None:
    assert result_of(LATENCIES).verdict == "met"
    assert result_of(LATENCIES, lost=1).verdict == "missed"
    assert result_of(LATENCIES * 100).verdict == "missed"
    assert result_of(LATENCIES, breaches=1).verdict == "missed"
    invalid = result_of(LATENCIES, checks=[Check("it was", False, "the senders were late")])
    assert invalid.verdict == "invalid"
    assert "the senders were late" in page_of(invalid)
    console = Console(record=True, width=100)
    summarise(invalid, console)
    assert "the senders were late" in console.export_text()


def test_faults_are_bands_from_when_they_began_to_when_they_ended() -> None:
    assert fault_bands(result_of(LATENCIES)) == [(0.5, 0.6, "kill a replica: ended")]


def test_a_chart_of_nothing_says_so_and_gaps_are_gaps() -> None:
    assert "nothing to draw" in Chart("T", "x", "y", [Series("a", [])]).svg()
    line = Series("a", [(0, 1), (1, 2), (2, float("nan")), (3, 1), (4, 2)])
    drawn = Chart("T", "x", "y", [line], is_log=True).svg()
    assert drawn.count("<polyline") == 2
    assert "nan" not in drawn


def test_a_search_shows_its_knee(tmp_path: Path) -> None:
    steps = [
        Step(fps, "holds" if fps < 300 else "fails", "so", 1, 900, 3, 0.0, 9.0, 20.0, 20.0, fps)
        for fps in (100.0, 200.0, 400.0)
    ]
    scenario = result_of(LATENCIES).scenario
    page = write_search(Found(200.0, 400.0, steps, {"cpu": "x"}, scenario), tmp_path)
    assert "It holds 200 frames/s" in page.read_text()
    assert json.loads((tmp_path / "search.json").read_text())["best_fps"] == 200.0


FLEETS = [(100, 50.0), (10_000, 5_000.0), (1_000_000, 500_000.0)]


@pytest.mark.parametrize(("cameras", "fps"), FLEETS)
def test_a_plan_holds_what_the_figures_say(cameras: int, fps: float) -> None:
    figures, machines = read_figures(FIGURES), read_machines(MACHINES)
    made = plan(Wanted(cameras, 5.0, 0.1, 30_000, 500), figures, machines)
    assert made.wanted.peak_fps == pytest.approx(fps)
    assert made.replicas * figures.of("cpu_replica_fps") > fps
    rented = made.replica_machines
    assert (rented.count - 1) * rented.each_holds >= made.replicas
    assert made.shards * figures.of("shard_fps") * 0.6 >= fps
    assert made.shard_memory_gb * made.shards * 0.61 >= sum(made.memory_gb.values())
    assert made.memory_gb["decisions of the cameras"] == pytest.approx(
        cameras * 117e3 / 1e9, abs=0.001
    )
    assert 4 <= made.partitions <= 256
    assert made.memory_gb["decisions of the partitions"] == pytest.approx(
        made.partitions * 50_000 * figures.of("decision_bytes") / 1e9, abs=0.001
    )
    assert made.p99_ms < 500
    assert json.loads(json.dumps(made.to_json()))["replicas"] == made.replicas


def test_more_cameras_never_need_less() -> None:
    figures, machines = read_figures(), read_machines()
    plans = [
        plan(Wanted(cameras, 5.0, 0.1, 30_000, 500), figures, machines)
        for cameras in (10, 100, 1000, 10_000, 100_000, 1_000_000)
    ]
    for name in ("replicas", "shards", "partitions", "price_per_hour"):
        values = [getattr(each, name) for each in plans]
        assert values == sorted(values), name


def test_what_can_not_be_planned_says_why(tmp_path: Path) -> None:
    figures, machines = read_figures(), read_machines()
    with pytest.raises(PlanError, match="nothing can keep that"):
        plan(Wanted(100, 5.0, 0.1, 30_000, 20), figures, machines)
    small = [machines[0].model_copy(update={"cores": 1})]
    with pytest.raises(PlanError, match="no machine can hold a replica"):
        plan(Wanted(100, 5.0, 0.1, 30_000, 500), figures, small)
    (tmp_path / "m.toml").write_text('[[machine]]\nname = "a"\ncores = 0\nbeams = 2\n')
    with pytest.raises(PlanError) as caught:
        read_machines(tmp_path / "m.toml")
    told = str(caught.value)
    assert "m.toml: machine.0.cores" in told
    assert "machine.0.beams: is no setting" in told
    with pytest.raises(PlanError, match="gpu_replica_fps was not measured"):
        figures.of("gpu_replica_fps")
