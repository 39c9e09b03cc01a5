"""URLs of servers: what they may say, where passwords come from, and that none is ever shown."""

from pathlib import Path

import pytest

from workers.stream.connection import connect
from workers.wire.server_url import ServerUrlError, hidden, parse_server_url


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIVEGATE_REDIS_PASSWORD", "LIVEGATE_REDIS_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_what_a_url_says() -> None:
    plain = parse_server_url("redis://127.0.0.1")
    assert (plain.hosts, plain.db, plain.is_tls) == ((("127.0.0.1", 6379),), 0, False)
    assert plain.login.read() == ()
    full = parse_server_url("rediss://cam:p%40ss@host:6380/3?ssl_ca_certs=/ca.pem")
    assert (full.hosts, full.db, full.is_tls) == ((("host", 6380),), 3, True)
    assert full.login.read() == ("cam", "p@ss")
    assert full.tls == {"ssl_ca_certs": "/ca.pem"}
    assert parse_server_url("redis://:only@[::1]:7").login.read() == ("only",)
    assert parse_server_url("redis://:only@[::1]:7").hosts == (("::1", 7),)
    socket = parse_server_url("unix:///run/redis.sock?db=2")
    assert (socket.socket, socket.db, socket.hosts) == ("/run/redis.sock", 2, ())
    cluster = parse_server_url("redis://u@a,[::1]:7")
    assert cluster.hosts == (("a", 6379), ("::1", 7))
    sentinel = parse_server_url("redis+sentinel://u@a,b:7/mymaster/1?password_file=/p")
    assert (sentinel.hosts, sentinel.service, sentinel.db) == (
        (("a", 26379), ("b", 7)),
        "mymaster",
        1,
    )


def test_a_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("from-file\n")
    monkeypatch.setenv("LIVEGATE_REDIS_PASSWORD", "from-environment")
    assert parse_server_url("redis://u@h").login.read() == ("u", "from-environment")
    assert parse_server_url(f"redis://u@h?password_file={file}").login.read() == ("u", "from-file")
    monkeypatch.setenv("LIVEGATE_REDIS_PASSWORD_FILE", str(file))
    login = parse_server_url("redis://u@h").login
    assert login.read() == ("u", "from-file")
    file.write_text("changed")
    assert login.read() == ("u", "changed")
    assert parse_server_url("redis://u:inline@h").login.read() == ("u", "inline")
    assert "inline" not in repr(parse_server_url("redis://u:inline@h"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "begins with"),
        ("http://u:secret@h", "begins with"),
        ("127.0.0.1:6379", "begins with"),
        ("redis://", "host"),
        ("redis://u:secret@", "host"),
        ("redis://u:secret@h:x", "port"),
        ("redis://u:secret@h:0", "port"),
        ("redis://u:secret@h:65536", "port"),
        ("redis://u:se/cret@h", "port|number"),
        ("redis://u:secret@[::1", "can't be read"),
        ("redis://u:secret@a,b", "one host"),
        ("redis://u:secret@h/x", "number"),
        ("redis://u:secret@h/0?protocol=3", "unknown option 'protocol'"),
        ("redis://h?password=secret", "unknown option 'password'"),
        ("redis://h?secret", "can't be read"),
        ("redis://u:secret@h#0", "without #"),
        ("redis://u:secret@h?password_file=/p", "drop the password"),
        ("redis://u:secret@h?ssl_ca_certs=/ca", "rediss://"),
        ("rediss://u:secret@h?ssl_certfile=/c", "go together"),
        ("redis+sentinel://u:secret@h", "name the service"),
        ("unix://u:secret@h/run/s", "unix:///"),
        ("unix://", "unix:///"),
        ("redis://u@h?password_file=/nowhere", "/nowhere"),
        ("rediss://u:secret@h?ssl_ca_certs=/nowhere.pem", "/nowhere.pem"),
    ],
)
def test_what_can_not_be_used_says_so_without_the_password(url: str, message: str) -> None:
    with pytest.raises(ServerUrlError, match=message) as refused:
        connect(url)
    assert "secret" not in str(refused.value)
    assert "se/cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["unix:///run/redis.sock", "redis+sentinel://h/name"])
def test_a_cluster_is_named_by_a_server(url: str) -> None:
    with pytest.raises(ServerUrlError, match="one of its servers"):
        connect(url, cluster=True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://u@h:6379/0", "redis://u@h:6379/0"),
        ("redis://u:secret@h:6379/0", "redis://u:***@h:6379/0"),
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://u:se/c@r:et@h", "redis://u:***@h"),
        ("redis+sentinel://u:secret@a,b/name", "redis+sentinel://u:***@a,b/name"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hidden(url) == shown
