"""Connections to one Redis or Valkey server, or to each primary of a Redis Cluster.

Sentinels are asked for their server as a cluster is asked for its map: it is one with one shard.

Why not redis-py's own cluster client: it asks one node, by turns, where a key is and what the
cluster looks like, and all commands wait for that answer. With that node gone or hung, the healthy
shards stand still. Here each server has connections of its own, the slot of a key is computed, and
the map of slots is asked of all known servers at once: the first answer counts.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Any

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError
from redis.exceptions import ConnectionError as LineError

from workers.stream.failure import FAILURES, failure_of
from workers.stream.pool import check, pool_of
from workers.stream.server import Script, Server, run_script
from workers.wire.server_url import Credentials, ServerUrlError, parse_server_url

_NUM_SLOTS = 16384
_MAP_TIMEOUT_S = 1.0
_MAP_PAUSE_S = 0.2

_log = logging.getLogger(__name__)

Address = tuple[str, int]
# First slot, last slot, their primary, its replicas.
_Row = tuple[int, int, Address, list[Address]]


class Servers:
    """All servers of a deployment that take writes; a single one is a cluster of one."""

    def __init__(self, url: str, *, cluster: bool, timeout_s: float) -> None:
        """Make the first clients; nothing is sent before the first command.

        Raises:
            ServerUrlError: the URL can't be used, or a file that it names.
        """
        self._url = parse_server_url(url)
        check(self._url)
        if cluster and (self._url.socket or self._url.service):
            raise ServerUrlError("a cluster is named by one of its servers: redis:// or rediss://")
        if len(self._url.hosts) > 1 and not (cluster or self._url.service):
            raise ServerUrlError("name one host; several are for a cluster, with cluster: true")
        self._timeout_s = timeout_s
        self.is_cluster = cluster
        self._has_map = cluster or bool(self._url.service)
        login = self._url.sentinel_login if self._url.service else self._url.login
        # Whom the map is asked of first; where there is none, the one server itself.
        self._guides = [self._server(address, login) for address in self._url.hosts or (None,)]
        self._by_address: dict[Address, Server] = {}
        self._known: set[Address] = set()
        self._slots: dict[int, Server] = {}
        self.version = 0  # of the map of slots
        self._mapping: asyncio.Task[None] | None = None
        self._map_at_s = 0.0

    async def of(self, key: str) -> Server:
        """Return the server that has a key.

        Raises:
            redis.exceptions.ConnectionError: no server of the cluster answers, or none has it.
        """
        if not self._has_map:
            return self._guides[0]
        slot = key_slot(key.encode())
        if slot not in self._slots:
            await self._learn()
        if slot not in self._slots:
            raise LineError(f"no server is known to have {key}")
        return self._slots[slot]

    def owner_of(self, key: str) -> Server | None:
        """Return the server that has a key, as far as is known."""
        return self._slots.get(key_slot(key.encode())) if self._has_map else self._guides[0]

    async def groups(self, names: Iterable[str]) -> list[list[str]]:
        """Return keys in groups, one for each server that has any of them.

        Raises:
            redis.exceptions.ConnectionError: as `of`.
        """
        found: dict[Server, list[str]] = {}
        for name in names:
            found.setdefault(await self.of(name), []).append(name)
        return list(found.values())

    async def execute(self, key: str, *args: Any) -> Any:  # noqa: ANN401
        """Run one command on the server that has `key`, and follow one redirection.

        Raises:
            redis.exceptions.RedisError: it failed; `workers.stream.failure` says what that means.
        """
        server = await self.of(key)
        try:
            return await server.execute(*args)
        except MovedError as moved:
            target = self.at((moved.host, moved.port))
            self._slots[moved.slot_id] = target
            self.version += 1
            return await target.execute(*args)
        except AskError as ask:
            return await self.at((ask.host, ask.port)).execute_asking(*args)

    async def run(self, script: Script, names: list[str], args: Iterable[Any]) -> Any:  # noqa: ANN401
        """Run a script whose keys are all on one server; see `execute`."""

        async def execute(*command: Any) -> Any:  # noqa: ANN401
            return await self.execute(names[0], *command)

        return await run_script(execute, script, names, args)

    async def run_all(
        self, script: Script, calls: Iterable[tuple[list[str], list[Any]]]
    ) -> list[Any]:
        """Run a script several times, in one go a server; each call's keys are on one server.

        Args:
            script: to run.
            calls: keys and arguments of each.

        Returns:
            Of each call what `run` returns, or the error, one of `FAILURES`, that it raises.
        """
        waiting = list(calls)
        answers: list[Any] = [None] * len(waiting)
        by_server: dict[Server, list[int]] = {}
        for at, (names, _) in enumerate(waiting):
            try:
                by_server.setdefault(await self.of(names[0]), []).append(at)
            except FAILURES as error:
                answers[at] = error

        async def run_some(server: Server, some: list[int]) -> None:
            commands = [
                ("EVALSHA", script.sha, len(names), *names, *args)
                for names, args in (waiting[at] for at in some)
            ]
            try:
                found = await server.execute_all(commands)
            except FAILURES as error:
                found = [error] * len(some)
            for at, answer in zip(some, found, strict=True):
                answers[at] = answer
                if isinstance(answer, NoScriptError | MovedError | AskError):
                    answers[at] = await self._run_or_error(script, *waiting[at])

        await asyncio.gather(*(run_some(*each) for each in by_server.items()))
        return answers

    async def _run_or_error(self, script: Script, names: list[str], args: list[Any]) -> Any:  # noqa: ANN401
        try:
            return await self.run(script, names, args)
        except FAILURES as error:
            return error

    async def aclose(self) -> None:
        """Close all connections."""
        if self._mapping is not None:
            self._mapping.cancel()
            await asyncio.wait([self._mapping])
        for server in (*self._guides, *self._by_address.values()):
            await server.client.aclose()
            await server.client.connection_pool.disconnect()

    def refresh(self, age_s: float) -> None:
        """Ask for the map of slots in the background, if it is older than that.

        A command is redirected from a slot that has moved; who only waits for entries is not.
        """
        if time.monotonic() - self._map_at_s > age_s:
            self.look_again()

    def look_again(self) -> None:
        """Ask for the map of slots in the background: whoever saw that it is old does not wait."""
        if self._has_map and (self._mapping is None or self._mapping.done()):
            self._mapping = asyncio.create_task(self._learn_later())

    async def _learn_later(self) -> None:
        await asyncio.sleep(max(0.0, self._map_at_s + _MAP_PAUSE_S - time.monotonic()))
        try:
            await self._learn()
        except FAILURES as error:
            _log.warning("nobody says which server has what: %s", error)

    async def _learn(self) -> None:
        self._map_at_s = time.monotonic()
        known = [self.at(address) for address in self._known] if self.is_cluster else []
        asking = [self._rows_of(server) for server in (*self._guides, *known)]
        tasks = [asyncio.create_task(each) for each in asking]
        try:
            self._take(await _first_result(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _rows_of(self, server: Server) -> list[_Row]:
        async with asyncio.timeout(_MAP_TIMEOUT_S):
            if self.is_cluster:
                return await _slots_of(server)
            return await _primary_of(server, self._url.service)

    def _take(self, rows: list[_Row]) -> None:
        slots: dict[int, Server] = {}
        known: set[Address] = set()
        for first, last, primary, replicas in rows:
            server = self.at(primary)
            slots.update(dict.fromkeys(range(first, last + 1), server))
            known |= {primary, *replicas}
        self.version += slots != self._slots
        self._slots, self._known = slots, known

    def at(self, address: Address) -> Server:
        """Return the server at an address, which need not be one that is known."""
        if address not in self._by_address:
            self._by_address[address] = self._server(address, self._url.login)
        return self._by_address[address]

    def _server(self, address: Address | None, login: Credentials) -> Server:
        pool = pool_of(self._url, address, login, self._timeout_s)
        return Server(pool, self.look_again)


def connect(url: str, *, cluster: bool = False, timeout_s: float = 2.0) -> Servers:
    """Return the servers behind a URL; nothing is sent before the first command.

    Args:
        url: as `workers.wire.server_url` says: one server, or the Sentinels that know it.
        cluster: the server at `url` is one of a Redis Cluster, or the servers are: while the only
            one that is named is away, nobody new finds the others.
        timeout_s: how long to connect, and how long to wait for a reply. A read that blocks
            needs more than it blocks for.

    Raises:
        ServerUrlError: the URL can't be used, or a file that it names.
    """
    return Servers(url, cluster=cluster, timeout_s=timeout_s)


async def _slots_of(server: Server) -> list[_Row]:
    answer = await server.execute("CLUSTER SLOTS")
    asked = server.client.connection_pool.connection_kwargs.get("host", "")
    return [
        (first, last, _address(primary, asked), [_address(replica, asked) for replica in replicas])
        for first, last, primary, *replicas in answer
    ]


async def _primary_of(sentinel: Server, service: str) -> list[_Row]:
    answer = await sentinel.execute("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
    if answer is None:
        raise LineError(f"a Sentinel knows no service {service}")
    host, port = answer
    name = host.decode() if isinstance(host, bytes) else str(host)
    return [(0, _NUM_SLOTS - 1, (name, int(port)), [])]


def _address(node: list[Any], asked: str) -> Address:
    return (node[0].decode() or asked, int(node[1]))


async def _first_result(tasks: list["asyncio.Task[Any]"]) -> Any:  # noqa: ANN401
    failed: Exception = LineError("no server is known")
    for done in asyncio.as_completed(tasks):
        try:
            return await done
        except FAILURES as error:  # a TimeoutError is an OSError
            failed = error
    if not failure_of(failed).is_transient:
        raise failed
    raise LineError(f"nobody says which server has what: {failed}")
