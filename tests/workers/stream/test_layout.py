"""What a server should be set to, and is not, is named when a replica starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from workers.settings import StreamSettings
from workers.stream.layout import StreamError
from workers.stream.redis_stream import RedisStream
from workers.wire import keys

WANTED = {
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "save": "",
    "auto-aof-rewrite-percentage": "100",
    "proto-max-bulk-len": "1048576",
}


@contextmanager
def configured(url: str, changes: dict[str, str]) -> Iterator[None]:
    with redis.Redis.from_url(url) as client:
        before: Any = {name: client.config_get(name)[name] for name in changes}
        try:
            for name, value in changes.items():
                client.config_set(name, value)
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


async def findings(settings: StreamSettings) -> list[str]:
    stream = RedisStream(settings, "replica")
    await stream.join()
    await stream.leave()
    return stream.findings


async def test_a_server_that_is_well_is_told_nothing(stream_settings: StreamSettings) -> None:
    with configured(stream_settings.url, WANTED):
        assert await findings(stream_settings) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("appendonly", "no", "should be yes: frames and decisions are lost"),
        ("appendfsync", "everysec", "should be always"),
        ("maxmemory-policy", "allkeys-lru", "throws away whole streams"),
        ("save", "3600 1", "should be empty: a snapshot keeps the faces"),
        ("auto-aof-rewrite-percentage", "0", "stay in the append-only file"),
        ("proto-max-bulk-len", "536870912", "fill the server"),
    ],
)
async def test_each_setting_that_is_not_is_named(
    stream_settings: StreamSettings, name: str, value: str, message: str
) -> None:
    with configured(stream_settings.url, {**WANTED, name: value}):
        (finding,) = await findings(stream_settings)
    assert finding.startswith(f"{name} is {value}")
    assert message in finding


async def test_frames_of_another_number_of_partitions_are_not_stranded(
    stream_settings: StreamSettings,
) -> None:
    """They are said to wait, until a deployment with their number has decided them."""
    fewer = stream_settings.model_copy(update={"partitions": 1})
    await findings(stream_settings)
    with redis.Redis.from_url(stream_settings.url) as client:
        entry_id: Any = client.xadd(keys.frames(1), {"f": "waits"})
        stream = RedisStream(fewer, "replica")
        with pytest.raises(StreamError, match=r"1 frames wait in 2 partitions.*partitions: 2"):
            await stream.join()
        await stream.leave()
        client.xdel(keys.frames(1), entry_id)
    await findings(fewer)
    stream = RedisStream(fewer, "replica")
    await stream.join()
    assert [list(group) for group in stream.groups] == [[0]]
    await stream.leave()
