"""One run: servers, replicas and cameras, a schedule of faults, and the account at its end."""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from loadtest.stack import Stack
from tests.faults.ledger import Camera, Ledger, Reader
from tests.faults.servers import Clustered, Faked, Single
from workers.settings import StreamSettings, WorkerSettings

DEADLINE_MS = 3000
LEASE_MS = 1000
PARTITIONS = 4
QUIET_S = 600.0  # the patience of a run beside other load
_BESIDE = ("kill_replica", "drain_replica", "stop_replica")


class Replicas(Stack):
    """Replicas whose network is none; see there."""

    module = "tests.faults.replica"


@dataclass
class Run:
    """What a fault may lay its hands on."""

    random: random.Random
    servers: Any
    replicas: Replicas
    cameras: list[Camera]
    ledger: Ledger
    reader: Reader

    def hold(self, least_s: float, most_s: float) -> None:
        """Let a fault last."""
        time.sleep(self.random.uniform(least_s, most_s))

    def camera(self) -> Camera:
        return self.random.choice(self.cameras)


Fault = Callable[[Run], None]


@contextmanager
def running(
    servers: Single | Clustered | Faked, folder: Path, *, seed: int, fps: float
) -> Iterator[Run]:
    """Let cameras send and replicas decide while the block runs."""
    stream = StreamSettings(
        url=servers.url, cluster=servers.is_cluster, partitions=PARTITIONS, lease_ms=LEASE_MS
    )
    settings = WorkerSettings(
        stream=stream, allow_unsigned=True, deadline_ms=DEADLINE_MS, stall_s=20, max_camera_fps=1000
    )
    # While the server's clock is set back, ids are no times, the replicas' clocks run a hundredth
    # slower, and one that joins may lag by as much as a beat.
    is_faked = isinstance(servers, Faked)
    leeway_s = 0.01 * DEADLINE_MS / 1000 + LEASE_MS / 3000 if is_faked else 0
    ledger = Ledger(DEADLINE_MS / 1000 + leeway_s, are_ids_times=not is_faked)
    reader = Reader(servers, ledger, PARTITIONS)
    cameras = [
        Camera(f"gate-{number}", servers, ledger, PARTITIONS, fps, seed + number)
        for number in range(8)
    ]
    replicas = Replicas(settings, 3, folder)
    try:
        for thread in (*cameras, reader):
            thread.start()
        yield Run(random.Random(seed), servers, replicas, cameras, ledger, reader)
    finally:
        for camera in cameras:
            camera.stop()
        replicas.close()
        reader.stop()


def play(
    run: Run,
    faults: Mapping[str, Fault],
    count: int,
    played: Counter[str],
    say: Callable[[str], None],
) -> None:
    """Play `count` faults, each kind as often as the others, in an order that the seed chooses.

    They are counted in `played`.
    Every other one hits while a replica is killed, drained or stopped as well. After each one,
    decisions must go on: a frame that was sent after it must be decided.
    """
    names = [name for _ in range(count // len(faults) + 1) for name in faults]
    run.random.shuffle(names)
    beside = [name for name in _BESIDE if name in faults]
    _goes_on(run, "the start")
    while played.total() < count:
        both = [names[played.total() % len(names)]]
        if beside and run.random.random() < 0.5:
            both.append(run.random.choice(beside))
        began_s = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            for ending in [pool.submit(faults[name], run) for name in both]:
                ending.result()
        took_s = time.monotonic() - began_s
        again_s = _goes_on(run, "+".join(both))
        played.update(both)
        say(f"{played.total():4} {'+'.join(both):30} {took_s:5.1f} s, on again {again_s:5.2f} s")


def _goes_on(run: Run, name: str) -> float:
    began_s = time.monotonic()
    while time.monotonic() - began_s < QUIET_S:
        sent = {each.entry for each in list(run.ledger.sent) if each.sent_s > began_s}
        if any(entry in run.ledger.entries_said for entry in sent if entry):
            return time.monotonic() - began_s
        time.sleep(0.02)
    raise AssertionError(f"nothing is decided any more after {name}: {run.replicas.failures()}")


def settle(run: Run) -> dict[str, Any]:
    """Let what was sent be decided, and return the account; call it inside `running`."""
    for camera in run.cameras:
        camera.stop()
    end_s = time.monotonic() + QUIET_S
    while run.ledger.missing() and time.monotonic() < end_s:
        time.sleep(0.1)
    run.replicas.close()
    run.reader.stop()
    run.reader.read_all()
    account = run.ledger.account()
    left = []
    for partition in range(PARTITIONS):
        name, client = f"livegate:{{{partition}}}:frames", run.servers.admin(partition)
        left.append((client.xlen(name), client.xpending(name, "livegate")["pending"]))
    account["left"] = left
    account["endings"] = dict(run.replicas.endings)
    if left != [(0, 0)] * PARTITIONS:
        account["wrong"].append(f"entries, pending: {left}")
    account["wrong"] += [f"a replica ended by itself: {words}" for words in run.replicas.failures()]
    return account


def undone(action: Callable[[], Any], patience_s: float = 30.0) -> None:
    """Do what must be done, however long a server takes to be there again."""
    end_s = time.monotonic() + patience_s
    while True:
        try:
            action()
        except (RedisError, OSError):
            if time.monotonic() > end_s:
                raise
            time.sleep(0.05)
        else:
            return


def report(account: Mapping[str, Any]) -> str:
    return json.dumps({**account, "wrong": account["wrong"][:20]}, indent=1)
