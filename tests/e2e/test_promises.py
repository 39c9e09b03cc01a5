"""What DESIGN promises, on real Ray and a real server, while things are killed."""

import asyncio
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.e2e.deployment import (
    Deployment,
    Watched,
    assert_nothing_is_left,
    deployed,
    until,
    watched,
)
from tests.workers import frames
from workers.client.camera import Camera
from workers.client.door import Door, last_ids
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, Reason, unpack_decision
from workers.wire.frame import pack_frame
from workers.wire.signing import door_key, sign

pytestmark = [
    # Ray's own sockets and deprecated calls warn; they are not ours to fix.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

# At first more than two replicas carry on any machine: both hold frames when one is stopped.
BUSY = ((2, 400), (4, 160))  # seconds, frames a second


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment")) as made:
        yield made


def held_by(client: "redis.Redis[bytes]", partitions: int) -> Counter[str]:
    """Return how many entries each consumer holds."""
    held: Counter[str] = Counter()
    for partition in range(partitions):
        for row in client.xpending_range(keys.frames(partition), keys.GROUP, "-", "+", 1000):
            held[row["consumer"].decode()] += 1
    return held


def test_our_packages_are_imported_from_here_in_the_replicas_too(deployment: Deployment) -> None:
    import ray  # noqa: PLC0415

    def folders() -> list[str]:
        import deploy  # noqa: PLC0415
        import loadtest  # noqa: PLC0415
        import model  # noqa: PLC0415
        import workers  # noqa: PLC0415

        return [str(Path(each.__file__).parents[1]) for each in (model, workers, loadtest, deploy)]

    here = [str(Path(__file__).parents[2])] * 4
    assert folders() == here
    assert ray.get(ray.remote(folders).remote()) == here


def test_http_tells_how_it_is_and_decides_a_frame(deployment: Deployment) -> None:
    url = deployment.config.http_url
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(url + path, timeout=60) as answer:
            assert answer.status == 200
    status = deployment.status()
    assert status["model"].startswith("random@")
    assert set(status["backlog"]) == {"waiting", "pending", "added", "oldest_age_ms"}
    camera, key = next(iter(deployment.camera_keys.items()))
    frame = pack_frame(frames.frame(camera, time.time_ns() // 1000, int(time.time() * 1000)))
    outcomes = [post(url, frame, sign(frame, key)) for _ in range(2)]
    assert [each["reason"] for each in outcomes] == [None, "replayed"]
    assert outcomes[0]["outcome"] in ("bona_fide", "attack")
    assert post(url, frame, bytes(32))["reason"] == "bad_signature"
    assert post(url, b"nonsense", bytes(32))["reason"] == "malformed"
    assert post(url, bytes(3 << 20), bytes(32))["reason"] == "too_large"
    for path in ("/docs", "/redoc", "/openapi.json"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url + path, timeout=60)


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
def test_an_answer_by_http_is_signed_for_the_door(deployment: Deployment, kind: str) -> None:
    camera, key = next(iter(deployment.camera_keys.items()))
    frame = pack_frame(frames.frame(camera, time.time_ns() // 1000, int(time.time() * 1000)))
    headers = {"X-Livegate-Signature": sign(frame, key).hex(), "Accept": kind}
    url = f"{deployment.config.http_url}/v1/decide"
    with urllib.request.urlopen(urllib.request.Request(url, frame, headers), timeout=60) as answer:
        told = answer.read()
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["X-Livegate-Signature"] == sign(told, door_key(key)).hex()
    if kind == "application/msgpack":
        assert unpack_decision(told).camera_id == camera


async def test_a_camera_that_posts_gets_its_decisions(deployment: Deployment) -> None:
    camera_id, key = next(iter(deployment.camera_keys.items()))
    servers = connect(deployment.url, timeout_s=5)
    door = Door(servers, camera_id, door_key(key), partitions=deployment.partitions)
    name = keys.camera_decisions(keys.partition_of(camera_id, deployment.partitions), camera_id)
    decisions = door.decisions((await last_ids(servers, [name]))[name])
    camera = Camera(deployment.config.http_url, camera_id, key)
    async with asyncio.timeout(180):
        seqs = [camera.publish(frames.planes()) for _ in range(3)]
        told = [(await anext(decisions)).seq for _ in seqs]
    assert sorted(told, key=str) == sorted(seqs, key=str)
    assert (await asyncio.to_thread(camera.close)).acknowledged == 3
    await decisions.aclose()  # type: ignore[attr-defined]
    await servers.aclose()


def post(url: str, body: bytes, signature: bytes) -> dict[str, Any]:
    headers = {"X-Livegate-Signature": signature.hex()}
    request = urllib.request.Request(f"{url}/v1/decide", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        decision: dict[str, Any] = json.load(answer)
        return decision


async def test_a_steady_load_is_decided_once_each(deployment: Deployment) -> None:
    async with watched(deployment) as cameras:
        await cameras.play((3, 40))
        await cameras.assert_exactly_once()
        # What was late is told apart from what was wrong.
        assert cameras.reasons() <= {"expired"}
    await assert_nothing_is_left(deployment)


async def test_a_replica_killed_amid_a_batch_loses_nothing(deployment: Deployment) -> None:
    async with watched(deployment) as cameras:
        playing = asyncio.create_task(cameras.play(*BUSY))
        with redis.Redis.from_url(deployment.url) as client:
            await until(lambda: sum(held_by(client, deployment.partitions).values()) >= 4)
        victim = deployment.replica_pids()[0]
        os.kill(victim, signal.SIGKILL)
        await playing
        await cameras.assert_exactly_once()
    await until(lambda: len(deployment.replica_pids()) == 2)
    assert victim not in deployment.replica_pids()
    await assert_nothing_is_left(deployment)


async def test_a_replica_that_comes_back_late_commits_nothing(deployment: Deployment) -> None:
    await until(lambda: len(deployment.replica_pids()) == 2)
    before = commits_refused(deployment)
    async with watched(deployment) as cameras:
        # One that is stopped before it has read what it was handed has nothing to commit late.
        for _ in range(20):
            await come_back_late(deployment, cameras)
            if commits_refused(deployment) != before:
                break
        assert commits_refused(deployment) != before
        await cameras.assert_exactly_once()
    await assert_nothing_is_left(deployment)


async def come_back_late(deployment: Deployment, cameras: Watched) -> None:
    """Stop a replica that holds frames until the other has decided them, and let it go on."""
    lease_s = deployment.config.settings.stream.lease_ms / 1000
    playing = asyncio.create_task(cameras.play(*BUSY))
    with redis.Redis.from_url(deployment.url) as client:
        await until(lambda: len(held_by(client, deployment.partitions)) == 2)
        zombie = await stopped_while_it_holds(client, deployment)
    try:
        stopped_s = time.monotonic()
        await playing
        await cameras.assert_exactly_once()
        await until(lambda: time.monotonic() - stopped_s > 2 * lease_s)
        decided = cameras.num_decided
    finally:
        os.kill(zombie, signal.SIGCONT)
    commits_refused(deployment)  # it answers, so it goes on
    assert cameras.num_decided == decided


async def stopped_while_it_holds(client: "redis.Redis[bytes]", deployment: Deployment) -> int:
    """Stop a replica that works on frames, and return its process.

    Under a load that keeps both busy. One stopped while it waits for frames is handed some, but
    may never see them, and then has nothing to commit late.
    """
    lease_ms = deployment.config.settings.stream.lease_ms

    def holds_what_nobody_keeps_alive() -> bool:
        # Two beats missed: a replica that is only slow misses none or one.
        return any(
            row["time_since_delivered"] > lease_ms * 2 / 3
            for partition in range(deployment.partitions)
            for row in client.xpending_range(keys.frames(partition), keys.GROUP, "-", "+", 1000)
        )

    for pid in deployment.replica_pids() * 5:
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(holds_what_nobody_keeps_alive, timeout_s=lease_ms / 1000)
        except TimeoutError:
            os.kill(pid, signal.SIGCONT)
        else:
            return pid
    raise AssertionError("no replica was ever stopped while it held a frame")


def commits_refused(deployment: Deployment) -> dict[str, int]:
    """Return how many commits of each replica were refused; ask until each has answered."""
    told: dict[str, int] = {}
    while len(told) < 2:
        replica = deployment.status()["replica"]
        told[replica["name"]] = replica.get("commits_refused", 0)
    return told


async def test_broken_frames_cost_themselves_only(deployment: Deployment) -> None:
    camera, key = next(iter(deployment.camera_keys.items()))
    # Entry ids are unique within a partition only: keep all of this in one.
    partition = keys.partition_of(camera, deployment.partitions)
    stranger = next(
        name
        for name in (f"stranger-{number}" for number in range(99))
        if keys.partition_of(name, deployment.partitions) == partition
    )
    expected: dict[str, Reason] = {}
    async with watched(deployment) as cameras:
        playing = asyncio.create_task(cameras.play((4, 100)))
        await until(lambda: cameras.num_decided > 0)
        with redis.Redis.from_url(deployment.url) as client:
            for seq in range(0, 40, 10):  # none that a simulated camera uses
                for packed, signature, reason in broken_frames(camera, key, stranger, seq):
                    fields = {"f": packed, "s": signature}
                    entry_id = client.xadd(keys.frames(partition), fields)
                    expected[entry_id.decode()] = reason
                await asyncio.sleep(0)
        await playing
        own = {camera, stranger, None}
        by_id: dict[str, Decision] = {}

        def all_told() -> bool:
            by_id.update(
                (each.entry_id, each) for each in cameras.decisions if each.camera_id in own
            )
            return expected.keys() <= by_id.keys()

        await until(all_told)
        assert {name: by_id[name].reason for name in expected} == expected
        assert all(by_id[name].outcome is Outcome.NO_DECISION for name in expected)
        await cameras.assert_exactly_once()
        assert cameras.reasons() <= {"expired"}


def broken_frames(
    camera: str, key: bytes, stranger: str, seq: int
) -> Iterator[tuple[bytes, bytes, Reason]]:
    """Yield (f, s, the reason it must get) of one frame of each broken kind."""
    now_ms = int(time.time() * 1000)
    good = pack_frame(frames.frame(camera, seq, now_ms))
    old = pack_frame(frames.frame(camera, seq + 1, now_ms - 60_000))
    bomb = {"rgb": frames.EncodedPlane("jpeg", frames.bomb())}
    bombed = pack_frame(frames.frame(camera, seq + 2, now_ms, planes=bomb))
    other = pack_frame(frames.frame(stranger, seq, now_ms))
    yield good, bytes(32), Reason.BAD_SIGNATURE
    yield good[:-100], sign(good[:-100], key), Reason.MALFORMED
    yield old, sign(old, key), Reason.EXPIRED
    yield bombed, sign(bombed, key), Reason.UNDECODABLE
    yield other, sign(other, key), Reason.UNKNOWN_CAMERA
    yield bytes(1 << 20), bytes(32), Reason.TOO_LARGE


async def test_a_server_killed_three_times_loses_nothing(deployment: Deployment) -> None:
    async with watched(deployment) as cameras:
        playing = asyncio.create_task(cameras.play((9, 60)))
        for _ in range(3):
            before = cameras.num_decided
            await until(lambda before=before: cameras.num_decided > before + 30)
            await asyncio.to_thread(deployment.kill_server)
        await playing
        await cameras.assert_exactly_once()
    await assert_nothing_is_left(deployment)
