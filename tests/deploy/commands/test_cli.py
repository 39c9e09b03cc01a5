"""The command: help that answers at once, and errors that say what to do next."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.commands import main as cli

COMMANDS = (
    "demo",
    "up",
    "camera",
    "decisions",
    "status",
    "render",
    "train",
    "evaluate",
    "calibrate",
    "judge",
    "upgrade",
    "ablate",
)


def run(*args: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from deploy.commands.main import main; main()", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert command in result.output


def test_help_loads_neither_ray_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys, deploy.commands.main; "
        "print([m for m in ('ray', 'torch', 'cv2') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["status"], "start one with `livegate up`"),
        (["decisions"], "start one with `livegate up`"),
        (["camera"], "start one with `livegate up`"),
        (["status", "--redis", "redis://127.0.0.1:1"], "127.0.0.1:1"),
        (["camera", "--redis", "redis://127.0.0.1:1"], "--key-file FILE"),
        (["up", "--config", "nowhere.yaml", "--redis", "redis://127.0.0.1:1"], "nowhere.yaml"),
        (["up", "--redis", "redis://127.0.0.1:1"], "127.0.0.1:1"),
        (["camera", "--redis", "redis://127.0.0.1:1", "--id", "no spaces"], "no camera id"),
        (["train", "a.txt", "b.txt", "bundle"], "a.txt"),
        (["train", "a.txt", "b.txt", "bundle", "--depth", "50"], "depth must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_that_says_what_to_do(
    tmp_path: Path, args: list[str], message: str
) -> None:
    result = run(*args, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback_of_any_error(tmp_path: Path) -> None:
    result = run("--debug", "status", cwd=tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "NoDeployment" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["status", "--partitions", "8"], "--partitions goes with --redis"),
        (["decisions", "--partitions", "8"], "--partitions goes with --redis"),
        (["camera", "--partitions", "8"], "--partitions goes with --redis"),
        (["status", "--redis", "redis://h", "--folder", "x"], "--folder and --redis"),
        (["decisions", "--redis", "redis://h", "--folder", "x"], "--folder and --redis"),
        (["camera", "--depth-unit-mm", "2"], "--depth-unit-mm"),
        (["decisions", "--camera", "a b"], "no camera id"),
        (["status", "--redis", "http://h"], "redis://"),
        (["up", "--redis", "127.0.0.1:6379"], "redis://"),
        (["camera", "--redis", "redis://h:port"], "--redis"),
        (["camera", "--http", "h:8000"], "http://host:port"),
        (["camera", "--http", "http://h", "--redis", "redis://h"], "--http is all"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_no_argument_is_ignored(args: list[str], message: str) -> None:
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_reading_from_a_deployment_elsewhere_leaves_no_folder(tmp_path: Path) -> None:
    run("status", "--redis", "redis://127.0.0.1:1", cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_output_that_nobody_reads_on_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from deploy.commands.main import main; main()", "--help"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
