"""Decisions of all partitions of a server are committed in one go, each partition for itself."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.workers.stream.bench import commit_of, read_all
from tests.workers.stream.test_stream import add, joined
from workers.settings import StreamSettings
from workers.stream.delivery import CommitResult
from workers.stream.server import Server
from workers.wire import keys


@pytest.fixture
def client(stream_settings: StreamSettings) -> Iterator[Any]:
    with redis.Redis.from_url(stream_settings.url) as made:
        yield made


async def test_decisions_of_all_partitions_go_in_one(
    stream_settings: StreamSettings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    execute_all = Server.execute_all

    async def counting(self: Server, commands: Any) -> list[Any]:
        some = list(commands)
        sent.append(len(some))
        return await execute_all(self, some)

    monkeypatch.setattr(Server, "execute_all", counting)
    client.script_flush()  # nor do scripts that the server forgot need another answer
    for partition in (0, 1, 1):
        add(client, partition)
    async with joined(stream_settings, "one") as (stream,):
        commits = [commit_of(entry) for entry in await read_all(stream)]
        assert await stream.commit(commits) == [CommitResult.COMMITTED] * 3
    assert sent == [2]


async def test_a_lost_reply_of_all_is_looked_up_for_each(
    stream_settings: StreamSettings, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute_all, tries = Server.execute_all, []

    async def losing(self: Server, commands: Any) -> list[Any]:
        answers = await execute_all(self, commands)
        tries.append(len(answers))
        if len(tries) == 1:
            raise redis.exceptions.ConnectionError("reply lost")
        return answers

    for partition in (0, 1, 0):
        add(client, partition)
    async with joined(stream_settings, "r") as (stream,):
        commits = [commit_of(entry) for entry in await read_all(stream)]
        monkeypatch.setattr(Server, "execute_all", losing)
        assert await stream.commit(commits) == [CommitResult.COMMITTED] * 3
    assert tries == [2, 2]
    assert client.xlen(keys.decisions(0)) == 2
    assert client.xlen(keys.decisions(1)) == 1
