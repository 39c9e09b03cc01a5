"""Scenario files: those that are shipped can be run, and others say what is wrong, and where."""

import re
from pathlib import Path

import pytest

from loadtest.faults.inject import missing_means
from loadtest.scenario.scenario import ScenarioError, load_scenario, shipped
from loadtest.target import Target

GOOD = """
about = "A try."
[fleet]
cameras = 10
[arrivals]
shape = "constant"
fps = 20
[run]
steady = "10 s"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "try.toml"
    path.write_text(text)
    return path


def test_all_shipped_scenarios_can_be_read_and_shortened() -> None:
    names = shipped()
    assert len(names) >= 13
    for name in names:
        scenario = load_scenario(name)
        assert scenario.name == name
        short = scenario.scaled(by_rate=0.5, by_time=0.01)
        assert short.run.load_s == pytest.approx(scenario.run.load_s * 0.01)
        assert short.arrivals.fps == pytest.approx(scenario.arrivals.fps * 0.5)
        assert [each.at for each in short.faults] == pytest.approx(
            [each.at * 0.01 for each in scenario.faults]
        )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("cameras = 10", "cameras = 0"), "fleet.cameras: .* greater than or equal to 1, is 0"),
        (("cameras = 10", "cameras = 10\nbeams = 3"), "fleet.beams: is no setting"),
        (("about", "name = 'x'\nabout"), "name: "),
        (("fps = 20", "fps = 0"), "arrivals.fps: .* greater than 0"),
        (('"10 s"', "10"), 'run.steady: must be a text like "90 s"'),
        (('"10 s"', '"10 parsecs"'), "run.steady: must be a text like"),
        (('about = "A try."', ""), "about: field required"),
        (("[run]", "[slo]\nwithin = '4 s'\n[run]"), "slo: within must be at most deadline"),
        (("[run]", "[slo]\nno_decision = '200 %'\n[run]"), "slo.no_decision: must be a share"),
        (("cameras = 10", "cameras = 10\nhot_cameras = 10"), "fleet: hot_cameras .10. must be"),
        (("[run]", "[[faults]]\nat = '3 s'\ndo = 'dance'\n[run]"), r"faults\[0\]: .*'dance'"),
        (
            ("[run]", "[[faults]]\nat = '3 s'\ndo = 'slow the disk'\nby = '5 ms'\n[run]"),
            r"faults\[0\].lasts: field required",
        ),
        (
            ("[run]", "[[faults]]\nat = '30 s'\ndo = 'kill a replica'\n[run]"),
            r"faults\[0\]: 'kill a replica' ends 30 s after the start, the load lasts 20 s",
        ),
        (("about", "about about"), "not TOML"),
    ],
)
def test_what_can_not_be_run_says_file_field_and_rule(
    tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    path = write(tmp_path, text)
    with pytest.raises(ScenarioError, match=told) as caught:
        load_scenario(path)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("cameras = 10", "cameras = 0").replace("fps = 20", "fps = -1")
    with pytest.raises(ScenarioError) as caught:
        load_scenario(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 2


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ScenarioError, match=re.escape("morning-rush")):
        load_scenario("evening-rush")


def test_a_fault_that_can_not_be_played_says_what_is_missing() -> None:
    far = Target("redis://127.0.0.1:1", 4)
    missing = {
        fault.do: missing_means(fault, far)
        for name in shipped()
        for fault in load_scenario(name).faults
    }
    for what in ("kill a replica", "restart the server", "fail over the server", "swap the model"):
        assert missing[what], what
    for what in ("send cut frames", "pause the server", "fill the memory", "slow the disk"):
        assert not missing[what], what
    cluster = Target("redis://127.0.0.1:1", 4, cluster=True)
    (fail_over, _) = load_scenario("cluster-failover").faults
    assert not missing_means(fail_over, cluster)
    cut = load_scenario("network-cut").faults[0]
    assert "one server" in missing_means(cut, cluster)
