"""How frames get to a peer and decisions back: by HTTP, or by streams on a Redis server."""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol, Self

import aiohttp
import redis.asyncio

from loadtest.bench.peers.loop_peer import DECISIONS, FRAMES
from loadtest.errors import LoadtestError
from workers.wire import keys
from workers.wire.decision import Decision, unpack_decision
from workers.wire.signing import SIGNATURE_BYTES

_TIMEOUT_S = 30.0
_BLOCK_MS = 100
_PAGE = 200


class NotThere(LoadtestError):
    """The peer does not answer, or not with a decision."""


class Client(Protocol):
    """Sends frames to one peer."""

    async def __aenter__(self) -> Self: ...  # noqa: D105

    async def __aexit__(self, *error: object) -> None: ...  # noqa: D105

    async def decide(self, camera_id: str, fields: Mapping[bytes, bytes]) -> Decision:
        """Send a frame, and return its decision.

        Raises:
            NotThere: there is none.
        """
        ...


class HttpClient:
    """Posts each frame, and gets its decision as the answer."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        self._url = url

    async def __aenter__(self) -> Self:
        """Begin."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"Content-Type": "application/octet-stream"},
            timeout=aiohttp.ClientTimeout(_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close all connections."""
        await self._session.close()

    async def decide(self, camera_id: str, fields: Mapping[bytes, bytes]) -> Decision:
        """See `Client.decide`."""
        try:
            async with self._session.post(self._url, data=fields[b"s"] + fields[b"f"]) as response:
                answer = await response.read()
        except (OSError, aiohttp.ClientError) as error:
            raise NotThere(str(error)) from error
        if response.status != 200:
            raise NotThere(f"HTTP {response.status}: {answer[:200]!r}")
        return unpack_decision(answer[SIGNATURE_BYTES:])


class _StreamClient:
    """Adds each frame to a stream, and reads decisions from others."""

    def __init__(self, url: str, decisions: list[str]) -> None:
        self._url = url
        self._last: dict[str, Any] = dict.fromkeys(decisions, "0")
        self._waiting: dict[str, asyncio.Future[Decision]] = {}
        self._early: dict[str, Decision] = {}
        self._is_closed = False

    async def __aenter__(self) -> Self:
        self._client: Any = redis.asyncio.Redis.from_url(self._url, max_connections=1024)
        for name in self._last:
            newest = await self._client.xrevrange(name, count=1)
            self._last[name] = newest[0][0] if newest else "0"
        self._reading = asyncio.create_task(self._read())
        self._reading.add_done_callback(self._read_no_more)
        return self

    async def __aexit__(self, *error: object) -> None:
        # Not cancelled: redis-py takes that for a broken line, and would go on.
        self._is_closed = True
        await asyncio.wait([self._reading])
        await self._client.aclose()

    async def decide(self, camera_id: str, fields: Mapping[bytes, bytes]) -> Decision:
        added = await self._client.xadd(self._frames(camera_id), dict(fields))
        entry_id = added.decode()
        if entry_id in self._early:
            return self._early.pop(entry_id)
        waiting: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._waiting[entry_id] = waiting
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await waiting
        except TimeoutError:
            raise NotThere(f"no decision within {_TIMEOUT_S:.0f} s") from None
        finally:
            self._waiting.pop(entry_id, None)

    async def _read(self) -> None:
        while not self._is_closed:
            for name, rows in await self._client.xread(self._last, _PAGE, _BLOCK_MS):
                self._last[name.decode()] = rows[-1][0]
                for _, fields in rows:
                    entry_id, decision = self._told(fields)
                    if entry_id in self._waiting:
                        self._waiting[entry_id].set_result(decision)
                    else:
                        self._early[entry_id] = decision

    def _read_no_more(self, reading: "asyncio.Task[None]") -> None:
        """Let nobody wait for a decision that will not be read."""
        for waiting in self._waiting.values():
            if not waiting.done():
                error = NotThere(f"decisions can't be read: {reading.exception()!r}")
                waiting.set_exception(error)

    def _frames(self, camera_id: str) -> str:
        raise NotImplementedError

    def _told(self, fields: Mapping[bytes, bytes]) -> tuple[str, Decision]:
        raise NotImplementedError


class LivegateClient(_StreamClient):
    """As cameras and doors do; ids are unique in their partition only, so there is one."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        super().__init__(url, [keys.decisions(0)])

    def _frames(self, camera_id: str) -> str:
        return keys.frames(0)

    def _told(self, fields: Mapping[bytes, bytes]) -> tuple[str, Decision]:
        decision = unpack_decision(fields[b"d"])
        return decision.entry_id, decision


class LoopClient(_StreamClient):
    """For the plain loop."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet."""
        super().__init__(url, [DECISIONS])

    def _frames(self, camera_id: str) -> str:
        return FRAMES

    def _told(self, fields: Mapping[bytes, bytes]) -> tuple[str, Decision]:
        return fields[b"id"].decode(), unpack_decision(fields[b"d"][SIGNATURE_BYTES:])
