"""The URL of a server, or of what knows where it is: read once, checked, and never shown whole.

    redis://user@host:6379/0                       rediss:// for TLS
    redis://user@host1:6379,host2:6379             servers of one cluster
    unix:///run/redis.sock?db=0
    redis+sentinel://user@host1,host2:26379/name   rediss+sentinel:// for TLS

A password is best not in it, where it ends up in process lists and logs: `?password_file=PATH`, or
the environment's LIVEGATE_REDIS_PASSWORD_FILE or LIVEGATE_REDIS_PASSWORD. A file is read at each
connection, so that a password is changed without a restart.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from workers.errors import WorkerError

_PORT, _SENTINEL_PORT = 6379, 26379
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_PASSWORD = "LIVEGATE_REDIS_PASSWORD"  # noqa: S105 - names of variables
_PASSWORD_FILE = "LIVEGATE_REDIS_PASSWORD_FILE"  # noqa: S105


class ServerUrlError(WorkerError):
    """A URL can't be used; the message says what to change, and holds no password."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to log in.

    Attributes:
        username: None: as the default user.
        password: None: without one, or with the one in `password_file`.
        password_file: read at each connection; empty: there is none.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: str = ""

    def read(self) -> tuple[str, ...]:
        """Return what AUTH takes; empty if there is no password.

        Raises:
            ServerUrlError: the file can't be read.
        """
        password = self.password
        if self.password_file:
            try:
                password = Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                told = error.strerror if isinstance(error, OSError) else "is no text"
                raise ServerUrlError(f"password file {self.password_file}: {told}") from error
        if password is None:
            return ()
        return (password,) if self.username is None else (self.username, password)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """What a URL says.

    Attributes:
        hosts: (host, port) of the server, of some of a cluster, or of each Sentinel; empty
            where there is a `socket`.
        socket: path of a Unix socket, or empty.
        service: the name by which Sentinels know the server, or empty.
        db: number of the database.
        is_tls: whether connections are encrypted.
        tls: `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`: paths of PEM files.
        login: for the server.
        sentinel_login: for the Sentinels.
    """

    hosts: tuple[tuple[str, int], ...]
    socket: str
    service: str
    db: int
    is_tls: bool
    tls: dict[str, str]
    login: Credentials
    sentinel_login: Credentials = Credentials()


def parse_server_url(url: str) -> ServerUrl:
    """Return what a URL says; a password that is not in it comes from the environment.

    Raises:
        ServerUrlError: the URL can't be used.
    """
    parts, options = _parts(url)
    is_tls, is_sentinel = parts.scheme.startswith("rediss"), parts.scheme.endswith("+sentinel")
    user, _, netloc = parts.netloc.rpartition("@")
    path = unquote(parts.path)
    tls = {name: options.pop(name) for name in _TLS_OPTIONS if name in options}
    if tls and not is_tls:
        raise ServerUrlError(f"{min(tls)} needs TLS: rediss:// instead of redis://")
    if ("ssl_keyfile" in tls) != ("ssl_certfile" in tls):
        raise ServerUrlError("ssl_certfile and ssl_keyfile go together")
    login = _login(user, options.pop("password_file", ""))
    sentinel_login, service, socket = Credentials(), "", ""
    if is_sentinel:
        sentinel_login = Credentials(password_file=options.pop("sentinel_password_file", ""))
        service, _, path = path.removeprefix("/").partition("/")
        if not service:
            raise ServerUrlError("name the service: redis+sentinel://host:26379/name")
    if parts.scheme == "unix":
        if netloc or not path.startswith("/"):
            raise ServerUrlError("a socket's URL is unix:///path/to/socket")
        socket, path = path, options.pop("db", "")
    if options:
        raise ServerUrlError(f"the URL has the unknown option {min(options)!r:.40}")
    hosts = () if socket else _hosts(netloc, is_sentinel=is_sentinel)
    return ServerUrl(hosts, socket, service, _db(path), is_tls, tls, login, sentinel_login)


def hidden(url: str) -> str:
    """Return a URL as it may be shown or logged: with *** for its password."""
    return re.sub(r"(://[^:@/?]*):.*@", r"\1:***@", url)


def _parts(url: str) -> tuple[SplitResult, dict[str, str]]:
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        # Not in its own words, which may hold a part of the URL.
        raise ServerUrlError(
            "the URL can't be read: it is like redis://host:6379/0?name=value&name=value"
        ) from None
    if parts.scheme not in _SCHEMES or parts.fragment:
        raise ServerUrlError(f"a server's URL begins with {'://, '.join(_SCHEMES)}://, without #")
    return parts, options


def _login(user: str, password_file: str) -> Credentials:
    name, has_password, password = user.partition(":")
    username = unquote(name) or None
    if has_password and password_file:
        raise ServerUrlError("the URL has a password and a password_file: drop the password")
    if has_password:
        return Credentials(username, unquote(password))
    if not password_file:
        password_file = os.environ.get(_PASSWORD_FILE, "")
    return Credentials(
        username, None if password_file else os.environ.get(_PASSWORD), password_file
    )


def _hosts(netloc: str, *, is_sentinel: bool) -> tuple[tuple[str, int], ...]:
    port = _SENTINEL_PORT if is_sentinel else _PORT
    return tuple(_host(name, port) for name in netloc.split(","))


def _host(text: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^:\[\]\s]+)(?::([0-9]{1,5}))?", text)
    if not found or not 0 < int(found[2] or port) < 1 << 16:
        raise ServerUrlError(
            "the URL needs a host: redis://name:port, the port from 1 to 65535; [::1] for IPv6"
        )
    return found[1].strip("[]"), int(found[2] or port)


def _db(path: str) -> int:
    text = path.removeprefix("/")
    if not re.fullmatch(r"[0-9]{0,4}", text, re.ASCII):
        raise ServerUrlError("the database is a number: redis://host:6379/0")
    return int(text or 0)
