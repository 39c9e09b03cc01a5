"""The generated ACL on a real server: each role can do its work."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.cluster.acl import Account
from deploy.commands import main as cli
from tests.deploy.cluster.guarded import (
    ACCOUNTS,
    OTHER,
    OWN,
    PARTITIONS,
    Guarded,
)
from tests.workers import frames
from tests.workers.client.test_door import FRESH
from tests.workers.stream.cluster import started_cluster
from workers.client.camera import Camera, Sent
from workers.client.door import Door, follow, last_ids
from workers.replica.shadow_tally import ShadowTally
from workers.replica.telemetry import NoMetrics
from workers.settings import StreamSettings
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Servers, connect
from workers.stream.delivery import Commit, CommitResult, Entry, SeqUse
from workers.stream.far_ids import repair_ids
from workers.stream.redis_stream import RedisStream
from workers.stream.roster import read_roster, sign_in
from workers.stream.scripts import packed, script
from workers.wire import keys
from workers.wire.decision import pack_decision
from workers.wire.keyring import write_keys
from workers.wire.signing import door_key, sign


async def work(url: str, camera_url: str) -> None:
    """Do all that a replica does, but for what only happens when something fails."""
    settings = StreamSettings(url=url, partitions=PARTITIONS, lease_ms=200, block_ms=20)
    gone, stream = RedisStream(settings, "gone"), RedisStream(settings, "here")
    servers = connect(url)
    for each in (gone, stream):
        await each.join()
    (group,) = stream.groups
    cameras = connect(camera_url)
    name = keys.frames(OWN)
    for _ in range(3):
        await cameras.execute(name, "XADD", name, "*", "f", b"frame", "s", b"")
    await cameras.aclose()
    await read_backlog(servers, range(PARTITIONS))
    lost = await gone.read(group, 1)
    assert len(lost) == 1
    found = await stream.read(group, 1)
    stream.release(found[0], is_ours=True)
    again: list[Any] = []
    async with asyncio.timeout(20):
        while len(again) < 2:  # what could not be committed is left alone for a while
            again += await stream.read(group, 8)
    use = SeqUse("gate-1", "00000000", 7, stream.now_ms(OWN) + 60_000)
    commit = Commit(again[0], pack_decision(FRESH), b"s", "gate-1", use, None, "an error")
    assert await stream.commit([commit]) == [CommitResult.COMMITTED]
    assert await stream.admit(use) is CommitResult.REPLAYED
    names = [name, keys.rate(OWN, "gate-1")]
    added = packed(period_ms=1, burst_ms=1000)
    assert b"-" in await servers.run(script("ingest"), names, [added, "f", "frame"])
    await stream._commits._look_up([commit], [CommitResult.NOT_OWNER], 5000)
    reclaimed: list[Any] = []
    async with asyncio.timeout(20):
        while not reclaimed:
            reclaimed = await stream.reclaim(group, 8)
            await stream.beat()
    assert [each.id for each in reclaimed] == [each.id for each in lost]
    await servers.execute(name, "XADD", keys.frames(OTHER), "9999999999999-0", "f", "far")
    await servers.execute(name, "XDEL", keys.frames(OTHER), "9999999999999-0")
    assert await repair_ids(servers, range(PARTITIONS)) == []
    await stream._heartbeat._tidy([stream._shards.of(OWN)])
    tally = ShadowTally(NoMetrics())
    tally.dropped("m@1", "c@2", "busy")
    await tally.keep(servers)
    await sign_in(servers, "here", {}, stream.now_ms(OWN))
    assert len(await read_roster(servers, stream.now_ms(OWN))) == 1
    await gone.leave()
    await stream.leave()
    await servers.aclose()


def test_a_worker_can_do_its_work_and_needs_what_it_may_do(server: Guarded) -> None:
    server.run("admin", "CONFIG", "RESETSTAT")
    asyncio.run(work(server.url("worker"), server.url("gateway")))
    assert server.denied() == ["config|get"]
    stats: Any = server.run("admin", "INFO", "commandstats")
    used = {name.removeprefix("cmdstat_") for name in stats}
    granted = set(re.findall(r"\+(\S+)", Account("worker").rules(PARTITIONS)))
    # What is left is for failures, for the other kind of reader, or for a door beside the worker.
    assert granted - used <= {"zrem", "xread", "zrevrange", "ping", "eval", "xinfo|groups", "xlen"}


def test_each_client_can_do_its_work(server: Guarded) -> None:
    for role in ("gateway", "camera"):
        camera = Camera(server.url(role), "gate-1", frames.KEY, partitions=PARTITIONS)
        camera.publish(frames.planes())
        assert camera.close(10) == Sent(acknowledged=1)

    async def read(servers: Servers) -> None:
        decisions = Door(servers, "gate-1", door_key(frames.KEY), partitions=PARTITIONS).decisions
        coming = decisions("0")
        assert (await anext(coming)).camera_id == "gate-1"
        await coming.aclose()  # type: ignore[attr-defined]
        coming = decisions()
        waiting = asyncio.ensure_future(anext(coming))  # type: ignore[arg-type]
        await asyncio.wait([waiting], timeout=0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
        await servers.aclose()

    signed = pack_decision(FRESH)
    fields = ("d", signed, "s", sign(signed, door_key(frames.KEY)))
    for name in (keys.camera_decisions(OWN, "gate-1"), keys.decisions(OWN)):
        server.run("worker", "XADD", name, "*", *fields)
    asyncio.run(read(connect(server.url("door"), timeout_s=5)))
    assert server.denied() == []


@pytest.mark.parametrize("role", ["operator", "console"])
def test_who_watches_sees_figures_and_decisions(server: Guarded, role: str) -> None:
    server.run("gateway", "XADD", keys.frames(OWN), "*", "f", "a face")
    for name in (keys.decisions(OWN), keys.camera_decisions(OWN, "gate-1")):
        server.run("worker", "XADD", name, "*", "d", pack_decision(FRESH))

    async def watch() -> None:
        servers = connect(server.url(role), timeout_s=5)
        assert total(await read_backlog(servers, range(PARTITIONS))).entries == 1
        names = [keys.decisions(OWN), keys.camera_decisions(OWN, "gate-1")]
        assert set(await last_ids(servers, names)) == set(names)
        coming = follow(servers, dict.fromkeys(names, "0"))
        assert (await anext(coming))[1].camera_id == "gate-1"
        await coming.aclose()  # type: ignore[attr-defined]
        await servers.aclose()

    asyncio.run(watch())
    assert server.denied() == ["xinfo|stream"]
    if role == "operator":
        for command in (("INFO",), ("SLOWLOG GET",), ("HGETALL", keys.members(0))):
            server.run(role, *command)
        server.run(role, "XRANGE", keys.dead(OWN), "-", "+")


def test_passwords_are_kept_and_stand_nowhere_else(tmp_path: Path) -> None:
    keys_file = tmp_path / "keys.json"
    write_keys(keys_file, {"gate-1": bytes(32), "gate-2": bytes(32)})
    folder = tmp_path / "acl"
    args = ["deploy", "acl", str(folder), "--file", str(keys_file), "--direct-cameras"]
    told = [CliRunner().invoke(cli.app, args) for _ in range(2)]
    assert [each.exit_code for each in told] == [0, 0]
    acl = (folder / "users.acl").read_text()
    files = sorted(folder.glob("*.password"))
    assert [file.stem for file in files] == sorted(
        f"livegate-{name}"
        for name in (
            *("worker", "gateway", "operator", "console", "admin"),
            *("door-gate-1", "door-gate-2", "camera-gate-1", "camera-gate-2"),
        )
    )
    for file in files:
        password = file.read_text().strip()
        assert file.stat().st_mode & 0o077 == 0
        assert hashlib.sha256(password.encode()).hexdigest() in acl
        assert password not in acl + told[0].output + told[1].output


def test_on_a_cluster_each_finds_its_server(tmp_path: Path) -> None:
    """The same rules, where clients have to ask for the map of slots."""
    with started_cluster(tmp_path) as cluster:
        urls = {}
        for account in ACCOUNTS:
            for node in cluster.nodes:
                rules = account.rules(PARTITIONS, cluster=True)
                parts = [each or more for each, more in re.findall(r"(\([^)]*\))|(\S+)", rules)]
                node.client.execute_command(
                    "ACL SETUSER", account.name, "reset", "on", ">secret", *parts
                )
            urls[account.role] = cluster.url.replace("://", f"://{account.name}:secret@")

        async def decide() -> None:
            settings = StreamSettings(url=urls["worker"], cluster=True, partitions=PARTITIONS)
            stream = RedisStream(settings, "replica")
            await stream.join()
            entries: list[Entry] = []
            async with asyncio.timeout(20):
                while len(entries) < 2:
                    for group in stream.groups:
                        entries += await stream.read(group, 8)
                        assert await stream.reclaim(group, 8) == []
            signed = pack_decision(FRESH)
            signature = sign(signed, door_key(frames.KEY))
            commits = [Commit(each, signed, signature, "gate-1") for each in entries]
            assert set(await stream.commit(commits)) == {CommitResult.COMMITTED}
            await stream.leave()
            servers = connect(urls["door"], cluster=True, timeout_s=5)
            door = Door(servers, "gate-1", door_key(frames.KEY), partitions=PARTITIONS)
            assert (await anext(door.decisions("0"))).camera_id == "gate-1"
            await servers.aclose()
            servers = connect(urls["console"], cluster=True)
            assert total(await read_backlog(servers, range(PARTITIONS))).entries == 0
            await servers.aclose()

        for role in ("camera", "gateway"):
            camera = Camera(urls[role], "gate-1", frames.KEY, partitions=PARTITIONS, cluster=True)
            camera.publish(frames.planes())
            assert camera.close(10) == Sent(acknowledged=1)
        asyncio.run(decide())
