"""Ray clusters of several nodes on this machine, as `ray start` makes them, behind a token."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.local.ports import free_port
from deploy.local.processes import descendants
from tests.workers.stream.cluster import until

_COMMANDS = Path(sys.executable).parent


@dataclass
class RayCluster:
    """A head that runs no replicas, and the nodes that do.

    Attributes:
        folder: where its configs and logs are.
        token: without it nobody may ask or run anything.
        http_port: of the ingress, on each node.
        nodes: the process of each node that runs, by its id; the head is the first.
    """

    folder: Path
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    http_port: int = field(default_factory=free_port)
    nodes: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=lambda: {n: free_port() for n in ("gcs", "web")})

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            # As an operator on a busy machine would: Ray's own limits are not ours to wait for.
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",
            "RAY_gcs_server_port_wait_time_s": "300",
            "RAY_agent_register_timeout_ms": "600000",
        }

    def start_head(self, temp: str) -> None:
        self._start(
            *("--head", f"--port={self._ports['gcs']}", f"--dashboard-port={self._ports['web']}"),
            # Ray's client is not needed: none is started, and none can fail to start.
            *("--dashboard-host=127.0.0.1", "--ray-client-server-port=0"),
            *(f"--temp-dir={temp}", "--num-cpus=0"),
        )

    def start_node(self, num_cpus: int) -> None:
        self._start(f"--address=127.0.0.1:{self._ports['gcs']}", f"--num-cpus={num_cpus}")

    def kill_node(self, name: str) -> None:
        """End a node as a machine that loses power does: all of it, at once."""
        node = self.nodes.pop(name)
        for each in descendants(node.pid):
            os.kill(each.pid, signal.SIGKILL)
        node.kill()
        node.wait()

    def stop(self) -> None:
        """End all nodes in order, the head last."""
        for node in reversed(self.nodes.values()):
            node.terminate()
            node.wait()
        self.nodes.clear()

    def serve_deploy(self, config: dict[str, Any]) -> None:
        """Give it a Serve config by the command that an operator would use."""
        path = self.folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [_COMMANDS / "serve", "deploy", str(path)]
        address = f"http://127.0.0.1:{self._ports['web']}"
        subprocess.run(
            [*command, "--address", address],
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def running(self) -> dict[str, str]:
        """Return the node of each replica that serves, by the replica's id."""
        answer = self.ask("/api/serve/applications/")
        while answer is None:
            time.sleep(0.1)
            answer = self.ask("/api/serve/applications/")
        return {
            each["replica_id"]: each["node_id"]
            for application in answer["applications"].values()
            for deployment in application["deployments"].values()
            for each in deployment["replicas"]
            if each["state"] == "RUNNING"
        }

    def ask(self, path: str) -> Any:
        """Return the answer of the head's REST API; None: it is not there yet."""
        url = f"http://127.0.0.1:{self._ports['web']}{path}"
        headers = {"Authorization": f"Bearer {self.token}"}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, headers=headers), timeout=10
            ) as answer:
                return json.load(answer)
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return None

    def is_closed_to(self, token: str) -> bool:
        """Say whether the REST API turns somebody with another token away."""
        url = f"http://127.0.0.1:{self._ports['web']}/api/serve/applications/"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10).close()
        except urllib.error.HTTPError as error:
            return error.code in (401, 403)
        return False

    def _alive(self) -> set[str]:
        answer = self.ask("/nodes?view=summary")
        found = [each["raylet"] for each in answer["data"]["summary"]] if answer else []
        return {each["nodeId"] for each in found if each.get("state") == "ALIVE"}

    def _start(self, *options: str) -> None:
        before = self._alive() if self.nodes else set[str]()
        command = [_COMMANDS / "ray", "start", "--block", "--node-ip-address=127.0.0.1", *options]
        with (self.folder / f"node-{len(self.nodes)}.log").open("w") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.nodes[""] = process  # to be ended, if it gets no further

        def is_there() -> set[str]:
            assert process.poll() is None, f"a node ended: see {log.name}"
            return self._alive() - before

        (name,) = until(is_there, 600)
        self.nodes[name] = self.nodes.pop("")


@contextmanager
def ray_cluster(folder: Path, *cpus: int) -> Iterator[RayCluster]:
    """Run a cluster while the block runs, with a node of so many CPUs each."""
    folder.mkdir()
    with ExitStack() as stack:
        # A short name: Ray makes sockets in it.
        temp = tempfile.mkdtemp(prefix="lg-", dir="/tmp")
        stack.callback(shutil.rmtree, temp, ignore_errors=True)
        cluster = RayCluster(folder)
        stack.callback(cluster.stop)
        cluster.start_head(temp)
        for num_cpus in cpus:
            cluster.start_node(num_cpus)
        yield cluster
