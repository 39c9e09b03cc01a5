"""A deployment of a user: installed from the wheel, in a folder of its own, met by the examples."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from deploy.local.ports import free_port
from tests.environments import CHECKOUT, environment
from tests.readme import python_blocks
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, unpack_decision

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CAMERA = "gate-1"
EXAMPLES = CHECKOUT / "examples"


@dataclass(frozen=True)
class Site:
    """Where a deployment runs from."""

    folder: Path
    commands: Path

    def livegate(self, *args: str) -> str:
        return run(self.commands / "livegate", *args, cwd=self.folder)

    @property
    def address(self) -> dict[str, Any]:
        text = (self.folder / ".livegate" / "deployment.json").read_text(encoding="utf-8")
        address: dict[str, Any] = json.loads(text)
        return address


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(*command: str | Path, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a command in a group of its own; SIGINT ends it, as Ctrl-C does."""
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`livegate up`, ready, with the extra `serve` and nothing else; the camera has its key."""
    commands = environment(tmp_path_factory.mktemp("env"), ["livegate[serve]"], wheel)
    site = Site(tmp_path_factory.mktemp("site"), commands)
    with running(
        commands / "livegate",
        "up",
        "--config",
        _config(site),
        "--metrics-port",
        str(free_port()),
        cwd=site.folder,
    ) as up:
        assert up.stdout is not None
        for _ in up.stdout:
            if (site.folder / ".livegate" / "deployment.json").exists():
                break
        assert up.poll() is None, "it ended before it was ready"
        site.livegate("keys", "add", CAMERA)
        site.livegate("keys", "export", CAMERA, "--out", f"{CAMERA}.json")
        yield site
        os.killpg(up.pid, signal.SIGINT)
        up.stdout.read()
        assert up.wait(120) == 0
    assert not (site.folder / ".livegate" / "deployment.json").exists()


def _config(site: Site) -> Path:
    """Write the shipped config with ports that are free: other deployments may run here."""
    content = yaml.safe_load((CHECKOUT / "ray_config.yaml").read_text(encoding="utf-8"))
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{one.getsockname()[1]}/0"
        content["applications"][0]["args"]["stream"]["url"] = url
        content["http_options"]["port"] = two.getsockname()[1]
    path = site.folder / "ray_config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def decision_of(site: Site, entry_id: str) -> Decision:
    """Wait for the decision of an entry."""
    partition = keys.partition_of(CAMERA, site.address["partitions"])
    name, last = keys.camera_decisions(partition, CAMERA), "0"
    with redis.Redis.from_url(site.address["redis_url"]) as client:
        while rows := client.xread({name: last}, block=60_000):
            for row, fields in rows[0][1]:
                last = row.decode()
                if b"d" not in fields:
                    continue  # a verdict on a presentation
                decision = unpack_decision(fields[b"d"])
                if decision.entry_id == entry_id:
                    return decision
    pytest.fail(f"{entry_id} got no decision")


def test_the_packages_are_those_of_the_wheel(site: Site) -> None:
    code = "import deploy, loadtest, model, workers; print(*deploy.__path__, *workers.__path__)"
    where = run(site.commands / "python", "-c", code, cwd=site.folder).split()
    assert all(Path(path).is_relative_to(site.commands.parent) for path in where)


def test_a_frame_gets_its_decision(site: Site) -> None:
    sent = site.livegate("camera", "--id", CAMERA, "--seconds", "0.1", "--fps", "5")
    assert "acknowledged 1" in sent
    command = (site.commands / "livegate", "decisions", "--follow", "--json", "--camera", CAMERA)
    with running(*command, cwd=site.folder) as decisions:
        assert decisions.stdout is not None
        decision = json.loads(decisions.stdout.readline())
    assert decision["outcome"] in ("bona_fide", "attack")
    assert decision["model"].startswith("rendered-small@")


def test_readme_opens_a_door(site: Site) -> None:
    camera, door = python_blocks()
    with running(site.commands / "python", "-c", door, cwd=site.folder) as watching:
        _wait_until_it_reads(site, watching)
        counts = run(site.commands / "python", "-c", camera, cwd=site.folder)
        assert "acknowledged=10" in counts
        assert watching.stdout is not None
        assert watching.stdout.readline() == "open\n"


def _wait_until_it_reads(site: Site, door: "subprocess.Popen[str]") -> None:
    with redis.Redis.from_url(site.address["redis_url"]) as client:
        while not any(row["cmd"] == "xread" for row in client.client_list()):
            assert door.poll() is None, "it ended before it read a decision"


def test_a_camera_in_plain_python(site: Site, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", ["redis", "msgpack"])
    told = run(commands / "python", EXAMPLES / "plain_camera.py", CAMERA, cwd=site.folder)
    assert decision_of(site, told.split()[-1]).outcome is Outcome.BONA_FIDE


def test_a_camera_in_node(site: Site) -> None:
    node = shutil.which("node")
    if node is None or not (EXAMPLES / "node" / "node_modules").is_dir():
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell("needs Node 20, and `npm ci --prefix examples/node`")
    told = run(node, EXAMPLES / "node" / "camera.mjs", CAMERA, cwd=site.folder)
    assert decision_of(site, told.split()[-1]).outcome is Outcome.BONA_FIDE


def test_a_camera_by_http(site: Site, tmp_path: Path) -> None:
    commands = environment(tmp_path / "env", ["msgpack"])
    told = run(commands / "python", EXAMPLES / "http_camera.py", CAMERA, cwd=site.folder)
    assert told.split()[0] == "bona_fide"
