"""One server that takes writes: its commands, each run once, and its scripts.

redis-py repeats a command whose reply got lost. For a write that means twice: one XADD leaves two
entries. So no client here retries, and whoever calls decides what a lost reply means.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import BlockingConnectionPool
from redis.exceptions import NoScriptError

from workers.stream.failure import FAILURES, Failure, failure_of


class Script:
    """A Lua script, known to a server by the hash of its text."""

    def __init__(self, text: str) -> None:
        """Hash the text; nothing is sent."""
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Server:
    """One server that takes writes, with connections of its own."""

    def __init__(
        self, pool: BlockingConnectionPool, on_lost: Callable[[], None] | None = None
    ) -> None:
        """Connect to nothing yet; `on_lost` is called when a command fails, but for now only."""
        self.client: Redis = Redis(connection_pool=pool)
        self.is_available = True
        self._on_lost = on_lost

    async def execute(self, *args: Any) -> Any:  # noqa: ANN401 - as redis-py answers
        """Run one command, once.

        Raises:
            redis.exceptions.RedisError: it failed; `workers.stream.failure` says what that means.
        """
        try:
            return await self.client.execute_command(*args)  # type: ignore[no-untyped-call]
        except FAILURES as error:
            await self._saw(error)
            raise

    async def execute_all(self, commands: Iterable[Iterable[Any]]) -> list[Any]:
        """Run several commands, each once and for itself, in one go.

        Returns:
            Their answers, in the same order; a command that was refused has its error there.

        Raises:
            redis.exceptions.RedisError: the line failed, and so may have run any of them.
        """
        pipe = self.client.pipeline(transaction=False)
        for command in commands:
            pipe.execute_command(*command)
        try:
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        except FAILURES as error:
            await self._saw(error)
            raise
        for answer in answers:
            if isinstance(answer, FAILURES):
                await self._saw(answer)
        return answers

    async def _saw(self, error: Exception) -> None:
        if is_cancelled():
            # redis-py turns a cancellation amid a command into a failure of the line.
            raise asyncio.CancelledError from error
        failure = failure_of(error)
        if failure is Failure.NOT_PRIMARY:
            # The address may lead to another server by now, but not on this connection.
            await self.client.connection_pool.disconnect(inuse_connections=False)
        if failure.is_transient and self._on_lost is not None:
            self._on_lost()

    async def execute_asking(self, *args: Any) -> Any:  # noqa: ANN401
        """Run one command on the server that a slot is on its way to."""
        pipe = self.client.pipeline(transaction=False)
        pipe.execute_command("ASKING")
        pipe.execute_command(*args)
        return (await pipe.execute())[-1]

    async def run(self, script: Script, names: Iterable[str], args: Iterable[Any]) -> Any:  # noqa: ANN401
        """Run a script here, whatever keys it names."""
        return await run_script(self.execute, script, names, args)


def is_cancelled() -> bool:
    """Say whether the running task was told to end: a command may have swallowed it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_script(
    execute: Callable[..., Awaitable[Any]],
    script: Script,
    names: Iterable[str],
    args: Iterable[Any],
) -> Any:  # noqa: ANN401 - as the script answers
    """Run a script by its hash through `execute`, or by its text where it is not known yet.

    Raises:
        redis.exceptions.RedisError: whatever `execute` raises.
    """
    keys = list(names)
    try:
        return await execute("EVALSHA", script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await execute("EVAL", script.text, len(keys), *keys, *args)
