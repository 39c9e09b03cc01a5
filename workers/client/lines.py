"""A camera's line to its deployment: to the Redis stream, or by HTTP to the ingress.

Both say the same three things of a frame that did not arrive:

    SendError
    +-- NotNow       it was not taken, and may be sent again after a pause
    +-- ReplyLost    it may or may not have arrived: a second copy would be a replay
    +-- NotTaken     it is refused for good
"""

import asyncio
import http.client
import json
import logging
import select
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from redis.exceptions import NoPermissionError

from workers.client.pictures import CameraError, integer
from workers.errors import WorkerError
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of
from workers.wire import keys
from workers.wire.frame import FIRST_CODECS

MAX_PARTITIONS = 256
_CLOSE_S = 0.5

_log = logging.getLogger(__name__)


class SendError(WorkerError):
    """A frame was not taken."""


class NotNow(SendError):
    """It may be sent again, once `pause_s` is over; None: the camera's own pause."""

    def __init__(self, message: str, pause_s: float | None = None) -> None:
        """Say why."""
        super().__init__(message)
        self.pause_s = pause_s


class ReplyLost(SendError):
    """It may or may not have arrived."""


class NotTaken(SendError):
    """It is refused for good."""


class Line(Protocol):
    """Takes one camera's frames, one at a time.

    Attributes:
        codecs: of planes that the deployment takes, as far as it has told.
    """

    codecs: frozenset[str]

    async def bring_up(self) -> None:
        """See to it that the line is up: no frame is sent by that.

        Raises:
            SendError: it is not; never a ReplyLost.
        """
        ...

    async def send(self, fields: Mapping[str, bytes]) -> str:
        """Send the fields `f` and `s` of a frame; returns the id of its stream entry.

        Raises:
            SendError: it was not taken; the class says what that means.
        """
        ...

    async def aclose(self) -> None:
        """Give up what this line alone uses."""
        ...


def checked_partitions(partitions: object) -> int:
    """Return a deployment's number of partitions, if it can be one.

    Raises:
        CameraError: it can't.
    """
    return integer("partitions, the deployment's own number,", partitions, 1, MAX_PARTITIONS)


async def layout_of(servers: Servers) -> int | None:
    """Return the number of partitions that a deployment was laid out for; None: it doesn't say."""
    try:
        found = await servers.execute(keys.layout(0), "GET", keys.layout(0))
        return int(found) if isinstance(found, bytes) and found.isdigit() else None
    except FAILURES as error:
        _log.debug("the layout can't be read: %s", error)
        return None


async def codecs_of(servers: Servers) -> frozenset[str]:
    """Return the codecs of planes that a deployment takes, as far as it says."""
    try:
        found = await servers.execute(keys.codecs(0), "GET", keys.codecs(0))
    except FAILURES as error:
        _log.debug("the codecs can't be read: %s", error)
        return FIRST_CODECS
    told = found.decode("ascii", "replace").split() if isinstance(found, bytes) else ()
    return FIRST_CODECS.union(told)


def wrong_layout(laid_out: int, partitions: int) -> str:
    """Say what to do about another number of partitions than the deployment's."""
    return (
        f"this deployment has {laid_out} partitions, not {partitions}: pass partitions={laid_out}"
    )


class RedisLine:
    """To the partition of one camera, on servers that many cameras can share."""

    def __init__(self, servers: Servers, camera_id: str, partitions: int) -> None:
        """Send nothing yet."""
        self._servers = servers
        self._partitions = partitions
        self._stream = keys.frames(keys.partition_of(camera_id, partitions))
        self._is_up = False
        self._wrong = ""
        self.codecs = FIRST_CODECS

    async def bring_up(self) -> None:
        """See `Line.bring_up`: until a PING went through, no frame is sent."""
        if self._is_up:
            return
        try:
            await self._servers.execute(self._stream, "PING")
        except NoPermissionError:
            pass  # it answers
        except FAILURES as error:
            raise NotNow(str(error)) from error
        laid_out = await layout_of(self._servers)
        if laid_out not in (None, self._partitions):
            wrong = wrong_layout(laid_out, self._partitions)
            if wrong != self._wrong:
                _log.error("frames are not sent: %s", wrong)
            self._wrong = wrong
            raise NotTaken(wrong)
        self.codecs = await codecs_of(self._servers)
        self._is_up = True

    async def send(self, fields: Mapping[str, bytes]) -> str:
        """See `Line.send`."""
        flat = [part for pair in fields.items() for part in pair]
        try:
            answer = await self._servers.execute(self._stream, "XADD", self._stream, "*", *flat)
        except FAILURES as error:
            failure = failure_of(error)
            if failure.may_have_run:
                self._is_up = False
                raise ReplyLost(str(error)) from error
            if failure.is_transient:
                raise NotNow(str(error)) from error
            raise NotTaken(str(error)) from error
        return str(answer.decode())

    async def aclose(self) -> None:
        """See `Line.aclose`; the servers are their owner's to close."""


class HttpLine:
    """To a deployment's ingress, over one connection that is kept."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        """Connect to nothing yet.

        Args:
            url: `http://host:8000`, or `https://` with `?ssl_ca_certs=`, and `&ssl_certfile=` and
                `&ssl_keyfile=` where the server asks for a certificate: PEM files.
            timeout_s: how long to connect, and how long to wait for a reply.

        Raises:
            CameraError: the URL can't be used, or a file that it names.
        """
        self.codecs = FIRST_CODECS
        self._connection = _connection(url, timeout_s)
        self._path = urlsplit(url).path.rstrip("/") + "/v1/frames"
        # A thread, for http.client blocks; one, for frames are sent one at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="camera-http")

    async def bring_up(self) -> None:
        """See `Line.bring_up`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)

    async def send(self, fields: Mapping[str, bytes]) -> str:
        """See `Line.send`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._post, fields)

    async def aclose(self) -> None:
        """See `Line.aclose`; a request that is under way is broken off."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)
        # The thread closes it, once it has done with it.
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        await asyncio.wait([closing], timeout=_CLOSE_S)
        self._thread.shutdown(wait=False)

    def _post(self, fields: Mapping[str, bytes]) -> str:
        headers = {"Content-Type": "application/msgpack"}
        if "s" in fields:
            headers["X-Livegate-Signature"] = fields["s"].hex()
        try:
            self._connection.request("POST", self._path, fields["f"], headers)
            response = self._connection.getresponse()
            body = response.read(1 << 16)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ReplyLost(f"no answer: {error or type(error).__name__}") from error
        if response.status == http.HTTPStatus.ACCEPTED:
            told = _told(body)
            codecs = told.get("codecs")
            if isinstance(codecs, list):
                self.codecs = FIRST_CODECS.union(each for each in codecs if isinstance(each, str))
            return str(told.get("entry_id", ""))
        if not response.isclosed():
            self._connection.close()
        raise _refusal(response, _told(body))

    def _connect(self) -> None:
        sock = self._connection.sock
        # What can be read from a connection that waits for nothing is its end.
        if sock is not None and select.select([sock], [], [], 0)[0]:
            self._connection.close()
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as error:
                self._connection.close()
                raise NotNow(f"can't connect: {error}") from error


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise CameraError("the URL can't be read: it is like http://host:8000") from None
    if not host or parts.username is not None:
        raise CameraError("the URL is like http://host:8000: a host, and no user or password")
    files = {name: options.pop(name, None) for name in ("ssl_ca_certs", "ssl_certfile")}
    key_file = options.pop("ssl_keyfile", None)
    if options:
        raise CameraError(f"the URL has the unknown option {min(options)!r:.40}")
    if parts.scheme == "http":
        if key_file or any(files.values()):
            raise CameraError("certificates need TLS: https:// instead of http://")
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=files["ssl_ca_certs"])
        if files["ssl_certfile"]:
            context.load_cert_chain(files["ssl_certfile"], key_file)
    except OSError as error:  # an SSLError is one
        raise CameraError(f"TLS can't be used with the URL's files: {error}") from error
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


def _refusal(response: http.client.HTTPResponse, told: Mapping[str, Any]) -> SendError:
    status = response.status
    message = f"HTTP {status}: {told.get('detail') or response.reason}"
    if status in (http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE):
        after = response.headers.get("Retry-After", "")
        pause_ms = told.get("retry_after_ms")
        if isinstance(pause_ms, int):
            return NotNow(message, min(pause_ms / 1000, 60.0))
        return NotNow(message, min(float(after), 60.0) if after.isdecimal() else None)
    # A gateway in between that got no answer does not know either.
    return NotTaken(message) if status < 500 else ReplyLost(message)


def _told(body: bytes) -> Mapping[str, Any]:
    with suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}
