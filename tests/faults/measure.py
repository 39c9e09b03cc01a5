"""What one replica costs, and how it fares: `python -m tests.faults.measure idle`, or another.

Each prints one JSON object a run. Latency is from XADD's begin to the read of the decision.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import redis

from tests.faults.ledger import Camera, Ledger, Reader
from tests.faults.run import Replicas
from tests.faults.servers import Clustered, Single, clustered, single
from tests.workers.stream.cluster import until
from workers.settings import StreamSettings, WorkerSettings

WINDOW_S = 10.0
SIZES = (4, 64, 256)


def settings_for(servers: Single | Clustered, partitions: int, **more: Any) -> WorkerSettings:
    stream = StreamSettings(url=servers.url, cluster=servers.is_cluster, partitions=partitions)
    return WorkerSettings(stream=stream, allow_unsigned=True, **more)


@contextmanager
def replicas(
    servers: Single | Clustered, folder: Path, count: int, settings: WorkerSettings
) -> Iterator[Replicas]:
    made = Replicas(settings, count, folder)
    try:
        yield made
    finally:
        made.close()


def idle(servers: Single | Clustered, folder: Path, partitions: int) -> dict[str, Any]:
    """Commands and CPU time a second of one replica that has nothing to do."""
    for client in servers.admins():
        client.flushall()
    with replicas(servers, folder, 1, settings_for(servers, partitions)) as made:
        key = "livegate:{0}:members"
        until(lambda: servers.admin().exists(key) or servers.is_cluster)
        time.sleep(4)
        pid = made.replica_pids()[0]
        before = [_cpu_s(client) for client in servers.admins()], _process_cpu_s(pid)
        time.sleep(WINDOW_S)
        after = [_cpu_s(client) for client in servers.admins()], _process_cpu_s(pid)
        asked, nested = _watched(servers)
    return {
        "partitions": partitions,
        "cluster": servers.is_cluster,
        "commands_per_s": round(asked / WINDOW_S, 1),
        "inside_scripts_per_s": round(nested / WINDOW_S, 1),
        "server_cpu_ms_per_s": round((sum(after[0]) - sum(before[0])) / WINDOW_S * 1000, 1),
        "replica_cpu_ms_per_s": round((after[1] - before[1]) / WINDOW_S * 1000, 1),
    }


def _cpu_s(client: "redis.Redis[bytes]") -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _watched(servers: Single | Clustered) -> tuple[int, int]:
    """Count what MONITOR shows in a window: commands that were sent, and those inside scripts."""
    counts = [0, 0]

    def watch(client: "redis.Redis[bytes]") -> None:
        with client.monitor() as monitor:
            end_s = time.monotonic() + WINDOW_S
            while time.monotonic() < end_s:
                try:
                    shown = monitor.next_command()
                except redis.TimeoutError:
                    return  # it was asked for nothing in all that time
                name = shown["command"].split(" ")[0].upper()
                if name not in ("REPLCONF", "PING", "INFO", "MONITOR", "HELLO", "CLIENT"):
                    counts[shown["client_type"] == "lua"] += 1

    watchers = [threading.Thread(target=watch, args=[each]) for each in servers.admins()]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(WINDOW_S + 15)
    return counts[0], counts[1]


class Bench:
    """Cameras at given rates, and how long their frames took."""

    def __init__(self, servers: Single | Clustered, partitions: int) -> None:
        self.servers = servers
        self.partitions = partitions
        self.ledger = Ledger(3600)
        self.reader = Reader(servers, self.ledger, partitions)
        self.reader.start()
        self.cameras: list[Camera] = []

    def camera(self, name: str, fps: float) -> Camera:
        made = Camera(name, self.servers, self.ledger, self.partitions, fps, len(self.cameras))
        made.kinds = ("good",)
        made.start()
        self.cameras.append(made)
        return made

    def stop(self) -> None:
        for camera in self.cameras:
            camera.stop()
        self.reader.stop()

    def latencies_ms(self, names: set[str], since_s: float, until_s: float) -> list[float]:
        seen = {
            (each.partition, each.body["entry_id"]): each.seen_s for each in list(self.ledger.said)
        }
        return sorted(
            (seen[each.entry] - each.sent_s) * 1000
            for each in list(self.ledger.sent)
            if each.camera_id in names and since_s <= each.sent_s < until_s and each.entry in seen
        )

    def window(self, names: set[str], seconds: float) -> dict[str, Any]:
        began_s = time.monotonic()
        time.sleep(seconds)
        ended_s = time.monotonic()
        time.sleep(4)
        return summary(self.latencies_ms(names, began_s, ended_s))


def summary(values_ms: list[float]) -> dict[str, Any]:
    if not values_ms:
        return {"frames": 0}
    return {
        "frames": len(values_ms),
        "p50_ms": round(statistics.median(values_ms), 1),
        "p99_ms": round(values_ms[int(len(values_ms) * 0.99)], 1),
    }


def in_partition(partition: int, partitions: int, prefix: str) -> str:
    names = (f"{prefix}-{number}" for number in range(10_000))
    return next(each for each in names if crc32(each.encode()) % partitions == partition)


def flood(servers: Single | Clustered, folder: Path, quota: int, turns: int) -> dict[str, Any]:
    """One camera at 800 frames/s beside eight at 5: their p99 with and without it, by turns."""
    for client in servers.admins():
        client.flushall()
    more = {"max_camera_fps": quota}
    ratios, pairs = [], []
    with replicas(servers, folder, 2, settings_for(servers, 4, **more)):
        bench = Bench(servers, 4)
        names = {bench.camera(f"gate-{number}", 5).camera_id for number in range(8)}
        time.sleep(8)
        for _ in range(turns):
            alone = bench.window(names, 20)
            flooding = Flood(servers, in_partition(0, 4, "flood"), 800)
            flooding.start()
            beside = bench.window(names, 20)
            rate = flooding.stop()
            pairs.append((alone, beside, round(rate)))
            ratios.append(beside["p99_ms"] / alone["p99_ms"])
            time.sleep(4)
        bench.stop()
    said: dict[str, int] = {}
    for each in bench.ledger.said:
        reason = str(each.body["reason"] or each.body["outcome"])
        said[reason] = said.get(reason, 0) + 1
    return {
        "quota": quota,
        "p99_ratios": [round(each, 2) for each in ratios],
        "median_ratio": round(statistics.median(ratios), 2),
        "alone, beside, flood_fps": pairs,
        "said": said,
    }


class Flood(threading.Thread):
    """One camera that sends as fast as it is told, several frames a round trip."""

    def __init__(self, servers: Single | Clustered, camera_id: str, fps: float) -> None:
        super().__init__(daemon=True)
        self._camera = Camera(camera_id, servers, Ledger(1), 4, 1, 0)
        self._servers = servers
        self._fps = fps
        self._end = threading.Event()
        self._count = 0
        self._took_s = 0.0

    def run(self) -> None:
        began_s = time.monotonic()
        name = f"livegate:{{{self._camera.partition}}}:frames"
        client = self._servers.admin(self._camera.partition)
        while not self._end.wait(0.02):
            due = int((time.monotonic() - began_s) * self._fps) - self._count
            pipe = client.pipeline(transaction=False)
            for _ in range(due):
                pipe.xadd(name, self._camera.next_fields())
            pipe.execute()
            self._count += due
        self._took_s = time.monotonic() - began_s

    def stop(self) -> float:
        """End, and return how many frames a second were sent."""
        self._end.set()
        self.join()
        return self._count / self._took_s


def pending(servers: Single | Clustered, folder: Path, count: int) -> dict[str, Any]:
    """What entries of a dead consumer do to the latency of new frames."""
    for client in servers.admins():
        client.flushall()
    with replicas(servers, folder, 1, settings_for(servers, 4)):
        bench = Bench(servers, 4)
        names = {bench.camera(f"gate-{number}", 5).camera_id for number in range(8)}
        time.sleep(5)
        alone = bench.window(names, 15)
        dead = Camera("dead-1", servers, Ledger(1), 4, 1, 0)
        name, client = f"livegate:{{{dead.partition}}}:frames", servers.admin(dead.partition)
        began_s = time.monotonic()
        for _ in range(count // 500):
            pipe = client.pipeline(transaction=True)  # so that no replica comes between
            for _ in range(500):
                pipe.xadd(name, dead.next_fields())
            pipe.xreadgroup("livegate", "dead-replica", {name: ">"}, count=500)
            pipe.execute()
        filled_s = time.monotonic() - began_s
        began_s = time.monotonic()
        while client.xpending(name, "livegate")["pending"] > 50:
            time.sleep(0.1)
        ended_s = time.monotonic()
        time.sleep(4)
        beside = summary(bench.latencies_ms(names, began_s, ended_s))
        bench.stop()
    return {
        "pending": count,
        "filled_in_s": round(filled_s, 1),
        "gone_after_s": round(ended_s - began_s, 1),
        "alone": alone,
        "beside": beside,
    }


def hung(servers: Clustered, folder: Path) -> dict[str, Any]:
    """What a primary that hangs does to the latency on the others."""
    for client in servers.admins():
        client.flushall()
    with replicas(servers, folder, 2, settings_for(servers, 4)):
        bench = Bench(servers, 4)
        hung_port = servers.port_of(0)
        for partition in range(4):
            if servers.port_of(partition) != hung_port:
                for number in range(2):
                    bench.camera(in_partition(partition, 4, f"gate{number}"), 5)
        names = {each.camera_id for each in bench.cameras}
        bench.reader.skip({each for each in range(4) if servers.port_of(each) == hung_port})
        time.sleep(5)
        alone = bench.window(names, 15)
        pid = int(servers.admin(0).info("server")["process_id"])
        os.kill(pid, signal.SIGSTOP)
        try:
            beside = bench.window(names, 15)
        finally:
            os.kill(pid, signal.SIGCONT)
        bench.stop()
    return {"alone": alone, "beside": beside}


def runs(what: str, folder: Path, quotas: list[int], turns: int) -> Iterator[dict[str, Any]]:
    """Yield the figures of each run of a measurement."""
    if what != "hung":
        with single(folder / "single") as server:
            if what == "pending":
                yield pending(server, folder, 10_000)
            for quota in quotas if what == "flood" else []:
                yield flood(server, folder, quota, turns)
            for partitions in SIZES if what == "idle" else ():
                yield idle(server, folder, partitions)
    if what in ("idle", "hung"):
        with clustered(folder / "cluster") as cluster:
            if what == "hung":
                yield hung(cluster, folder)
            for partitions in SIZES if what == "idle" else ():
                yield idle(cluster, folder, partitions)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.measure")
    parser.add_argument("what", choices=("idle", "pending", "hung", "flood"))
    parser.add_argument("--quotas", default="30,100000")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    quotas = [int(each) for each in args.quotas.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        for figures in runs(args.what, Path(folder), quotas, args.turns):
            print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
