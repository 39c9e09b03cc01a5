"""The same run on a real deployment: Ray Serve starts, ends and replaces the replicas."""

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.e2e.deployment import Deployment, deployed
from tests.faults.faults import SERVER
from tests.faults.ledger import Camera, Ledger, Reader
from tests.faults.run import PARTITIONS, Fault, Run
from tests.faults.servers import connection
from tests.workers import frames
from tests.workers.stream.cluster import Node


class EmbeddedNode(Node):
    """The server that the deployment has started itself."""

    def restart(self) -> None:
        """See `Node.restart`."""
        self.server.kill()
        self.server.start()


class OnRay:
    """The server of a deployment, and the way to it."""

    is_cluster = False

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.port = deployment.server.port
        self.primary = EmbeddedNode(deployment.server, self.port)

    def admin(self, _: int = 0) -> "redis.Redis[bytes]":
        return connection(self.port, 10)

    def admins(self) -> list["redis.Redis[bytes]"]:
        return [self.admin()]

    def reader(self, _: int) -> "redis.Redis[bytes]":
        return connection(self.port)

    def add(self, partition: int, fields: dict[bytes, bytes]) -> str:
        with connection(self.port) as client:
            entry_id = client.xadd(f"livegate:{{{partition}}}:frames", fields)
        return str(entry_id.decode())


class RayReplicas:
    """The replicas that Serve keeps."""

    def __init__(self, deployment: Deployment) -> None:
        self.endings: Counter[int] = Counter()
        self._deployment = deployment

    def replica_pids(self) -> list[int]:
        return self._deployment.replica_pids()

    def signal(self, pid: int, number: int) -> None:
        if pid in self.replica_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            self.endings[-number] += number == signal.SIGKILL

    def failures(self) -> list[str]:
        return []

    def close(self) -> None:
        return


@contextmanager
def running_on_ray(folder: Path, *, seed: int, fps: float) -> Iterator[Run]:
    """Deploy, and let cameras send while the block runs."""
    planes: dict[str, Any] = {
        name: {"codec": plane.codec, "data": plane.data} for name, plane in frames.planes().items()
    }
    with deployed(folder) as deployment:
        assert deployment.partitions == PARTITIONS
        servers = OnRay(deployment)
        deadline_s = deployment.config.settings.deadline_ms / 1000
        # The network's weights are random: of good frames and attacks it may say what it likes.
        ledger = Ledger(deadline_s, judged=("old", "replay", "broken", "again"))
        reader = Reader(servers, ledger, PARTITIONS)
        cameras = []
        for number, (camera_id, key) in enumerate(deployment.camera_keys.items()):
            camera = Camera(camera_id, servers, ledger, PARTITIONS, fps, seed + number)
            camera.key, camera.planes = key, planes
            cameras.append(camera)
        for thread in (*cameras, reader):
            thread.start()
        try:
            made: Any = RayReplicas(deployment)
            yield Run(random.Random(seed), servers, made, cameras, ledger, reader)
        finally:
            for camera in cameras:
                camera.stop()
            reader.stop()


# Serve drains by itself, the network is the real one, and there is one server without proxies.
_NOT_HERE = {
    *("drain_replica", "poison", "hand_over", "cannot_save", "forbid_command"),
    *("cut_lines", "slow_lines", "lose_replies"),
}
RAY: dict[str, Fault] = {name: fault for name, fault in SERVER.items() if name not in _NOT_HERE}
