"""A sender's line to the ingress: frames are posted as cameras post them, some at a time."""

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus

import aiohttp

from loadtest.line import OnReply

_MAX_UNDER_WAY = 64
_REPLY_S = 10.0


class PostLine:
    """Posts frames; the same as `FrameLine` to whoever calls it."""

    def __init__(
        self, url: str, on_added: OnReply, on_failed: Callable[[int, str, bool], None]
    ) -> None:
        """Connect to nothing yet; the arguments are those of `FrameLine`."""
        self._url = f"{url.rstrip('/')}/v1/frames"
        self._on_added, self._on_failed = on_added, on_failed
        self._under_way: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self.last_error = ""

    @property
    def takes(self) -> bool:
        """Whether a frame can be sent now."""
        return len(self._under_way) < _MAX_UNDER_WAY

    @property
    def num_under_way(self) -> int:
        """Frames sent whose reply is not there."""
        return len(self._under_way)

    def send(self, number: int, begins: bytes, ends: bytes, signature: bytes) -> None:
        """Send a frame; `takes` must hold."""
        task = asyncio.create_task(self._post(number, begins + ends, signature))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def flush(self) -> None:
        """Nothing is held back."""

    def reconnect(self) -> None:
        """Drop all connections."""
        for task in self._under_way:
            task.cancel()

    async def aclose(self) -> None:
        """Give up what is under way."""
        under_way = set(self._under_way)
        self.reconnect()
        if under_way:
            await asyncio.wait(under_way)
        if self._session is not None:
            await self._session.close()

    async def _post(self, number: int, body: bytes, signature: bytes) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_REPLY_S),
                connector=aiohttp.TCPConnector(limit=_MAX_UNDER_WAY),
            )
        headers = {"Content-Type": "application/msgpack"}
        if signature:
            headers["X-Livegate-Signature"] = signature.hex()
        try:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                status, answer = response.status, await response.read()
        except asyncio.CancelledError:
            self._on_failed(number, "the line was dropped", True)
            raise
        except aiohttp.ClientConnectorError as error:
            self.last_error = f"can't connect: {error}"
            self._on_failed(number, "", False)
            return
        except (aiohttp.ClientError, TimeoutError) as error:
            self._on_failed(number, f"no answer: {type(error).__name__}", True)
            return
        self._answered(number, status, answer)

    def _answered(self, number: int, status: int, answer: bytes) -> None:
        try:
            told = json.loads(answer)
        except ValueError:
            told = {}
        if status == HTTPStatus.ACCEPTED:
            self._on_added(number, str(told.get("entry_id", "")))
            return
        self.last_error = f"HTTP {status} {told.get('error', '')}".strip()
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self._on_failed(number, "", False)
        else:
            self._on_failed(number, self.last_error, status >= HTTPStatus.INTERNAL_SERVER_ERROR)
