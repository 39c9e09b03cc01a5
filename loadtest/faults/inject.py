"""The faults of a scenario, each at its time: begun, logged, and undone whatever happens.

What is wrong with frames, and cameras that lose their lines, the senders see to themselves; here
it is logged only.
"""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from loadtest.faults.proxy import Proxy
from loadtest.faults.servers import cannot_save, config, fail_over, undone
from loadtest.scenario.faults import (
    Fault,
    ModelSwapped,
    NetworkCut,
    NetworkSlow,
    ReplicaFault,
    ReplicaHeld,
    ServerFault,
    ServerHeld,
    SlowDisk,
)
from loadtest.scenario.quantities import told_s
from loadtest.target import Controls, Target
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.stream.server import Server
from workers.wire import keys
from workers.wire.server_url import parse_server_url

Log = Callable[[str, str], None]
_PULSE_S = 0.1
_SLOW_STOPPED = 0.75


def missing_means(fault: Fault, target: Target) -> str:
    """Return why a fault can't be played on a deployment; empty if it can."""
    controls = target.controls
    if isinstance(fault, ReplicaFault | ReplicaHeld) and controls is None:
        return "the replicas must run on this machine: add --local"
    if isinstance(fault, ModelSwapped) and (controls is None or controls.swap_model is None):
        return "the replicas must be ones that this command starts: add --local"
    if isinstance(fault, ServerFault):
        return _missing_server(fault, target)
    if isinstance(fault, ServerHeld) and fault.do == "fill the disk" and controls is None:
        return "the server's folder must be on this machine: add --local"
    if isinstance(fault, NetworkCut | NetworkSlow):
        return _missing_proxy(fault.of, target)
    return ""


def _missing_server(fault: ServerFault, target: Target) -> str:
    if fault.do == "restart the server":
        can_restart = target.controls is not None and target.controls.restart_server is not None
        told = "the server must be one that this command starts: add --local"
        return "" if can_restart else told
    can_fail_over = target.cluster or parse_server_url(target.url).service
    told = "there must be one to take over: a Redis Cluster (--cluster), or Sentinels"
    return "" if can_fail_over else told


def _missing_proxy(of: str, target: Target) -> str:
    url = parse_server_url(target.url)
    if of in ("cameras", "both") and (
        target.cluster or url.service or url.is_tls or url.socket or not url.hosts
    ):
        return "the proxy stands before one server, redis://: no cluster, Sentinels, TLS or socket"
    if of in ("replicas", "both") and (target.controls is None or target.controls.proxy is None):
        return "the replicas must be ones that this command starts: add --local"
    return ""


class Injector:
    """Plays the faults of one run."""

    def __init__(
        self, target: Target, servers: Servers, camera_proxy: Proxy | None, seed: int, log: Log
    ) -> None:
        """Play nothing yet.

        Args:
            target: the deployment.
            servers: a connection to it that no fault stands in the way of.
            camera_proxy: that the senders go through.
            seed: chooses which replica, which server.
            log: called with what is done, and "began", "ended" or why it failed.
        """
        self._target, self._servers = target, servers
        self._camera_proxy = camera_proxy
        self._order = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self._log = log

    async def play(self, faults: Sequence[Fault], now_s: Callable[[], float]) -> None:
        """Play the faults, several at once where they overlap; `now_s` is the run's clock."""
        async with asyncio.TaskGroup() as playing:
            for fault in faults:
                playing.create_task(self._play(fault, now_s))

    async def _play(self, fault: Fault, now_s: Callable[[], float]) -> None:
        await asyncio.sleep(max(0.0, fault.at - now_s()))
        lasts_s = getattr(fault, "lasts", 0.0)
        what = fault.do + (f" for {told_s(lasts_s)}" if lasts_s else "")
        self._log(what, "began")
        try:
            async with self._begun(fault) as goes_on:
                end_s = fault.at + lasts_s
                while (left_s := end_s - now_s()) > 0:
                    await (goes_on() if goes_on else asyncio.sleep(left_s))
        except FAILURES as error:  # a ProcessLookupError is an OSError
            self._log(what, f"failed: {error}")
        else:
            self._log(what, "ended")

    @asynccontextmanager
    async def _begun(self, fault: Fault) -> AsyncIterator[Callable[[], Any] | None]:
        """Begin a fault and undo it; what is yielded is done over and over while it lasts."""
        match fault:
            case ReplicaHeld():
                pid = self._replica()
                with _standing_again(pid):
                    is_slow = fault.do == "slow a replica"
                    if not is_slow:
                        os.kill(pid, signal.SIGSTOP)
                    yield (lambda: _pulse(pid, _PULSE_S * _SLOW_STOPPED)) if is_slow else None
            case SlowDisk():
                yield await self._slow_disk(fault.by)
            case ServerHeld():
                async with self._held(fault):
                    yield None
            case NetworkCut() | NetworkSlow():
                with _disturbed(self._proxies(fault.of), fault):
                    yield None
            case _:
                await self._hit(fault)
                yield None

    async def _hit(self, fault: Fault) -> None:
        """Do what needs no undoing; what is the senders' own is nothing to be done here."""
        if isinstance(fault, ReplicaFault):
            self._hit_replicas(fault)
        elif isinstance(fault, ModelSwapped):
            await asyncio.to_thread(_given(self._controls.swap_model))
        elif isinstance(fault, ServerFault):
            await self._hit_server(fault)

    @property
    def _controls(self) -> Controls:
        assert self._target.controls is not None  # noqa: S101 - `missing_means` saw to it
        return self._target.controls

    def _replica(self) -> int:
        pids = self._controls.replica_pids()
        if not pids:
            raise ProcessLookupError("no replica runs")
        return self._order.choice(pids)

    def _hit_replicas(self, fault: ReplicaFault) -> None:
        if fault.do == "kill all replicas":
            for pid in self._controls.replica_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            number = signal.SIGTERM if fault.do == "drain a replica" else signal.SIGKILL
            os.kill(self._replica(), number)

    async def _hit_server(self, fault: ServerFault) -> None:
        if fault.do == "restart the server":
            await asyncio.to_thread(_given(self._controls.restart_server))
        elif self._target.cluster:
            await fail_over(self._servers, self._order)
        else:
            service = parse_server_url(self._target.url).service
            await self._sentinel_failover(service)

    async def _sentinel_failover(self, service: str) -> None:
        from workers.stream.pool import pool_of  # noqa: PLC0415 - only here

        url = parse_server_url(self._target.url)
        pool = pool_of(url, self._order.choice(url.hosts), url.sentinel_login, 5.0)
        sentinel = Server(pool)
        try:
            await sentinel.execute("SENTINEL FAILOVER", service)
        finally:
            await pool.disconnect()

    async def _slow_disk(self, by_s: float) -> Callable[[], Any]:
        """With `appendfsync always`, a slow disk is a server that stands still at each write."""
        pids = self._controls.server_pids() if self._target.controls else []
        if pids:
            pid = self._order.choice(pids)
            return lambda: _pulse(pid, by_s)
        server = await self._servers.of(keys.frames(0))

        async def pause() -> None:
            await server.execute("CLIENT PAUSE", int(by_s * 1000), "ALL")
            await asyncio.sleep(_PULSE_S)

        return pause

    @asynccontextmanager
    async def _held(self, fault: ServerHeld) -> AsyncIterator[None]:
        server = await self._servers.of(keys.frames(self._order.randrange(self._target.partitions)))
        if fault.do == "pause the server":
            pids = self._controls.server_pids() if self._target.controls else []
            if not pids:
                await server.execute("CLIENT PAUSE", int(fault.lasts * 1000), "ALL")
                yield
                return
            pid = self._order.choice(pids)
            with _standing_again(pid):
                os.kill(pid, signal.SIGSTOP)
                yield
        elif fault.do == "fill the memory":
            before = await config(server, "maxmemory")
            async with undone(lambda: server.execute("CONFIG SET", "maxmemory", before)):
                await server.execute("CONFIG SET", "maxmemory", 1)
                yield
        else:
            async with cannot_save(server):
                yield

    def _proxies(self, of: str) -> list[Proxy]:
        found = []
        if of in ("cameras", "both") and self._camera_proxy is not None:
            found.append(self._camera_proxy)
        if of in ("replicas", "both") and self._controls.proxy is not None:
            found.append(self._controls.proxy)
        return found


def _given(action: Callable[[], None] | None) -> Callable[[], None]:
    assert action is not None  # noqa: S101 - `missing_means` saw to it
    return action


async def _pulse(pid: int, stopped_s: float) -> None:
    with _standing_again(pid):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(stopped_s)
    await asyncio.sleep(max(0.0, _PULSE_S - stopped_s))


class _standing_again:  # noqa: N801 - used as a function is
    """Let a process go on at the end, if it is still there."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)


class _disturbed:  # noqa: N801 - used as a function is
    """Have proxies cut or slow while the block runs."""

    def __init__(self, proxies: Sequence[Proxy], fault: NetworkCut | NetworkSlow) -> None:
        self._proxies, self._fault = proxies, fault

    def __enter__(self) -> None:
        for proxy in self._proxies:
            if isinstance(self._fault, NetworkSlow):
                proxy.delay(self._fault.by)
            elif self._fault.do == "lose replies":
                proxy.lose_replies()
            else:
                proxy.cut()

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies:
            proxy.delay(0)
            if self._fault.do == "lose replies":
                proxy.cut()  # the answers that come next would be taken for those that were lost
            proxy.join()
