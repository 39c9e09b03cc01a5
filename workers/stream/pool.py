"""How the stream's connections are made: plain, TLS or Unix socket, and how they log in."""

import ssl
from typing import Any

from redis.asyncio.connection import (
    BlockingConnectionPool,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as LineError

from workers.wire.server_url import Credentials, ServerUrl, ServerUrlError

# A command that finds no connection free waits for one: a busy client is not a server that is away.
_MAX_CONNECTIONS = 32
_READ_BYTES = 1 << 18


class _Login(CredentialProvider):
    """Reads the password at each connection, so that it can be changed while a program runs."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get_credentials(self) -> Any:  # noqa: ANN401 - as redis-py declares it
        try:
            return self._credentials.read()
        except ServerUrlError as error:  # the file is being replaced, say: the line is not up
            raise LineError(str(error)) from error


def check(url: ServerUrl) -> None:
    """Try what can be tried without a server: the files that the URL names.

    Raises:
        ServerUrlError: one can't be used; the message names it.
    """
    url.login.read()
    url.sentinel_login.read()
    if not url.is_tls:
        return
    try:
        context = ssl.create_default_context(cafile=url.tls.get("ssl_ca_certs"))
        if "ssl_certfile" in url.tls:
            context.load_cert_chain(url.tls["ssl_certfile"], url.tls["ssl_keyfile"])
    except OSError as error:  # an SSLError is one
        files = ", ".join(f"{name}={path}" for name, path in sorted(url.tls.items()))
        raise ServerUrlError(
            f"TLS can't be used with {files}: {error.strerror or error}"
        ) from error


def pool_of(
    url: ServerUrl, address: tuple[str, int] | None, login: Credentials, timeout_s: float
) -> BlockingConnectionPool:
    """Return a pool of connections to one server; none is made yet.

    Args:
        url: what the connections are like.
        address: (host, port); None: the URL's Unix socket.
        login: for that server.
        timeout_s: to connect, and to wait for a reply.
    """
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        # Frames are large: each read that a reply takes costs more than the bytes in it.
        "socket_read_size": _READ_BYTES,
        # Nothing is sent but what an ACL has to allow anyway.
        "driver_info": None,
    }
    kind: type[Connection | UnixDomainSocketConnection] = Connection
    if address is None:
        kind = UnixDomainSocketConnection
        options["path"] = url.socket
    else:
        options.update(host=address[0], port=address[1], socket_keepalive=True)
        if url.is_tls:
            kind = SSLConnection
            options.update(url.tls)
    if login.password is not None or login.password_file:
        options["credential_provider"] = _Login(login)
    return BlockingConnectionPool(
        max_connections=_MAX_CONNECTIONS, timeout=None, connection_class=kind, **options
    )
