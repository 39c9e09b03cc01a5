"""The same file without us: `serve run` alone, with the policy that `build` attaches."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

from deploy.local.config import CONFIG
from deploy.local.ports import free_port
from deploy.local.processes import descendants, processes
from deploy.local.server import embedded_server
from loadtest.fleet import Fleet, Phase
from loadtest.ledger import Ledger
from loadtest.samples import load_samples
from tests.bundles import write_random_bundle
from tests.e2e.deployment import until
from workers.client.door import follow
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

CAMERAS = {"gate-1": new_key()}
PARTITIONS = 3


async def test_a_sleeping_application_is_woken_by_its_own_policy(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", CAMERAS)
    with embedded_server(tmp_path / "server", free_port()) as server:
        content = yaml.safe_load(CONFIG.read_text())
        content["http_options"]["port"] = free_port()
        args = content["applications"][0]["args"]
        args.update(bundle=str(write_random_bundle(tmp_path / "bundle")), deadline_ms=600_000)
        args["camera_keys"] = str(tmp_path / "keys.json")
        # Nobody but the policy can wake it, and it knows the server only from these settings.
        args["scaling"]["min_replicas"] = 0
        args["stream"].update(url=server.url, partitions=PARTITIONS)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        command = [str(Path(sys.executable).with_name("serve")), "run", "config.yaml"]
        # As an operator on a busy machine would: Ray's own limits are not ours to wait for.
        environment = {
            **os.environ,
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",
            "RAY_worker_niceness": "0",
        }
        process = start([*command, "--address", "local"], tmp_path, environment)
        try:
            ledger = await load(server.url)
            assert ledger.reasons() == {}
        finally:
            started = {each.pid for each in descendants(process.pid)}
            process.terminate()
            process.wait()
            await until(lambda: not started & {each.pid for each in processes()})


def start(
    command: list[str], folder: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log
        )


async def load(url: str) -> Ledger:
    client = connect(url, timeout_s=5.0)
    fleet = Fleet(client, CAMERAS, load_samples(), PARTITIONS)

    async def read() -> None:
        names = {keys.decisions(partition): "0" for partition in range(PARTITIONS)}
        async for _, decision in follow(client, names):
            fleet.ledger.decide(decision, time.monotonic())

    reading = asyncio.create_task(read())
    await fleet.play(lambda: iter([Phase(1, 5)]))
    await until(lambda: len(fleet.ledger.decided) == len(fleet.ledger.published), timeout_s=300)
    reading.cancel()
    await client.aclose()
    return fleet.ledger
