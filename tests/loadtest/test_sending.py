"""Frames as they are sent: the wire's own bytes, through Redis and the ingress, and by LoadGen."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from aiohttp import web

from loadtest.cameras import Due, SimulatedCamera, Troubles, sending_order
from loadtest.counts import Kind
from loadtest.gallery import GalleryError, open_gallery
from loadtest.line import FrameLine
from loadtest.mlperf import run_loadgen
from loadtest.packets import CameraPackets
from loadtest.post import PostLine
from loadtest.run import run_scenario
from loadtest.scenario.faults import FrameFault
from loadtest.scenario.scenario import FleetSettings, Scenario, load_scenario
from loadtest.senders import start_sender, wait_until_ready
from loadtest.target import Target, TargetError
from loadtest.task import Tick, tasks_of
from tests.loadtest.test_scenarios import OF_MACHINE, is_even
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.frame import take_fields, unpack_frame
from workers.wire.keyring import read_keys, write_keys
from workers.wire.refusal import FrameRefused
from workers.wire.signing import new_key, sign

KEY = new_key()
FAULT = {"at": "10 s", "lasts": "10 s", "do": "replay frames", "share": "30 %"}


def small(name: str = "steady", seconds: float = 2.0, fps: float = 40.0) -> Scenario:
    scenario = load_scenario(name)
    scenario = scenario.scaled(fps / scenario.arrivals.fps, seconds / scenario.run.load_s)
    fleet = scenario.fleet.model_copy(update={"cameras": 8})
    run = scenario.run.model_copy(update={"senders": 1, "patience": 30.0})
    return scenario.model_copy(update={"fleet": fleet, "run": run})


@contextlib.contextmanager
def null_replica(settings: StreamSettings, key_file: Path) -> Iterator[None]:
    replica = subprocess.Popen(
        [sys.executable, "-m", "loadtest.null_replica", settings.model_dump_json(), str(key_file)]
    )
    try:
        yield
    finally:
        replica.terminate()
        assert replica.wait() == 0


def test_a_packet_is_a_frame_of_the_wire_format_signed_by_its_camera() -> None:
    gallery = open_gallery("rendered")
    packets = CameraPackets("load-1", KEY, gallery.stills)
    forger = CameraPackets("load-1", new_key(), gallery.stills)
    for still in (0, 7, 0):
        begins, ends, signature = packets.make(still, 2**63, 1_700_000_000_000, b"a person")
        frame = unpack_frame(begins + ends)
        assert (frame.camera_id, frame.seq, frame.presentation_id) == ("load-1", 2**63, "a person")
        assert set(frame.planes) == {"rgb", "depth", "ir"}
        assert signature == sign(begins + ends, KEY)
        # One camera id, two keys: what was hashed for the one is not the other's.
        assert forger.make(still, 2**63, 1_700_000_000_000, b"a person")[2] != signature
    begins, ends, _ = packets.make(0, 1, 1, b"p", rgb_only=True)
    assert set(unpack_frame(begins + ends).planes) == {"rgb"}
    assert CameraPackets("load-1", None, gallery.stills).make(0, 1, 1, b"p")[2] == b""


def test_frames_are_filled_up_to_a_size_and_not_cut_down_to_one() -> None:
    sizes = {len(each.packed) for each in open_gallery("rendered", 50_000).stills}
    assert sizes <= set(range(50_000, 50_010))
    with pytest.raises(GalleryError, match=r"fleet\.frame_size is 9000 bytes"):
        open_gallery("rendered", 9000)


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.OVERSIZE, Kind.CORRUPT, Kind.FORGED])
def test_a_frame_that_is_meant_to_be_broken_is(kind: Kind) -> None:
    camera = SimulatedCamera("load-1", KEY, 0, open_gallery("rendered"), seed=1)
    due = Due(0, camera, 3, 12345, 1_700_000_000_000, b"p", kind, 0.0, size=1_100_000)
    begins, ends, signature = due.fields()
    packed = begins + ends
    if kind == Kind.FORGED:
        assert signature != sign(packed, KEY)
    elif kind == Kind.CORRUPT:
        whole = b"".join(camera.packets.make(3, 12345, 1_700_000_000_000, b"p")[:2])
        assert len(packed) == len(whole)
        assert packed != whole
        assert signature == sign(packed, KEY)
    else:
        with pytest.raises(FrameRefused):
            unpack_frame(take_fields({b"f": packed, b"s": signature})[0])


def test_hot_cameras_send_their_share_and_each_camera_has_its_own_rate() -> None:
    fleet = FleetSettings(cameras=50, hot_cameras=2, hot_share=0.5)
    hot = [number < 2 for number in range(50)]
    order = sending_order(50, fleet, hot, seed=1)
    share = sum(hot[each] for each in order) / len(order)
    assert share == pytest.approx(0.5, abs=0.05)
    counts = [order.count(camera) for camera in range(2, 50)]
    assert min(counts) >= 1
    assert len(set(counts)) > 3


def test_troubles_pick_their_share_while_they_last() -> None:
    fault = FrameFault.model_validate(FAULT)
    troubles = Troubles([fault], seed=1)
    picked = [troubles.of(at_s) for at_s in (random.uniform(10, 20) for _ in range(2000))]
    assert sum(each is not None for each in picked) == pytest.approx(600, abs=80)
    assert all(each.copies_at_s[0] > 10 for each in picked if each is not None)
    assert troubles.of(9.9) is troubles.of(20.1) is None


async def test_a_line_adds_frames_in_order_and_one_that_breaks_tells_of_each(
    stream_settings: StreamSettings,
) -> None:
    added: list[tuple[int, str]] = []
    failed: list[tuple[int, bool]] = []
    servers = connect(stream_settings.url)
    line = FrameLine(
        servers,
        stream_settings.url,
        1,
        lambda number, entry: added.append((number, entry)),
        lambda number, _, may_have_arrived: failed.append((number, may_have_arrived)),
    )
    while not line.takes:
        line.flush()
        await asyncio.sleep(0.001)
    for number in range(100):
        line.send(number, b"x" * 1000, b"y", b"s" * 32)
    line.flush()
    while len(added) < 100:
        await asyncio.sleep(0.001)
    line.send(100, b"x", b"y", b"")
    line.reconnect()
    assert failed == [(100, True)]
    await line.aclose()
    await servers.aclose()
    with redis.Redis.from_url(stream_settings.url) as client:
        rows = client.xrange(keys.frames(1))
    assert [(number, entry.decode()) for number, (entry, _) in enumerate(rows)] == added
    assert rows[0][1] == {b"f": b"x" * 1000 + b"y", b"s": b"s" * 32}


async def test_against_a_null_pipeline_each_frame_is_decided_and_signed(
    stream_settings: StreamSettings, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys.json"
    write_keys(key_file, {})
    target = Target(stream_settings.url, 2, key_file=key_file, may_add_keys=True)
    scenario = small(fps=200.0)
    target.camera_keys(scenario.fleet)
    told = []
    with null_replica(stream_settings, key_file):
        result = await run_scenario(scenario, target, told.append)
    is_even(result)
    assert result.account["due"] > 300
    assert result.account["said"] == {"bona_fide": result.account["due"]}
    assert 0 < result.account["wrong_share"] < 0.4  # the attacks: it calls all of them bona fide
    assert result.distribution("steady").count == result.account["good_steady"]["verdict"]
    assert told
    assert told[-1].counts.said.total() == result.account["decided"]
    failed = {each.name for each in result.checks if not each.holds}
    assert failed <= OF_MACHINE


async def test_a_run_that_is_stopped_is_invalid_and_still_comes_out_even(
    stream_settings: StreamSettings, tmp_path: Path
) -> None:
    key_file = tmp_path / "keys.json"
    write_keys(key_file, {})
    target = Target(stream_settings.url, 2, key_file=key_file, may_add_keys=True)
    scenario = small(seconds=600)
    target.camera_keys(scenario.fleet)
    stop = asyncio.Event()
    with null_replica(stream_settings, key_file):
        result = await run_scenario(scenario, target, lambda _: stop.set(), stop)
    assert result.account["due"] == result.account["decided"] > 0
    assert result.verdict == "invalid"
    assert any(each.name == "the run was whole" and not each.holds for each in result.checks)


def test_a_sender_whose_parent_is_gone_ends(stream_settings: StreamSettings) -> None:
    (task,) = tasks_of(small(seconds=600), Target(stream_settings.url, 2), None)
    process, parent = start_sender(task)
    wait_until_ready(process, parent)
    parent.send(time.monotonic())
    assert isinstance(parent.recv(), Tick)  # it is amid its work
    parent.close()
    process.join(120)
    assert process.exitcode == 0


async def test_a_deployment_that_is_not_there_is_told_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    target = Target("redis://127.0.0.1:1", 2)
    with pytest.raises(redis.exceptions.ConnectionError):
        await run_scenario(small(), target)
    with pytest.raises(TargetError, match="the replicas must run on this machine"):
        await run_scenario(small("replica-killed"), target)
    ingress = small()
    through = ingress.fleet.model_copy(update={"through": "ingress"})
    with pytest.raises(TargetError, match="--http"):
        await run_scenario(ingress.model_copy(update={"fleet": through}), target)
    key_file = tmp_path / "keys.json"
    write_keys(key_file, {"gate-1": KEY})
    with pytest.raises(TargetError, match="has the keys of 1 cameras"):
        Target("redis://127.0.0.1:1", 2, key_file=key_file).camera_keys(small().fleet)
    assert set(read_keys(key_file)) == {"gate-1"}


async def test_what_the_ingress_answers_is_what_becomes_of_a_frame() -> None:
    statuses = {b"1": 202, b"2": 400, b"3": 429, b"4": 500, b"5": 503}
    seen: dict[bytes, str | None] = {}

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        seen[body] = request.headers.get("X-Livegate-Signature")
        status = statuses[body[:1]]
        return web.json_response({"entry_id": "7-0", "error": "so"}, status=status)

    app = web.Application()
    app.router.add_post("/v1/frames", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    added: list[tuple[int, str]] = []
    failed: dict[int, tuple[bool, bool]] = {}
    line = PostLine(
        f"http://{host}:{port}",
        lambda number, entry: added.append((number, entry)),
        lambda number, why, may: failed.update({number: (bool(why), may)}),
    )
    for number, begins in enumerate(statuses):
        assert line.takes
        line.send(number, begins, b"x", b"\x01\x02")
    while len(added) + len(failed) < len(statuses):
        await asyncio.sleep(0.001)
    await line.aclose()
    await runner.cleanup()
    assert added == [(0, "7-0")]
    # Refused for good; to be sent again; may have arrived; to be sent again.
    assert failed == {1: (True, False), 2: (False, False), 3: (True, True), 4: (False, False)}
    assert set(seen.values()) == {"0102"}


def test_loadgen_measures_the_same_streams(stream_settings: StreamSettings, tmp_path: Path) -> None:
    key_file = tmp_path / "keys.json"
    write_keys(key_file, {})
    target = Target(stream_settings.url, 2, key_file=key_file, may_add_keys=True)
    scenario = small()
    target.camera_keys(scenario.fleet)
    with null_replica(stream_settings, key_file):
        found = run_loadgen(scenario, target, tmp_path / "loadgen")
    assert found.num_frames >= 60
    assert found.num_unanswered == 0
    assert 0 < found.p50_ms <= found.p99_ms
