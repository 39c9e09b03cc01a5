"""Connections to one Redis or Valkey server, or to each primary of a Redis Cluster.

redis-py repeats a command whose reply got lost. For a write that means twice: one XADD leaves two
entries. So no client here retries, and whoever calls decides what a lost reply means.

Why not redis-py's own cluster client: it asks one node, by turns, where a key is and what the
cluster looks like, and all commands wait for that answer. With that node gone or hung, the healthy
shards stand still. Here each server has connections of its own, the slot of a key is computed, and
the map of slots is asked of all known servers at once: the first answer counts.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, NoScriptError
from redis.exceptions import ConnectionError as LineError

from workers.stream.failure import FAILURES, Failure, failure_of

# A command that finds no connection free waits for one: a busy client is not a server that is away.
_MAX_CONNECTIONS = 32
_MAP_TIMEOUT_S = 1.0
_MAP_PAUSE_S = 0.2

_log = logging.getLogger(__name__)

Address = tuple[str, int]


class Script:
    """A Lua script, known to a server by the hash of its text."""

    def __init__(self, text: str) -> None:
        """Hash the text; nothing is sent."""
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Server:
    """One server that takes writes, with connections of its own."""

    def __init__(
        self, pool: BlockingConnectionPool, on_trouble: Callable[[], None] = lambda: None
    ) -> None:
        """Connect to nothing yet; `on_trouble` is called when a command fails for now."""
        self.client: Redis = Redis(connection_pool=pool)
        self._on_trouble = on_trouble

    async def execute(self, *args: Any) -> Any:  # noqa: ANN401 - as redis-py answers
        """Run one command, once.

        Raises:
            redis.exceptions.RedisError: it failed; `workers.stream.failure` says what that means.
        """
        try:
            answer = await self.client.execute_command(*args)  # type: ignore[no-untyped-call]
        except FAILURES as error:
            if is_cancelled():
                # redis-py turns a cancellation amid a command into a failure of the line.
                raise asyncio.CancelledError from error
            failure = failure_of(error)
            if failure is Failure.NOT_PRIMARY:
                # The address may lead to another server by now, but not on this connection.
                await self.client.connection_pool.disconnect(inuse_connections=False)
            if failure.is_transient:
                self._on_trouble()
            raise
        return answer

    async def execute_asking(self, *args: Any) -> Any:  # noqa: ANN401
        """Run one command on the server that a slot is on its way to."""
        pipe = self.client.pipeline(transaction=False)
        pipe.execute_command("ASKING")
        pipe.execute_command(*args)
        return (await pipe.execute())[-1]

    async def run(self, script: Script, names: Iterable[str], args: Iterable[Any]) -> Any:  # noqa: ANN401
        """Run a script here, whatever keys it names."""
        return await _run(self.execute, script, names, args)


class Servers:
    """All servers of a deployment that take writes; a single one is a cluster of one."""

    def __init__(self, url: str, *, cluster: bool, timeout_s: float) -> None:
        """Make the first client; nothing is sent before the first command."""
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_MAX_CONNECTIONS,
            timeout=None,
            protocol=2,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
        )
        self.is_cluster = cluster
        self._seed = Server(self._pool, self._look_again)
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
        if not self.is_cluster:
            return self._seed
        slot = key_slot(key.encode())
        if slot not in self._slots:
            await self._learn()
        if slot not in self._slots:
            raise LineError(f"no server of the cluster has the slot of {key}")
        return self._slots[slot]

    def owner_of(self, key: str) -> Server | None:
        """Return the server that has a key, as far as is known."""
        return self._slots.get(key_slot(key.encode())) if self.is_cluster else self._seed

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
            target = self._at((moved.host, moved.port))
            self._slots[moved.slot_id] = target
            self.version += 1
            return await target.execute(*args)
        except AskError as ask:
            return await self._at((ask.host, ask.port)).execute_asking(*args)

    async def run(self, script: Script, names: list[str], args: Iterable[Any]) -> Any:  # noqa: ANN401
        """Run a script whose keys are all on one server; see `execute`."""

        async def execute(*command: Any) -> Any:  # noqa: ANN401
            return await self.execute(names[0], *command)

        return await _run(execute, script, names, args)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._mapping is not None:
            self._mapping.cancel()
            await asyncio.wait([self._mapping])
        for server in {self._seed, *self._by_address.values()}:
            await server.client.aclose()
            await server.client.connection_pool.disconnect()

    def _look_again(self) -> None:
        """Ask for the map of slots in the background: the command that failed does not wait."""
        if self.is_cluster and (self._mapping is None or self._mapping.done()):
            self._mapping = asyncio.create_task(self._learn_later())

    async def _learn_later(self) -> None:
        await asyncio.sleep(max(0.0, self._map_at_s + _MAP_PAUSE_S - time.monotonic()))
        try:
            await self._learn()
        except FAILURES as error:
            _log.warning("no server of the cluster says where the slots are: %s", error)

    async def _learn(self) -> None:
        self._map_at_s = time.monotonic()
        asked = [self._seed, *(self._at(address) for address in self._known)]
        tasks = [asyncio.create_task(_slots_of(server)) for server in asked]
        try:
            self._take(await _first_result(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _take(self, rows: list[tuple[int, int, Address, list[Address]]]) -> None:
        slots: dict[int, Server] = {}
        known: set[Address] = set()
        for first, last, primary, replicas in rows:
            server = self._at(primary)
            slots.update(dict.fromkeys(range(first, last + 1), server))
            known |= {primary, *replicas}
        self.version += slots != self._slots
        self._slots, self._known = slots, known

    def _at(self, address: Address) -> Server:
        if address not in self._by_address:
            options = {**self._pool.connection_kwargs, "host": address[0], "port": address[1]}
            pool = BlockingConnectionPool(
                max_connections=_MAX_CONNECTIONS,
                timeout=None,
                connection_class=self._pool.connection_class,
                **options,
            )
            self._by_address[address] = Server(pool, self._look_again)
        return self._by_address[address]


def connect(url: str, *, cluster: bool = False, timeout_s: float = 2.0) -> Servers:
    """Return the servers behind a URL; nothing is sent before the first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`, with user and password where needed.
        cluster: the server at `url` is one of a Redis Cluster.
        timeout_s: how long to connect, and how long to wait for a reply. A read that blocks
            needs more than it blocks for.
    """
    return Servers(url, cluster=cluster, timeout_s=timeout_s)


def is_cancelled() -> bool:
    """Say whether the running task was told to end: a command may have swallowed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _run(execute: Any, script: Script, names: Iterable[str], args: Iterable[Any]) -> Any:  # noqa: ANN401
    keys = list(names)
    try:
        return await execute("EVALSHA", script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await execute("EVAL", script.text, len(keys), *keys, *args)


async def _slots_of(server: Server) -> list[tuple[int, int, Address, list[Address]]]:
    async with asyncio.timeout(_MAP_TIMEOUT_S):
        answer = await server.execute("CLUSTER SLOTS")
    asked = server.client.connection_pool.connection_kwargs.get("host", "")
    return [
        (first, last, _address(primary, asked), [_address(replica, asked) for replica in replicas])
        for first, last, primary, *replicas in answer
    ]


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
    raise LineError(f"no server of the cluster answers: {failed}")
