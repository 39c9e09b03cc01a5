"""The faults, by name: what a run may suffer, and what ends it again."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from loadtest.faults.servers import cannot_save as failing_snapshots
from tests.faults.run import LEASE_MS, Fault, Run, undone
from tests.workers.stream.cluster import until
from workers.stream.connection import connect
from workers.wire import keys

MAX_ID = f"{2**64 - 1}-{2**64 - 1}"
NEEDED = (
    *("evalsha", "xadd", "xack", "xdel", "xclaim", "xpending", "xreadgroup", "zadd", "zscore"),
    *("zcount", "xrevrange", "hset", "hgetall", "time", "xinfo|stream"),
)


# --- replicas ---


def kill_replica(run: Run) -> None:
    run.replicas.signal(run.random.choice(run.replicas.replica_pids() or [0]), signal.SIGKILL)


def drain_replica(run: Run) -> None:
    run.replicas.signal(run.random.choice(run.replicas.replica_pids() or [0]), signal.SIGTERM)


def stop_replica(run: Run) -> None:
    """Beyond its lease: what it holds is another one's when it goes on."""
    pid = run.random.choice(run.replicas.replica_pids() or [0])
    run.replicas.signal(pid, signal.SIGSTOP)
    run.hold(1.2 * LEASE_MS / 1000, 2.5 * LEASE_MS / 1000)
    run.replicas.signal(pid, signal.SIGCONT)


def kill_all_replicas(run: Run) -> None:
    for pid in run.replicas.replica_pids():
        run.replicas.signal(pid, signal.SIGKILL)


def poison(run: Run) -> None:
    """A frame that ends whoever works on it, until it is given up on, or is too old."""
    began_s, ended = time.monotonic(), run.replicas.endings[-signal.SIGKILL]
    run.camera().poison = 1

    def has_come_to_nothing() -> bool:
        sent = (each for each in reversed(run.ledger.sent) if each.sent_s >= began_s)
        return any(
            each.kind == "poison" and (not each.entry or each.entry in run.ledger.entries_said)
            for each in sent
        )

    until(lambda: run.replicas.endings[-signal.SIGKILL] > ended or has_come_to_nothing())


# --- the server ---


def _pid(client: Any) -> int:
    return int(client.info("server")["process_id"])


def kill_server(run: Run) -> None:
    run.servers.primary.restart()


def hang_server(run: Run) -> None:
    pid = _pid(run.servers.admin())
    os.kill(pid, signal.SIGSTOP)
    try:
        run.hold(1, 5)
    finally:
        os.kill(pid, signal.SIGCONT)


def kill_connections(run: Run) -> None:
    for client in run.servers.admins():
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def cut_lines(run: Run) -> None:
    for _ in range(run.random.randint(1, 4)):
        for proxy in (run.servers.replica_proxy, run.servers.camera_proxy):
            proxy.cut()
            proxy.join()
        run.hold(0.01, 0.2)


def slow_lines(run: Run) -> None:
    run.servers.replica_proxy.delay(run.random.uniform(0.01, 0.3))
    run.hold(0.5, 2)
    run.servers.replica_proxy.delay(0)


def lose_replies(run: Run) -> None:
    proxy = run.random.choice([run.servers.replica_proxy, run.servers.camera_proxy])
    proxy.lose_replies()
    run.hold(0.1, 2.5)
    proxy.cut()
    proxy.join()


def hand_over(run: Run) -> None:
    run.servers.hand_over()


def _with_config(run: Run, name: str, value: Any, ordinary: Any, most_s: float = 2.0) -> None:
    clients = run.servers.admins()
    try:
        for client in clients:
            client.config_set(name, value)
        run.hold(0.3, most_s)
    finally:
        for client in clients:
            undone(lambda client=client: client.config_set(name, ordinary))


def no_replicas(run: Run) -> None:
    _with_config(run, "min-replicas-to-write", 5, 0)


def full_server(run: Run) -> None:
    """And a replica joins it."""
    kill_replica(run)
    _with_config(run, "maxmemory", 1, 0, most_s=4)


def cannot_save(run: Run) -> None:
    """MISCONF: the server takes no writes after a snapshot that failed."""

    async def hold() -> None:
        servers = connect(f"redis://127.0.0.1:{run.servers.primary.port}", timeout_s=10)
        async with failing_snapshots(await servers.of(keys.frames(0))):
            await asyncio.sleep(run.random.uniform(0.3, 2))
        await servers.aclose()

    asyncio.run(hold())


def lose_everything(run: Run) -> None:
    for camera in run.cameras:
        camera.forget()
    began_s = time.monotonic()
    time.sleep(0.1)
    for client in run.servers.admins():
        client.flushall()
    time.sleep(0.1)
    for camera in run.cameras:
        camera.forget()
    run.ledger.excuse(began_s)


def forbid_command(run: Run) -> None:
    command = run.random.choice(NEEDED)
    client = run.servers.admin()
    client.execute_command("ACL", "SETUSER", "worker", f"-{command}")
    try:
        run.hold(0.3, 1.5)
    finally:
        client.execute_command("ACL", "SETUSER", "worker", "+@all")


# --- the server's clock ---


def _with_clock(run: Run, ahead_s: int) -> None:
    """Set it, let a replica join meanwhile, and set it right again."""
    run.servers.set_clock(ahead_s)
    _goes_on_with_verdicts(run)
    kill_replica(run)
    run.hold(3, 5)  # longer than the deadline: what was there before must expire
    _goes_on_with_verdicts(run)
    run.servers.set_clock(0)


def _goes_on_with_verdicts(run: Run) -> None:
    began_s, ledger = time.monotonic(), run.ledger

    def decided() -> bool:
        fresh = (each for each in reversed(ledger.said) if each.not_before_s >= began_s)
        return any(each.body["outcome"] == "bona_fide" for each in fresh)

    until(decided)


def back_ten_seconds(run: Run) -> None:
    _with_clock(run, -10)


def back_an_hour(run: Run) -> None:
    _with_clock(run, -3600)


# --- keys ---


def _swapped(run: Run, partition: int, key: str, spoil: Callable[[Any], None]) -> None:
    """Put something else in a key's place for a while; what was there comes back."""
    client = run.servers.admin(partition)
    aside = f"livegate:{{{partition}}}:aside"
    try:
        client.rename(key, aside)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
    spoil(client)
    try:
        run.hold(0.3, 1.5)
    finally:

        def restore() -> None:
            pipe = run.servers.admin(partition).pipeline()
            pipe.delete(key)
            if run.servers.admin(partition).exists(aside):
                pipe.rename(aside, key)
            pipe.execute()

        undone(restore)


def wrong_type(run: Run) -> None:
    camera = run.camera()
    prefix = f"livegate:{{{camera.partition}}}:"
    key = prefix + run.random.choice(
        [
            *("frames", "decisions", f"decisions:{camera.camera_id}", "dead"),
            *(f"seen:{camera.camera_id}:unsigned", "members"),
        ]
    )
    _swapped(run, camera.partition, key, lambda client: client.set(key, "x"))


def last_id(run: Run) -> None:
    """A stream that can take no entry any more."""
    camera = run.camera()
    prefix = f"livegate:{{{camera.partition}}}:decisions"
    key = run.random.choice([prefix, f"{prefix}:{camera.camera_id}"])
    _swapped(run, camera.partition, key, lambda client: client.xadd(key, {"d": "x"}, id=MAX_ID))


REPLICAS: dict[str, Fault] = {
    each.__name__: each
    for each in (kill_replica, drain_replica, stop_replica, kill_all_replicas, poison)
}
KEYS: dict[str, Fault] = {each.__name__: each for each in (wrong_type, last_id)}
CLOCK: dict[str, Fault] = {
    each.__name__: each
    for each in (back_ten_seconds, back_an_hour, kill_replica, kill_all_replicas, stop_replica)
}
SERVER: dict[str, Fault] = {
    **REPLICAS,
    **KEYS,
    **{
        each.__name__: each
        for each in (
            *(kill_server, hang_server, kill_connections, cut_lines, slow_lines, lose_replies),
            *(hand_over, no_replicas, full_server, cannot_save, lose_everything, forbid_command),
        )
    },
}
