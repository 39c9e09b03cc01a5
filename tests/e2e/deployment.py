"""A deployment for end-to-end tests: a real server, real Ray, two replicas, simulated cameras."""

import asyncio
import json
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
from loadtest.counts import Counts
from loadtest.fleet import Fleet
from loadtest.scenario.arrivals import even_times
from loadtest.target import Target
from loadtest.task import lone_task
from tests.bundles import write_random_bundle
from workers.stream.backlog import read_backlog
from workers.stream.connection import connect
from workers.wire.decision import Decision, unpack_decision
from workers.wire.keyring import read_keys, write_keys
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


class Watched:
    """Simulated cameras, and all that is decided on this deployment meanwhile."""

    def __init__(self, url: str, partitions: int, key_file: Path) -> None:
        self.decisions: list[Decision] = []
        target = Target(url, partitions, key_file=key_file)
        task = lone_task(target, len(read_keys(key_file)), deadline_s=30.0)
        self.fleet = Fleet(task, lambda packed, *_: self.decisions.append(unpack_decision(packed)))

    async def play(self, *phases: tuple[float, float]) -> None:
        """Let the cameras send, each phase so many seconds at so many frames a second."""
        await self.fleet.play(even_times(phases))

    @property
    def counts(self) -> Counts:
        return self.fleet.book.counts

    @property
    def num_decided(self) -> int:
        return self.counts.said.total()

    def reasons(self) -> set[str]:
        """Return why frames of these cameras got no verdict."""
        return {said for _, _, said in self.counts.said} - {"bona_fide", "attack"}

    async def assert_exactly_once(self, patience_s: float = 180.0) -> None:
        """Wait until each frame has its decision, and see that none has two."""
        assert await self.fleet.settle(patience_s)
        book = self.fleet.book
        assert self.counts.statuses["steady", "acknowledged"] > 0
        assert (book.lost(), book.num_open) == ([], 0)
        assert (self.counts.doubled, self.counts.breaches, self.counts.unsigned) == (0, 0, 0)


@asynccontextmanager
async def watched(deployment: Deployment) -> AsyncIterator[Watched]:
    """Yield cameras of the deployment whose account is told of every decision."""
    key_file = deployment.config.settings.camera_keys
    assert key_file is not None
    made = Watched(deployment.url, deployment.partitions, key_file)
    async with made.fleet:
        yield made


async def assert_nothing_is_left(deployment: Deployment) -> None:
    client = connect(deployment.url)
    figures = await read_backlog(client, range(deployment.partitions))
    await client.aclose()
    assert [(each.entries, each.pending) for each in figures] == [(0, 0)] * deployment.partitions


async def until(condition: Any, timeout_s: float = 180.0) -> None:
    """Wait until `condition()` holds; fails after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)
