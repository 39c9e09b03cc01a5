"""A sender's line to one partition: frames go out without waiting for the reply to the last one.

A camera sends one frame and waits for its entry id. What stands for a thousand cameras can't, or
it would measure itself: XADDs are pipelined, and replies matched by their order.
"""

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import hiredis
from redis.exceptions import RedisError

from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of_answer
from workers.wire import keys
from workers.wire.server_url import ServerUrl, parse_server_url

_HIGH_WATER = 8 << 20
_REPLY_S = 10.0
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.02, 0.5
_CRLF = b"\r\n"

_log = logging.getLogger(__name__)

OnReply = Callable[[int, str], None]


class Line(Protocol):
    """Takes frames to one partition, and tells what has become of each: `FrameLine`, `PostLine`."""

    last_error: str

    @property
    def takes(self) -> bool:
        """Whether a frame can be sent now."""

    def send(self, number: int, begins: bytes, ends: bytes, signature: bytes) -> None:
        """Send a frame; `takes` must hold."""

    def flush(self) -> None:
        """Hand over what was sent, and see to it that the line is up."""

    def reconnect(self) -> None:
        """Drop the line; it comes up again by itself."""

    async def aclose(self) -> None:
        """Give the line up."""


class FrameLine(asyncio.Protocol):
    """Adds frames to one partition's stream; who calls it keeps those that it can't take now."""

    def __init__(
        self,
        servers: Servers,
        url: str,
        partition: int,
        on_added: OnReply,
        on_failed: Callable[[int, str, bool], None],
    ) -> None:
        """Connect to nothing yet.

        Args:
            servers: say where the partition is.
            url: how to get in there.
            partition: whose frames it takes.
            on_added: called with a frame's number and its entry id.
            on_failed: called with a frame's number, what went wrong, and whether the frame may be
                in the stream all the same.
        """
        self._servers = servers
        self._url = parse_server_url(url)
        self._stream = keys.frames(partition)
        self._head = packed("XADD", self._stream, "*", "f").replace(b"*4", b"*7", 1)
        self._unsigned_head = self._head.replace(b"*7", b"*5", 1)
        self._on_added, self._on_failed = on_added, on_failed
        self._transport: asyncio.Transport | None = None
        self._replies = hiredis.Reader()
        self._under_way: deque[tuple[int, float]] = deque()
        self._to_write: list[bytes] = []
        self._greeting = 0
        self._is_full = False
        self._is_closed = False
        self._connecting: asyncio.Task[None] | None = None
        self.last_error = ""

    @property
    def takes(self) -> bool:
        """Whether a frame can be sent now."""
        return self._transport is not None and not self._is_full and not self._greeting

    @property
    def num_under_way(self) -> int:
        """Frames sent whose reply is not there."""
        return len(self._under_way)

    def send(self, number: int, begins: bytes, ends: bytes, signature: bytes) -> None:
        """Send a frame; `takes` must hold. It goes out with `flush`."""
        length = b"$%d\r\n" % (len(begins) + len(ends))
        if signature:
            tail = b"\r\n$1\r\ns\r\n$%d\r\n" % len(signature) + signature + _CRLF
            self._to_write += (self._head, length, begins, ends, tail)
        else:
            self._to_write += (self._unsigned_head, length, begins, ends, _CRLF)
        self._under_way.append((number, time.monotonic()))

    def flush(self) -> None:
        """Hand over what was sent, and see to it that the line is up."""
        if self._to_write and self._transport is not None:
            self._transport.write(b"".join(self._to_write))
        self._to_write.clear()
        if self._transport is None and not self._is_closed:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect())
        elif self._under_way and time.monotonic() - self._under_way[0][1] > _REPLY_S:
            self._broke("no reply")

    def reconnect(self) -> None:
        """Drop the line, as when a camera's power fails; it comes up again by itself."""
        self._broke("the line was dropped")

    async def aclose(self) -> None:
        """Give the line up; what is under way is not known to have arrived."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        self._broke("closed")

    async def _connect(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._transport is None and not self._is_closed:
            try:
                async with asyncio.timeout(2.0):
                    await self._open()
            except FAILURES as error:  # a TimeoutError is an OSError
                self.last_error = str(error) or type(error).__name__
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def _open(self) -> None:
        self._replies = hiredis.Reader()
        self._greeting = bool(self._url.login.read())
        await connect_line(self._servers, self._url, self._stream, self)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Use the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - as create_connection makes
        transport.set_write_buffer_limits(_HIGH_WATER)
        self._transport, self._is_full = transport, False

    def pause_writing(self) -> None:
        """Take no more: the server, or the network, can't keep up."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Take frames again."""
        self._is_full = False

    def data_received(self, data: bytes) -> None:
        """Match replies with frames."""
        self._replies.feed(data)
        try:
            while (reply := self._replies.gets()) is not False:
                if self._greeting:
                    self._greeting = 0
                    if isinstance(reply, hiredis.ReplyError):
                        self._broke(str(reply))
                        return
                    continue
                number, _ = self._under_way.popleft()
                if isinstance(reply, bytes):
                    self._on_added(number, reply.decode())
                else:
                    self._refused(number, str(reply))
        except (hiredis.ProtocolError, IndexError, RedisError) as error:
            self._broke(f"not a server's answer: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        """Count what is under way as unknown."""
        self._broke(str(error or "the server closed the line"))

    def _refused(self, number: int, answer: str) -> None:
        self.last_error = answer
        if failure_of_answer(answer).is_transient or answer.startswith(("MOVED", "ASK")):
            self._on_failed(number, "", False)
            if answer.startswith(("MOVED", "ASK", "READONLY", "CLUSTERDOWN", "MASTERDOWN")):
                self._servers.look_again()
                self._broke(answer)
        else:
            self._on_failed(number, answer, False)

    def _broke(self, why: str) -> None:
        transport, self._transport = self._transport, None
        self._is_full, self._greeting = False, 0
        if transport is not None:
            self.last_error = why
            with suppress(OSError):
                transport.abort()
        self._to_write.clear()
        under_way, self._under_way = self._under_way, deque()
        for number, _ in under_way:
            self._on_failed(number, why, True)


async def connect_line(
    servers: Servers, url: ServerUrl, key: str, protocol: asyncio.Protocol
) -> None:
    """Connect a protocol of our own to the server that has a key, and log in.

    It is told of the answer to AUTH as of any other, where there is a login.

    Raises:
        redis.exceptions.RedisError: no server answers.
        OSError: it can't be connected to.
    """
    loop = asyncio.get_running_loop()
    server = await servers.of(key)
    # Also asks whether it answers: of a cluster whose map is old, another one has to be found.
    await server.execute("PING")
    options: dict[str, Any] = server.client.connection_pool.connection_kwargs
    if "path" in options:
        transport, _ = await loop.create_unix_connection(lambda: protocol, options["path"])
    else:
        address = options["host"], options["port"]
        transport, _ = await loop.create_connection(lambda: protocol, *address, ssl=_tls(url))
    if login := url.login.read():
        transport.write(packed("AUTH", *login))


def packed(*words: str) -> bytes:
    """Return a command as it goes over the line."""
    bulks = (b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words))
    return b"*%d\r\n" % len(words) + b"".join(bulks)


def _tls(url: ServerUrl) -> ssl.SSLContext | None:
    if not url.is_tls:
        return None
    context = ssl.create_default_context(cafile=url.tls.get("ssl_ca_certs"))
    if "ssl_certfile" in url.tls:
        context.load_cert_chain(url.tls["ssl_certfile"], url.tls["ssl_keyfile"])
    return context
