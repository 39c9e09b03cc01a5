"""`livegate up` as an operator runs it: it does what its file says, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from deploy.local.config import CONFIG
from deploy.local.ports import free_port
from deploy.local.processes import descendants, processes
from tests.bundles import write_random_bundle
from workers.wire.keyring import read_keys, write_keys
from workers.wire.signing import new_key

LIVEGATE = [sys.executable, "-c", "from deploy.commands.main import main; main()"]
READY = "Ctrl-C drains and stops it."


def livegate(*args: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LIVEGATE, *args], cwd=cwd, capture_output=True, text=True, timeout=600, check=False
    )


@dataclass
class Up:
    """A `livegate up` that runs, in a session of its own as in a terminal."""

    process: "subprocess.Popen[str]"

    def wait_for(self, text: str) -> str:
        """Read what it prints up to a line with `text`, and return that line."""
        assert self.process.stdout is not None
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if text in line:
                return line
        raise AssertionError(f"it ended: {''.join(seen)}")

    def ended_with(self, number: int, *, group: bool) -> int:
        """Send a signal to it, or to its group as a terminal does; return its exit status.

        Fails if anything that it had started is still there a while later. Not waited for are
        Ray's two agents, which look for their node once a minute.
        """
        started = {
            each.pid for each in descendants(self.process.pid) if not each.title.endswith("Agent")
        }
        (os.killpg if group else os.kill)(self.process.pid, number)
        assert self.process.stdout is not None
        self.process.stdout.read()
        status = self.process.wait(600)
        until(lambda: not started & {each.pid for each in processes()})
        return status


def until(condition: Callable[[], bool], timeout_s: float = 180.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.1)


def _hear_signals() -> None:
    """Undo what `nohup` or a test runner has ignored: whoever ignores it has a reason to go on."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def up(*args: str, cwd: Path) -> Iterator[Up]:
    with subprocess.Popen(
        [*LIVEGATE, "up", "--metrics-port", str(free_port()), *args],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A token that other tests of this process made is none of its business.
        env={name: value for name, value in os.environ.items() if "RAY_AUTH" not in name},
        preexec_fn=_hear_signals,  # noqa: PLW1509 - no thread of ours holds a lock meanwhile
    ) as process:
        try:
            yield Up(process)
        finally:
            if process.poll() is None:
                process.kill()


def write_config(folder: Path, settings: Mapping[str, Any], http_port: int, port: int) -> Path:
    """Write the shipped config with other ports, a small bundle, and other settings."""
    content = yaml.safe_load(CONFIG.read_text())
    content["http_options"]["port"] = http_port
    args = content["applications"][0]["args"]
    args["stream"]["url"] = f"redis://127.0.0.1:{port}/0"
    args["bundle"] = str(write_random_bundle(folder / "bundle"))
    args.update(settings)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({name: content[name] for name in content}))
    return path


def decided(cwd: Path, *args: str) -> list[dict[str, Any]]:
    done = livegate("decisions", "--json", *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_honours_its_file_and_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    http_port, port = free_port(), free_port()
    home, keys = tmp_path / "site", tmp_path / "doors.json"
    config = write_config(tmp_path, {"camera_keys": str(keys)}, http_port, port)
    write_keys(keys, {"gate-1": new_key()})
    before = read_keys(keys)
    where = ("--folder", "site")
    with up("--config", "config.yaml", *where, cwd=tmp_path) as running:
        running.wait_for(READY)
        with urllib.request.urlopen(f"http://127.0.0.1:{http_port}/v1/status", timeout=60) as reply:
            assert json.load(reply)["model"].startswith("random@")
        with redis.Redis(port=port) as client:
            assert Path(client.config_get("dir")["dir"]) == home / "server"
        sent = livegate("camera", "--id", "gate-1", "--seconds", "2", *where, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        posting = ("--http", f"http://127.0.0.1:{http_port}", "--key-file", str(keys))
        sent = livegate("camera", "--id", "gate-1", "--seconds", "1", *posting, cwd=tmp_path)
        assert sent.returncode == 0, sent.stderr
        until(lambda: len(decided(tmp_path, *where)) >= 13)
        assert "unknown_camera" not in {each["reason"] for each in decided(tmp_path, *where)}
        assert read_keys(keys) == before
        status = json.loads(livegate("status", "--json", *where, cwd=tmp_path).stdout)
        assert status["model"].startswith("random@")

        again = livegate("up", "--config", "config.yaml", *where, cwd=tmp_path)
        assert (again.returncode, again.stderr.count("\n")) == (2, 1)
        assert "a deployment runs from site already" in again.stderr
        beside = livegate("up", "--config", str(config), cwd=tmp_path)
        assert f"config.yaml:{line_of(config, 'url:')}: args.stream.url" in beside.stderr
        assert f"port {port} of 127.0.0.1 can't be used" in beside.stderr

        assert running.ended_with(signal.SIGHUP, group=True) == 0
    assert "no deployment runs" in livegate("status", *where, cwd=tmp_path).stderr


def line_of(path: Path, text: str) -> int:
    lines = enumerate(path.read_text().splitlines(), start=1)
    return next(number for number, line in lines if text in line)


def test_one_that_is_killed_takes_all_it_started_along(tmp_path: Path) -> None:
    unsigned = {"camera_keys": None, "allow_unsigned": True}
    write_config(tmp_path, unsigned, free_port(), free_port())
    with up("--config", "config.yaml", cwd=tmp_path) as running:
        assert "unsigned frames are taken" in running.wait_for("camera keys:")
        running.wait_for(READY)
        assert livegate("camera", "--seconds", "1", cwd=tmp_path).returncode == 0
        until(lambda: len(decided(tmp_path)) >= 4)
        assert {each["reason"] for each in decided(tmp_path)}.isdisjoint(
            {"bad_signature", "unknown_camera"}
        )
        running.ended_with(signal.SIGKILL, group=False)
    assert "no deployment runs" in livegate("status", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("number", "group", "during"),
    [(signal.SIGINT, True, "starting Ray Serve"), (signal.SIGTERM, False, "starting Ray ...")],
    ids=["ctrl-c", "term"],
)
def test_a_start_can_be_stopped(tmp_path: Path, number: int, group: bool, during: str) -> None:
    write_config(tmp_path, {}, free_port(), free_port())
    with up("--config", "config.yaml", cwd=tmp_path) as running:
        running.wait_for(during)
        assert running.ended_with(number, group=group) == 130


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bundle": "gone"}, "args.bundle: gone: no bundle folder"),
        ({"camera_keys": "gone.json"}, "args.camera_keys: "),
        ({"stream": {"url": "redis://:secret@127.0.0.1"}}, "args.stream.url: the server that"),
        ({"stream": {"cluster": True}}, "args.stream.url: the server that"),
        ({"stream": {"url": "redis://localhost?password_file=x"}}, "args.stream.url: the server"),
        ({"max_batch": 0}, "args.max_batch: "),
    ],
    ids=["bundle", "keys", "password", "cluster", "password-file", "bounds"],
)
def test_what_it_can_not_do_is_told_before_anything_starts(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    write_config(tmp_path, settings, free_port(), free_port())
    done = livegate("up", "--config", "config.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("livegate: config.yaml:")
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("which", ["http", "redis"])
def test_a_port_that_is_taken_is_not_moved_from(tmp_path: Path, which: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        taken = listening.getsockname()[1]
        ports = (taken, free_port()) if which == "http" else (free_port(), taken)
        write_config(tmp_path, {}, *ports)
        done = livegate("up", "--config", "config.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"port {taken} of 127.0.0.1 can't be used (Address already in use)" in done.stderr
    assert done.stderr.count("\n") == 1
