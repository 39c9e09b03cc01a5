"""The generated ACL on a real server: what each role can not do."""

import asyncio
import re

import pytest
import redis
from redis.exceptions import NoPermissionError, ResponseError

from tests.deploy.cluster.guarded import (
    DECISIONS,
    FRAMES,
    MINE,
    OTHER,
    OWN,
    Guarded,
)
from workers.stream.connection import connect
from workers.wire import keys

FACES: list[tuple[str, ...]] = [
    ("XRANGE", FRAMES, "-", "+"),
    ("XREVRANGE", FRAMES, "+", "-"),
    ("XREAD", "STREAMS", FRAMES, "0"),
    ("XREADGROUP", "GROUP", "livegate", "me", "STREAMS", FRAMES, ">"),
    ("XINFO STREAM", FRAMES),
    ("XCLAIM", FRAMES, "livegate", "me", "0", "0-1"),
    ("DUMP", FRAMES),
    ("EVAL", "return redis.call('XRANGE', KEYS[1], '-', '+')", "1", FRAMES),
    ("EVAL", f"return redis.call('XRANGE', '{FRAMES}', '-', '+')", "0"),
]


WRITES: list[tuple[str, ...]] = [
    ("XADD", DECISIONS, "*", "d", "forged"),
    ("XADD", f"{MINE}gate-1", "*", "d", "forged"),
    ("XTRIM", FRAMES, "MAXLEN", "0"),
    ("XDEL", FRAMES, "1-1"),
    ("DEL", FRAMES),
    ("SET", keys.layout(0), "1"),
    ("HINCRBY", keys.members(0), "me", "1"),
    ("ZADD", keys.seen(OWN, "gate-1", "0"), "1", "1"),
    ("EVAL", f"return redis.call('XADD', '{DECISIONS}', '*', 'd', 'forged')", "0"),
]


SERVER: list[tuple[str, ...]] = [
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG GET", "*"),
    ("CONFIG SET", "save", ""),
    ("ACL WHOAMI",),
    ("ACL LIST",),
    ("MONITOR",),
    ("CLIENT LIST",),
    ("SHUTDOWN",),
    ("MEMORY USAGE", FRAMES),
    ("MODULE LIST",),
    ("REPLICAOF", "NO", "ONE"),
    ("SELECT", "1"),
    ("PUBLISH", "a", "b"),
    ("SCRIPT FLUSH",),
    ("GET", "another-application"),
]


NOT_FOR: dict[str, list[tuple[str, ...]]] = {
    "worker": [*SERVER, ("XTRIM", FRAMES, "MAXLEN", "0"), ("DUMP", FRAMES), ("DEL", "another")],
    "operator": [*SERVER, *FACES, *WRITES, ("XADD", FRAMES, "*", "f", "x")],
    "console": [*SERVER, *FACES, *WRITES, ("XADD", FRAMES, "*", "f", "x"), ("INFO",)],
    "gateway": [*SERVER, *FACES, *WRITES, ("XRANGE", DECISIONS, "-", "+"), ("XLEN", FRAMES)],
    "camera": [
        *SERVER,
        *FACES,
        *WRITES,
        ("XADD", keys.frames(OTHER), "*", "f", "x"),
        ("XREAD", "STREAMS", f"{MINE}gate-1", "0"),
        ("XLEN", FRAMES),
    ],
    "door": [
        *SERVER,
        *FACES,
        *WRITES,
        ("XADD", FRAMES, "*", "f", "x"),
        ("XREAD", "STREAMS", f"{MINE}gate-2", "0"),
        ("XREAD", "STREAMS", DECISIONS, "0"),
    ],
}


@pytest.mark.parametrize("role", NOT_FOR)
def test_nobody_can_do_more(server: Guarded, role: str) -> None:
    async def allowed() -> list[tuple[str, ...]]:
        found = []
        servers = connect(server.url(role))
        for command in NOT_FOR[role]:
            try:
                await servers.execute("key", *command)
                found.append(command)
            except NoPermissionError:
                pass
            except ResponseError as error:  # a script passes it on
                if not re.search("user executing the script can't|ACL failure", str(error)):
                    found.append(command)
        await servers.aclose()
        return found

    server.run("gateway", "XADD", FRAMES, "*", "f", "a face")
    assert asyncio.run(allowed()) == []


def test_who_has_no_account_can_do_nothing(server: Guarded) -> None:
    with redis.Redis("127.0.0.1", server.port) as client, pytest.raises(redis.RedisError):
        client.ping()
