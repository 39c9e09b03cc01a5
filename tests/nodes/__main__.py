"""A deployment on a real Ray cluster, as it is rendered: `python -m tests.nodes`.

A head and two nodes with a token, a Redis with TLS and the generated ACL, the rendered Serve config
by `serve deploy`, cameras by the stream and through the ingress. Under load: a redeployment that
replaces all replicas, a node that is killed, and a rollout as KubeRay does it, where a second
cluster joins the same consumer group before the first one leaves. Ends with one JSON line, and with
status 1 if a frame was lost or decided twice, or if too few replicas ran.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from deploy.cluster.kuberay import serve_config
from deploy.cluster.values import VALUES, load_values
from deploy.local.config import CONFIG
from tests.bundles import write_random_bundle
from tests.deploy.cluster.managed import managed_server
from tests.e2e.deployment import Watched
from tests.nodes.ray_nodes import RayCluster, ray_cluster
from tests.workers.frames import planes
from tests.workers.stream.cluster import until as is_seen
from workers.client.camera import Camera
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_REPLICAS = 2
_BEGAN_S = time.monotonic()
FPS = 20.0
BY_HTTP = "gate-http"


class Change(NamedTuple):
    """What was seen of a change: the fewest replicas that served, and how long it took, s."""

    least_running: int
    took_s: float


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="livegate-nodes-") as name:
        seen = asyncio.run(_run(Path(name)))
    print(json.dumps(seen))  # noqa: T201 - the result
    is_right = not seen["lost"] and not seen["doubled"]
    least = min(each["least_running"] for each in seen["changes"].values())
    return 0 if is_right and least >= NUM_REPLICAS - 1 else 1


async def _run(folder: Path) -> dict[str, Any]:
    cameras = {**{f"gate-{number}": new_key() for number in range(4)}, BY_HTTP: new_key()}
    write_keys(folder / "keys.json", cameras)
    changes: dict[str, Change] = {}
    with managed_server(folder, 4) as urls, ray_cluster(folder / "first", 2, 2) as first:
        assert first.is_closed_to("0" * 64)
        await deploy(first, config_of(folder, urls["worker"], first))
        watched = Watched(urls["admin"], 4, folder / "keys.json")
        async with watched.fleet:
            tell("redeploying")
            changes["redeployment"] = await under_load(
                watched, first, lambda: redeployed(first, folder, urls["worker"])
            )
            tell("killing a node")
            changes["node killed"] = await under_load(watched, first, lambda: node_killed(first))
            posted = await asyncio.to_thread(posts, first, cameras[BY_HTTP])
            tell("starting a second cluster")
            with ray_cluster(folder / "second", 2) as second:
                tell("rolling out")
                changes["rollout"] = await under_load(
                    watched, second, lambda: rolled_out(first, second, folder, urls["worker"])
                )
                posted += await asyncio.to_thread(posts, second, cameras[BY_HTTP])
                await watched.assert_exactly_once()
        counts = watched.counts
        return {
            "acknowledged": counts.statuses["steady", "acknowledged"],
            "decided": watched.num_decided,
            "reasons": sorted(watched.reasons()),
            "lost": len(watched.fleet.book.lost()),
            "doubled": counts.doubled,
            "by_http": posted,
            "changes": {name: each._asdict() for name, each in changes.items()},
        }


def config_of(folder: Path, url: str, cluster: RayCluster, **changes: Any) -> dict[str, Any]:
    """Return the rendered Serve config, with what only a pod would have put in its place."""
    config = serve_config(load_values([VALUES]), yaml.safe_load(CONFIG.read_text()))
    config["http_options"] = {"host": "127.0.0.1", "port": cluster.http_port}
    (application,) = config["applications"]
    (worker,) = application["deployments"]
    bundle = folder / "bundle"
    if not bundle.exists():
        write_random_bundle(bundle)
        (folder / "console-token").write_text("a" * 32)
        (folder / "console-token").chmod(0o600)
    application["args"].update(
        bundle=str(bundle),
        camera_keys=str(folder / "keys.json"),
        console={"token_file": str(folder / "console-token")},
        deadline_ms=60_000,  # what is shown here is what becomes of frames, not how fast
        **changes,
    )
    application["args"]["stream"]["url"] = url
    application["args"]["scaling"].update(min_replicas=NUM_REPLICAS, max_replicas=NUM_REPLICAS)
    worker["user_config"] = {}
    return config


async def deploy(cluster: RayCluster, config: dict[str, Any]) -> None:
    await asyncio.to_thread(cluster.serve_deploy, config)
    await until(lambda: len(cluster.running()) == NUM_REPLICAS)


async def redeployed(cluster: RayCluster, folder: Path, url: str) -> None:
    """Change an argument: Serve replaces every replica."""
    old = cluster.running()
    await deploy(cluster, config_of(folder, url, cluster, max_batch=4))
    await until(lambda: len(cluster.running().keys() - old.keys()) == NUM_REPLICAS)


async def node_killed(cluster: RayCluster) -> None:
    """Lose a node with what runs on it; the other one has room for all."""
    lost = next(iter(cluster.running().values()))
    await asyncio.to_thread(cluster.kill_node, lost)
    await until(
        lambda: len(nodes := cluster.running().values()) == NUM_REPLICAS and lost not in nodes
    )


async def rolled_out(first: RayCluster, second: RayCluster, folder: Path, url: str) -> None:
    """Change clusters as KubeRay does: the second decides from its first moment, beside the first.

    What share of the requests by HTTP it gets says nothing of the streams: both clusters are one
    consumer group. So they have to agree on all but what may differ while both decide.
    """
    await deploy(second, config_of(folder, url, second))
    await asyncio.sleep(3)
    tell("ending the first cluster")
    await asyncio.to_thread(first.stop)


def tell(what: str) -> None:
    print(f"{time.monotonic() - _BEGAN_S:6.1f} s  {what}", file=sys.stderr, flush=True)  # noqa: T201


async def under_load(
    watched: Watched, cluster: RayCluster, change: Callable[[], Awaitable[None]]
) -> "Change":
    """Make a change while cameras send, and wait for the decision on each frame."""
    async with looking(cluster) as seen:
        playing = asyncio.create_task(watched.play((600.0, FPS)))
        await asyncio.sleep(3)
        began_s = time.monotonic()
        await change()
        took_s = time.monotonic() - began_s
        await asyncio.sleep(3)
        playing.cancel()
        await asyncio.wait([playing])
    await watched.assert_exactly_once()
    return Change(min(seen), round(took_s, 1))


@asynccontextmanager
async def looking(cluster: RayCluster) -> AsyncIterator[list[int]]:
    """Count replicas that serve; while Serve reads a new config, it tells of none at all."""
    seen: list[int] = []

    async def look() -> None:
        while True:
            if running := await asyncio.to_thread(cluster.running):
                seen.append(len(running))
            await asyncio.sleep(0.2)

    task = asyncio.create_task(look())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])


def posts(cluster: RayCluster, key: bytes, count: int = 20) -> int:
    """Post frames through the ingress, one after the other; return how many were decided."""
    camera = Camera(f"http://127.0.0.1:{cluster.http_port}", BY_HTTP, key)
    for number in range(count):
        camera.publish(planes())
        is_seen(lambda number=number: camera.sent.acknowledged > number)
    camera.close()
    return camera.sent.acknowledged


async def until(condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
