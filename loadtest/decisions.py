"""Reads the decisions of a sender's partitions, and checks who signed them."""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hiredis
import msgpack
from redis.exceptions import ConnectionError as LineError
from redis.exceptions import ResponseError

from loadtest.line import connect_line, packed
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES
from workers.stream.server import is_cancelled
from workers.wire import keys
from workers.wire.decision import VERSION
from workers.wire.server_url import ServerUrl, parse_server_url

_PAGE = 1000
_BLOCK_MS = 200
_PAUSE_S = 0.05
_REPLY_S = 5.0

Body = Mapping[str, Any]
OnDecision = Callable[[Body, str, bytes, bytes | None, float, int], None]


async def newest_ids(servers: Servers, partitions: Sequence[int]) -> dict[int, str]:
    """Return the id of each partition's last decision: `read_decisions` goes on from there.

    Raises:
        redis.exceptions.RedisError: a server can't be reached, or refuses.
    """
    found = {}
    for partition in partitions:
        name = keys.decisions(partition)
        rows = await servers.execute(name, "XREVRANGE", name, "+", "-", "COUNT", 1)
        found[partition] = rows[0][0].decode() if rows else "0"
    return found


async def read_decisions(
    servers: Servers,
    url: str,
    after: Mapping[int, str],
    on_decision: OnDecision,
    on_verdict: Callable[[bytes], None],
    on_error: Callable[[str], None],
) -> None:
    """Read decisions for ever; a server that is away is waited for.

    Args:
        servers: say where each partition is.
        url: how to get in there.
        after: partition to the last id known.
        on_decision: called with a decision's body, its entry (partition and id), its bytes, its
            signature, when it was read, monotonic, and how long the server had the frame until it
            had the decision, ms by the server's clock.
        on_verdict: called with the bytes of a verdict on a presentation.
        on_error: called with what went wrong.
    """
    # One read covers one slot of a cluster.
    groups = [[each] for each in after] if servers.is_cluster else [list(after)]
    async with asyncio.TaskGroup() as readers:
        for group in groups:
            last = {keys.decisions(each): after[each] for each in group}
            line = _Line(servers, parse_server_url(url), next(iter(last)))
            readers.create_task(_read(line, last, on_decision, on_verdict, on_error))


async def _read(
    line: "_Line",
    last: dict[str, str],
    on_decision: OnDecision,
    on_verdict: Callable[[bytes], None],
    on_error: Callable[[str], None],
) -> None:
    head = ("XREAD", "COUNT", str(_PAGE), "BLOCK", str(_BLOCK_MS), "STREAMS", *last)
    try:
        while not is_cancelled():
            try:
                answer = await line.ask(packed(*head, *last.values()))
            except FAILURES as error:  # a TimeoutError is an OSError
                on_error(f"decisions can't be read: {error or type(error).__name__}")
                await asyncio.sleep(_PAUSE_S)
                continue
            read_s = time.monotonic()
            for raw_name, rows in answer or ():
                name = raw_name.decode()
                partition = name[name.index("{") + 1 : name.index("}")]
                for decided_id, pairs in rows:
                    fields = dict(zip(pairs[::2], pairs[1::2], strict=True))
                    if b"p" in fields:  # a verdict on a presentation
                        on_verdict(fields[b"p"])
                        continue
                    try:
                        body = _read_body(fields.get(b"d", b""))
                        entry_id = body["entry_id"]
                        inside_ms = _ms_of(decided_id.decode()) - _ms_of(entry_id)
                        entry = f"{partition} {entry_id}"
                        signature = fields.get(b"s")
                        on_decision(body, entry, fields[b"d"], signature, read_s, inside_ms)
                    except (ValueError, KeyError, TypeError) as error:
                        on_error(f"a decision can't be read: {type(error).__name__}")
                last[name] = rows[-1][0].decode()
    finally:
        line.close()


class _Line(asyncio.Protocol):
    """Asks one server, one command at a time; comes up again by itself when it is asked.

    With a client between, a read took 0.4 ms of processor time: more than all else together.
    """

    def __init__(self, servers: Servers, url: ServerUrl, key: str) -> None:
        self._servers, self._url, self._key = servers, url, key
        self._replies = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Any] | None = None

    async def ask(self, command: bytes) -> Any:  # noqa: ANN401 - as the server answers
        """Return the answer to a command.

        Raises:
            redis.exceptions.RedisError: there is none; the line is given up.
            OSError: the same.
        """
        try:
            async with asyncio.timeout(_REPLY_S):
                if self._transport is None:
                    await self._open()
                return await self._next(command)
        except FAILURES:
            self.close()
            self._servers.look_again()
            raise

    def close(self) -> None:
        """Give the line up."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    async def _open(self) -> None:
        self._replies = hiredis.Reader()
        self._answer = asyncio.get_running_loop().create_future()
        await connect_line(self._servers, self._url, self._key, self)
        if self._url.login.read():
            _checked(await self._answer)

    async def _next(self, command: bytes) -> Any:  # noqa: ANN401
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            raise LineError("the server closed the line")
        self._transport.write(command)
        return _checked(await self._answer)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Use the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - as create_connection makes
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand an answer over."""
        self._replies.feed(data)
        try:
            answer = self._replies.gets()
        except hiredis.ProtocolError as error:
            self._end(LineError(f"not a server's answer: {error}"))
            return
        if answer is not False and self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits for an answer gets none."""
        self._end(LineError(str(error or "the server closed the line")))

    def _end(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def _checked(answer: Any) -> Any:  # noqa: ANN401
    if isinstance(answer, hiredis.ReplyError):
        raise ResponseError(str(answer))
    return answer


def is_signed(packed: bytes, signature: bytes | None, door_key: bytes | None) -> bool:
    """Say whether a decision is signed as its camera's door wants it."""
    if door_key is None:
        return True
    return signature is not None and hmac.compare_digest(
        hmac.digest(door_key, packed, "sha256"), signature
    )


def _ms_of(entry_id: str) -> int:
    return int(entry_id[: entry_id.index("-")])


def _read_body(packed: bytes) -> Body:
    body: Body = msgpack.unpackb(packed)
    if body["v"] != VERSION:
        raise ValueError("a decision of another version")
    return body
