"""The console's feed: follows the decision streams while somebody looks, and a while longer."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from workers.console.board import Board, history_row
from workers.settings import StreamSettings
from workers.stream.backlog import Backlog
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.wire import keys
from workers.wire.decision import Decision, unpack_decision

_SEED = 2000  # decisions of the past, of all partitions together
_HISTORY = 256
_PAGE = 5000
_IDLE_S = 30.0
_TICK_S = 1.0
_SEED_S = 2.0
_Row = tuple[str, Decision | None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Local:
    """What the replica knows beside the streams.

    Attributes:
        now_ms: the server's clock, Unix ms.
        backlog: of all partitions, as it was last read.
        replicas: by state, as Serve names them.
        troubles: what stands in the way, in words.
        lineup: what judges in the replica that answers: `model`, `runs_on`, `candidate`.
    """

    now_ms: Callable[[], int]
    backlog: Callable[[], Backlog]
    replicas: Callable[[], dict[str, int]]
    troubles: Callable[[], list[str]]
    lineup: Callable[[], dict[str, str]]


class Feed:
    """What the console shows, kept up to date while it is asked for."""

    def __init__(self, settings: StreamSettings, local: Local) -> None:
        """Connect to nothing yet.

        Args:
            settings: where the streams are.
            local: what the replica knows beside them.
        """
        self._settings = settings
        self._local = local
        self._board = Board()
        self._task: asyncio.Task[None] | None = None
        self._servers: Servers | None = None
        self._asked_at_s = 0.0
        self._states: dict[str, int] = {}
        self._ticked = asyncio.Condition()

    async def updates(self, since_ms: int, lasting_s: float) -> AsyncIterator[dict[str, Any]]:
        """Yield what is new since, at once and then each second, for a while.

        Args:
            since_ms: `now` of the last update that was seen; 0: none was.
            lasting_s: how long; whoever looks then asks again, maybe another replica.
        """
        end_s = time.monotonic() + lasting_s
        await self._start()
        while True:
            self._asked_at_s = time.monotonic()
            now_ms = self._local.now_ms()
            yield {
                **self._board.changes(since_ms, now_ms),
                "states": self._states,
                "lineup": self._local.lineup(),
                "troubles": self._local.troubles(),
            }
            since_ms = now_ms
            if time.monotonic() >= end_s:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(5 * _TICK_S), self._ticked:
                    await self._ticked.wait()
            await self._start()

    async def history(self, camera_id: str) -> list[dict[str, Any]]:
        """Return a camera's last decisions, the newest first.

        Raises:
            redis.exceptions.RedisError: the server can't be asked.
        """
        await self._start()
        self._asked_at_s = time.monotonic()
        assert self._servers is not None  # noqa: S101 - started
        partition = keys.partition_of(camera_id, self._settings.partitions)
        name = keys.camera_decisions(partition, camera_id)
        found = await _last(self._servers, name, _HISTORY)
        return [history_row(decision) for _, decision in reversed(found) if decision is not None]

    async def aclose(self) -> None:
        """End what runs; it starts again when somebody looks."""
        task, self._task = self._task, None
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])
        servers, self._servers = self._servers, None
        if servers is not None:
            with suppress(*FAILURES):
                await servers.aclose()

    async def _start(self) -> None:
        if self._task is not None and not self._task.done():
            return
        await self.aclose()
        self._asked_at_s = time.monotonic()
        settings = self._settings
        self._servers = connect(settings.url, cluster=settings.cluster, timeout_s=5.0)
        self._board, seeded = Board(), asyncio.Event()
        self._task = asyncio.create_task(self._run(self._servers, seeded))
        with suppress(TimeoutError):  # a server that is away is waited for, the page is not
            async with asyncio.timeout(_SEED_S):
                await seeded.wait()

    async def _run(self, servers: Servers, seeded: asyncio.Event) -> None:
        after: dict[str, str] = {}
        while time.monotonic() - self._asked_at_s < _IDLE_S:
            try:
                for decision in await self._new(servers, after):
                    self._board.take(decision, self._local.now_ms())
            except FAILURES as error:
                _log.warning("the console can't read decisions: %s", error)
            seeded.set()
            self._states = await asyncio.to_thread(self._local.replicas)
            backlog, now_ms = self._local.backlog(), self._local.now_ms()
            running = self._states.get("RUNNING", 0)
            self._board.sample(now_ms, backlog.waiting, backlog.pending, running)
            self._board.tick(now_ms)
            async with self._ticked:
                self._ticked.notify_all()
            await asyncio.sleep(_TICK_S)
        await self.aclose()

    async def _new(self, servers: Servers, after: dict[str, str]) -> list[Decision]:
        """Return what was decided since the ids in `after`, and note the new ones there.

        A page each second, not a read that waits: that costs a fraction of one wake-up an entry.
        """
        names = [keys.decisions(partition) for partition in range(self._settings.partitions)]
        share = max(16, _SEED // len(names))
        pages = await asyncio.gather(
            *(
                _since(servers, name, after[name]) if name in after else _last(servers, name, share)
                for name in names
            )
        )
        for name, page in zip(names, pages, strict=True):
            after[name] = page[-1][0] if page else after.get(name, "0-0")
        found = [decision for page in pages for _, decision in page if decision is not None]
        return sorted(found, key=lambda each: each.decided_at_ms)


async def _since(servers: Servers, name: str, after: str) -> list[_Row]:
    rows = await servers.execute(name, "XRANGE", name, f"({after}", "+", "COUNT", _PAGE)
    return [_row(row) for row in rows]


async def _last(servers: Servers, name: str, count: int) -> list[_Row]:
    rows = await servers.execute(name, "XREVRANGE", name, "+", "-", "COUNT", count)
    return [_row(row) for row in reversed(rows)]


def _row(row: Any) -> _Row:  # noqa: ANN401 - of redis-py
    entry_id, fields = row
    try:
        return entry_id.decode(), unpack_decision(fields[b"d"])
    except (ValueError, TypeError, KeyError):  # of a later version
        return entry_id.decode(), None
