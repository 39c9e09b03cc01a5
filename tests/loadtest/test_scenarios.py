"""Every shipped scenario, shortened, against real servers and replicas: its account comes out even.

How fast it is belongs to the machine; nothing here judges it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.commands.loadtest_local import local_stack
from deploy.local.ports import free_port
from deploy.local.server import embedded_server
from loadtest.result import Result
from loadtest.run import run_scenario
from loadtest.scenario.scenario import Scenario, load_scenario, shipped
from loadtest.stack import INSTANT, Stack
from loadtest.target import Target
from tests.workers.stream.cluster import started_cluster
from workers.settings import StreamSettings, WorkerSettings
from workers.wire.keyring import write_keys

OF_MACHINE = {"frames were sent when they were due", "the senders had processor time to spare"}
LOAD_S = 3.0
FPS = 40.0


def shortened(name: str) -> Scenario:
    scenario = load_scenario(name)
    fastest = max(getattr(scenario.arrivals, "peak_fps", 0.0), scenario.arrivals.fps)
    scenario = scenario.scaled(FPS / fastest, LOAD_S / scenario.run.load_s)
    fleet = scenario.fleet.model_copy(update={"cameras": min(scenario.fleet.cameras, 20)})
    run = scenario.run.model_copy(update={"senders": 1, "patience": 60.0})
    return scenario.model_copy(update={"fleet": fleet, "run": run})


def settings_of(url: str, key_file: Path, *, cluster: bool = False) -> WorkerSettings:
    stream = StreamSettings(url=url, cluster=cluster, lease_ms=1000)
    return WorkerSettings(stream=stream, camera_keys=key_file, bundle=INSTANT, stall_s=30)


def new_key_file(folder: Path) -> Path:
    """Return a key file with the cameras of all scenarios, before replicas look for them."""
    key_file = folder / "camera_keys.json"
    write_keys(key_file, {})
    for name in shipped():
        Target("", 4, key_file=key_file, may_add_keys=True).camera_keys(shortened(name).fleet)
    return key_file


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server and two replicas for all scenarios: what one has done must be undone."""
    folder = tmp_path_factory.mktemp("deployment")
    key_file = new_key_file(folder)
    with embedded_server(folder / "server", free_port()) as server:
        settings = settings_of(server.url, key_file)
        with local_stack(settings, 2, folder, server, proxied=True) as stack:
            yield Target(server.url, 4, key_file=key_file, may_add_keys=True, controls=stack)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Target]:
    key_file = new_key_file(tmp_path)
    with started_cluster(tmp_path) as servers:
        stack = Stack(settings_of(servers.url, key_file, cluster=True), 2, tmp_path)
        try:
            yield Target(servers.url, 4, cluster=True, key_file=key_file, may_add_keys=True)
        finally:
            stack.close()


def is_even(result: Result) -> None:
    account = result.account
    told = (result.checks, account, result.faults)
    assert account["due"] > 0
    parts = ("acknowledged", "dropped", "unknown", "refused")
    assert account["due"] == sum(account[part] for part in parts), told
    arrived = account["acknowledged"] + account["unknown_arrived"]
    assert arrived == account["decided"] + account["lost"], told
    wrong = ("lost", "doubled", "breaches", "unsigned", "strangers")
    assert {name: account[name] for name in wrong} == dict.fromkeys(wrong, 0), told
    assert [each for each in result.checks if not each.holds and each.name not in OF_MACHINE] == []


@pytest.mark.parametrize("name", shipped())
async def test_a_scenario_comes_out_even(request: pytest.FixtureRequest, name: str) -> None:
    scenario = shortened(name)
    kind = "cluster" if name == "cluster-failover" else "deployment"
    target: Target = request.getfixturevalue(kind)
    result = await run_scenario(scenario, target)
    is_even(result)
    assert len(result.faults) == 2 * len(scenario.faults)
    if name == "flood-of-bad-frames":
        assert len(result.account["by_kind"]) >= 8
        for kind in ("cut", "oversize", "forged"):
            assert "bona_fide" not in result.account["by_kind"].get(kind, {})
