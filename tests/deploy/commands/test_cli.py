"""The command: help that answers at once, and errors that say what to do next."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.commands import main as cli
from deploy.local.home import Address, Home, NoDeployment

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


class TestHome:
    def test_a_new_camera_gets_a_key_and_keeps_it(self, tmp_path: Path) -> None:
        home = Home(tmp_path / "home")
        home.prepare()
        assert home.key_of("gate-1") == home.key_of("gate-1") != home.key_of("gate-2")

    def test_a_deployment_is_found_while_it_runs(self, tmp_path: Path) -> None:
        home, address = Home(tmp_path), Address("redis://127.0.0.1:6379/0", 4)
        with home.announce(address):
            assert home.address() == address
        with pytest.raises(NoDeployment):
            home.address()


def test_foreseen_errors_are_ours(monkeypatch: Any) -> None:
    assert cli._is_foreseen(NoDeployment())
    assert not cli._is_foreseen(ZeroDivisionError())
