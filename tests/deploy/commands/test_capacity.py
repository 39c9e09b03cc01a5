"""The commands for load and capacity: exit statuses, and one line for what can't be done."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from deploy.commands.errors import lines_for
from deploy.commands.main import app
from loadtest.result import Check
from tests.loadtest.results import result_of

DRAW = np.random.default_rng(1)


def livegate(*args: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in args], obj={})


def told(result: Result) -> str:
    assert result.exception is not None
    lines = lines_for(result.exception)
    assert lines, result.exception
    return "\n".join(lines)


def test_the_shipped_scenarios_are_listed_with_what_they_are_for() -> None:
    listed = livegate("loadtest", "list")
    assert listed.exit_code == 0
    assert len(listed.output.splitlines()) >= 13
    assert "camera-storm" in listed.output


@pytest.mark.parametrize(
    ("factor", "checks", "status"),
    [(1.0, None, 0), (1.4, None, 1), (0.6, None, 0), (1.0, [Check("it was", False, "no")], 3)],
)
def test_a_comparison_ends_with_a_status_for_ci(
    tmp_path: Path, factor: float, checks: list[Check] | None, status: int
) -> None:
    for name, scale in (("before", 1.0), ("after", factor)):
        (tmp_path / name).mkdir()
        result = result_of(DRAW.lognormal(3, 0.2, 24_000) * scale, checks=checks)
        result.save(tmp_path / name / "result.json")
    compared = livegate("loadtest", "compare", tmp_path / "before", tmp_path / "after", "--json")
    assert compared.exit_code == status, compared.output
    assert json.loads(compared.output)["percentile"] == 99


def test_a_plan_is_a_table_or_json() -> None:
    assert "replicas" in livegate("plan", 10_000).output
    made = json.loads(livegate("plan", 10_000, "--json").output)
    assert made["wanted"]["cameras"] == 10_000
    assert "nothing can keep that" in told(livegate("plan", 100, "--within-ms", 10))


def test_what_can_not_be_run_is_told_in_lines(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("about = 'x'\nbeams = 3\n")
    assert "bad.toml: beams: is no setting" in told(livegate("loadtest", "run", bad))
    assert "no deployment runs from" in told(
        livegate("loadtest", "run", "steady", "--folder", tmp_path)
    )
    assert "not a result" in told(livegate("loadtest", "compare", bad, bad))
    assert "no such file, and no shipped scenario" in told(livegate("loadtest", "run", "evening"))
    for args in (("--local", 1, "--redis", "redis://h"), ("--cluster",), ("--bundle", "instant")):
        assert livegate("loadtest", "run", "steady", *args).exit_code == 2
