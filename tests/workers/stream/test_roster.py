"""The roster: whoever signed in lately is in it, once."""

import redis

from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.roster import read_roster, sign_in, sign_out
from workers.wire import keys

NOW_MS = 1_700_000_000_000


async def test_who_was_silent_is_not_told_and_later_forgotten(
    stream_settings: StreamSettings,
) -> None:
    servers = connect(stream_settings.url)
    await sign_in(servers, "one", {"model": "m@1"}, NOW_MS)
    await sign_in(servers, "two", {"model": "m@1"}, NOW_MS + 3000)
    await sign_in(servers, "one", {"model": "m@2"}, NOW_MS + 4000)
    found = await read_roster(servers, NOW_MS + 5000)
    assert [(row["name"], row["model"]) for row in found] == [("one", "m@2"), ("two", "m@1")]
    assert [row["name"] for row in await read_roster(servers, NOW_MS + 8500)] == ["one"]
    with redis.Redis.from_url(stream_settings.url) as client:
        client.hset(keys.replicas(0), "odd", b"\xff{")
        client.hset(keys.replicas(0), "old", b"[1]")
        assert [row["name"] for row in await read_roster(servers, NOW_MS + 63_500)] == []
        assert client.hkeys(keys.replicas(0)) == [b"one"]
        await sign_out(servers, "one")
        assert not client.exists(keys.replicas(0))
    await servers.aclose()
