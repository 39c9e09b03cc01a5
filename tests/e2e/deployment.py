"""A deployment for end-to-end tests: a real server, real Ray, two replicas, simulated cameras."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.config import ServeConfig, load_config
from deploy.local.ports import free_port
from deploy.local.processes import descendants
from deploy.local.server import EmbeddedServer, embedded_server
from deploy.local.stack import serve_application
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

    server: EmbeddedServer
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
        self.server.kill()
        self.server.start()

    def status(self) -> dict[str, Any]:
        """Ask any one replica."""
        with urllib.request.urlopen(f"{self.config.http_url}/v1/status", timeout=60) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def replica_pids(self) -> list[int]:
        """Return the processes of this deployment's replicas, none of any other."""
        return sorted(
            process.pid
            for process in descendants()
            if process.title.startswith("ray::ServeReplica:livegate")
        )


@contextmanager
def deployed(folder: Path, metrics_port: int = 0) -> Iterator[Deployment]:
    """Run a deployment with two replicas while the block runs."""
    camera_keys = {f"gate-{number}": new_key() for number in range(NUM_CAMERAS)}
    write_keys(folder / "keys.json", camera_keys)
    with embedded_server(folder / "server", free_port()) as server:
        config = load_config().with_redis(server.url).with_http_port(free_port())
        config = config.with_args(
            camera_keys=folder / "keys.json",
            bundle=str(write_random_bundle(folder / "bundle")),
            # What is shown here is what becomes of frames, not how fast: beside other load, too.
            deadline_ms=30_000,
            scaling=config.settings.scaling.model_copy(
                update={"min_replicas": 2, "max_replicas": 2}
            ),
        )
        with serve_application(config, metrics_port=metrics_port):
            yield Deployment(server, config, camera_keys)


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


async def until(condition: Any, timeout_s: float = 180.0) -> None:
    """Wait until `condition()` holds; fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
