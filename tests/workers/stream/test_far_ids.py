"""An id that lies far ahead is named, and set right once nothing waits: on both kinds of server."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.conftest import emptied
from workers.settings import StreamSettings
from workers.stream.connection import Servers, connect
from workers.stream.far_ids import repair_ids
from workers.stream.redis_stream import RedisStream
from workers.wire import keys

NAME = keys.frames(0)
FAR = "18446744073709551615-18446744073709551615"


@pytest.fixture(params=["valkey", "redis"])
def settings(request: pytest.FixtureRequest) -> StreamSettings:
    return emptied(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def servers(settings: StreamSettings) -> AsyncIterator[Servers]:
    made = connect(settings.url)
    yield made
    await made.aclose()


@pytest.mark.parametrize("far", [FAR, "9999999999999-5"])
async def test_a_stream_goes_on_once_it_is_empty(
    settings: StreamSettings, servers: Servers, far: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = RedisStream(settings, "replica")
    await stream.join()
    (group,) = stream.groups
    await servers.execute(NAME, "XADD", NAME, "*", "f", "before")
    await servers.execute(NAME, "XADD", NAME, far, "f", "far")
    assert await repair_ids(servers, range(2)) == [0]
    assert f"{NAME}: its newest id lies" in caplog.text
    read: list[str] = []
    async with asyncio.timeout(20):
        while len(read) < 2:
            read += [each.id for each in await stream.read(group, 8)]
    assert await repair_ids(servers, range(2)) == [0]
    for each in read:
        await servers.execute(NAME, "XACK", NAME, keys.GROUP, each)
        await servers.execute(NAME, "XDEL", NAME, each)
    assert await repair_ids(servers, range(2)) == []
    assert "set right" in caplog.text
    added = await servers.execute(NAME, "XADD", NAME, "*", "f", "after")
    assert abs(int(added.partition(b"-")[0]) - time.time() * 1000) < 60_000
    async with asyncio.timeout(20):
        while not (found := await stream.read(group, 8)):
            pass
    assert [each.id for each in found] == [added.decode()]
    await stream.leave()


async def test_streams_that_are_well_or_not_there_are_left_alone(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    added = await servers.execute(NAME, "XADD", NAME, "*", "f", "now")
    await servers.execute(NAME, "SET", keys.frames(1), "of the wrong type")
    assert await repair_ids(servers, range(2)) == []
    assert caplog.text == ""
    assert (await servers.execute(NAME, "XRANGE", NAME, "-", "+"))[0][0] == added
