"""The ingress on real servers and over real HTTP: what gets in, what does not, and what it says."""

import asyncio
import contextlib
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import redis
import uvicorn
from fastapi import FastAPI, Request, Response

from tests.conftest import emptied
from tests.workers import frames
from workers.client.camera import Camera, Sent
from workers.ingress import Ingress
from workers.settings import IngressSettings, StreamSettings, WorkerSettings
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.frame import CODECS, pack_frame
from workers.wire.keyring import Keyring, write_keys
from workers.wire.signing import sign

PARTITION = keys.partition_of("gate-1", 2)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Bench:
    """An ingress that listens, its server, and how far its clock is ahead."""

    port: int
    client: "redis.Redis[bytes]"
    ahead_ms: int = 0

    def post(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/frames", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers

    async def send(self, body: bytes, key: bytes = frames.KEY) -> tuple[int, dict[str, Any], Any]:
        signature = {"X-Livegate-Signature": sign(body, key).hex()}
        return await asyncio.to_thread(lambda: self.post(body, **signature))

    @property
    def num_entries(self) -> int:
        return int(self.client.xlen(keys.frames(PARTITION)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(params=["valkey", "redis"])
def stream(request: pytest.FixtureRequest) -> StreamSettings:
    return emptied(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
async def bench(stream: StreamSettings, tmp_path: Any) -> AsyncIterator[Bench]:
    key_file = tmp_path / "keys.json"
    write_keys(key_file, {"gate-1": frames.KEY})
    settings = WorkerSettings(
        stream=stream,
        camera_keys=key_file,
        max_frame_bytes=100_000,
        ingress=IngressSettings(max_fps=0.5, burst=5, body_s=0.3),
    )
    servers = connect(stream.url)
    app = FastAPI()
    with redis.Redis.from_url(stream.url) as client:
        made = Bench(0, client)
        clock = lambda _: now_ms() + made.ahead_ms  # noqa: E731
        ingress = Ingress(servers, Keyring(key_file), settings, clock)

        @app.post("/v1/frames")
        async def add(request: Request) -> Response:
            return await ingress.take(request)

        config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            made.port = listening.getsockname()[1]
            serving = asyncio.create_task(server._serve([listening]))
            yield made
            server.should_exit = True
            await serving
    await servers.aclose()


def packed(seq: int = 1, at_ms: int | None = None, camera_id: str = "gate-1") -> bytes:
    return pack_frame(frames.frame(camera_id, seq, now_ms() if at_ms is None else at_ms))


async def test_a_frame_gets_in_as_it_came(bench: Bench) -> None:
    body = packed(seq=7)
    status, told, _ = await bench.send(body)
    ((entry_id, fields),) = bench.client.xrange(keys.frames(PARTITION))
    assert (status, told) == (
        202,
        {"entry_id": entry_id.decode(), "camera_id": "gate-1", "seq": 7, "codecs": [*CODECS]},
    )
    assert fields == {b"f": body, b"s": sign(body, frames.KEY)}


async def test_each_refusal_says_what_is_wrong_and_nothing_gets_in(bench: Bench) -> None:
    old, ahead = packed(at_ms=now_ms() - 60_000), packed(at_ms=now_ms() + 60_000)
    told = {
        "bad_signature": await bench.send(packed(), bytes(32)),
        "unknown_camera": await bench.send(packed(camera_id="gate-2")),
        "malformed": await bench.send(b"\x81\xa9camera_id\xa6gate-1"),
        "too_large": await bench.send(bytes(100_001)),
        "expired": await bench.send(old),
        "from the future": await bench.send(ahead),
        "unsigned": await asyncio.to_thread(lambda: bench.post(packed())),
        "no hex": await asyncio.to_thread(
            lambda: bench.post(packed(), **{"X-Livegate-Signature": "no hex"})
        ),
        "nothing": await bench.send(b""),
    }
    assert {name: (status, body["error"]) for name, (status, body, _) in told.items()} == {
        "bad_signature": (401, "bad_signature"),
        "unknown_camera": (403, "unknown_camera"),
        "malformed": (400, "malformed"),
        "too_large": (413, "too_large"),
        "expired": (422, "expired"),
        "from the future": (400, "malformed"),
        "unsigned": (401, "bad_signature"),
        "no hex": (401, "bad_signature"),
        "nothing": (400, "malformed"),
    }
    assert "set the camera's clock" in told["from the future"][1]["detail"]
    assert bench.num_entries == 0


async def test_a_camera_keeps_to_its_rate_and_nobody_else_can_use_it_up(bench: Bench) -> None:
    for _ in range(10):
        await bench.send(packed(), bytes(32))
    answers = [await bench.send(packed(seq)) for seq in range(7)]
    assert [status for status, _, _ in answers] == [202] * 5 + [429] * 2
    _, told, headers = answers[-1]
    assert told["error"] == "too_fast"
    assert 1000 < told["retry_after_ms"] <= 2000
    assert headers["Retry-After"] == "2"
    assert 0 < bench.client.pttl(keys.rate(PARTITION, "gate-1")) <= 10_000


async def test_a_clock_that_was_set_back_does_not_lock_a_camera_out(bench: Bench) -> None:
    bench.client.set(keys.rate(PARTITION, "gate-1"), now_ms() + 3_600_000)
    assert (await bench.send(packed()))[0] == 202


async def test_a_body_that_does_not_end_is_given_up_on(bench: Bench) -> None:
    def trickle() -> bytes:
        with socket.create_connection(("127.0.0.1", bench.port), timeout=10) as line:
            line.sendall(b"POST /v1/frames HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            return line.recv(4096)

    assert b" 408 " in (await asyncio.to_thread(trickle)).splitlines()[0]


async def test_a_body_without_end_takes_no_memory(bench: Bench) -> None:
    def flood() -> bytes:
        chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
        with socket.create_connection(("127.0.0.1", bench.port), timeout=10) as line:
            head = b"POST /v1/frames HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            line.sendall(head)
            with contextlib.suppress(OSError):  # it is told to end
                for _ in range(1000):
                    line.sendall(chunk)
            with contextlib.suppress(OSError):
                return line.recv(4096)
        return b""

    answer = await asyncio.to_thread(flood)
    assert not answer or b" 413 " in answer or b" 408 " in answer
    assert bench.num_entries == 0


async def test_a_full_server_says_when_to_come_back(bench: Bench) -> None:
    bench.client.config_set("maxmemory", 1)
    try:
        status, told, headers = await bench.send(packed())
    finally:
        bench.client.config_set("maxmemory", 0)
    assert (status, told["error"], headers["Retry-After"]) == (503, "not_now", "1")
    assert bench.num_entries == 0


async def test_a_stream_that_can_not_be_written_is_not_now(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.client.set(keys.frames(PARTITION), "not a stream")
    assert (await bench.send(packed()))[0] == 503
    assert "WRONGTYPE" in caplog.text


class TestCamera:
    """The camera client over HTTP: the same calls, the same account."""

    async def test_frames_arrive(self, bench: Bench) -> None:
        camera = Camera(bench.url, "gate-1", frames.KEY)
        for _ in range(3):
            camera.publish(frames.planes())
        assert await asyncio.to_thread(camera.close) == Sent(acknowledged=3)
        assert bench.num_entries == 3

    async def test_depth_is_pco_once_the_ingress_has_said_so(self, bench: Bench) -> None:
        camera, depth = Camera(bench.url, "gate-1", frames.KEY), np.full((8, 8), 700, np.uint16)
        assert camera.depth(depth).codec == "png"
        camera.publish(frames.planes())
        while not camera.sent.acknowledged:
            await asyncio.sleep(0.01)
        assert camera.depth(depth).codec == "pco"
        await asyncio.to_thread(camera.close)

    async def test_what_is_refused_is_told_with_the_reason(self, bench: Bench) -> None:
        camera = Camera(bench.url, "gate-1", bytes(32))
        camera.publish(frames.planes())
        sent = await asyncio.to_thread(camera.close)
        assert (sent.refused, sent.acknowledged) == (1, 0)
        assert "HTTP 401" in sent.last_error
        assert "not that of camera gate-1" in sent.last_error

    async def test_too_fast_is_waited_for_and_the_newest_are_kept(self, bench: Bench) -> None:
        camera = Camera(bench.url, "gate-1", frames.KEY, max_waiting=2)
        while "429" not in camera.sent.last_error:
            camera.publish(frames.planes())
            await asyncio.sleep(0.01)
        sent = await asyncio.to_thread(camera.close, 0.1)
        assert sent.acknowledged == 5 == bench.num_entries
        assert sent.dropped > 0
        assert sent.refused == 0

    async def test_a_connection_that_was_closed_meanwhile_costs_no_frame(
        self, bench: Bench
    ) -> None:
        camera = Camera(bench.url, "gate-1", frames.KEY)
        for number in range(3):
            camera.publish(frames.planes())
            while camera.sent.acknowledged <= number:
                await asyncio.sleep(0.01)
            line: Any = camera._camera._line
            line._connection.sock.shutdown(socket.SHUT_WR)  # the server closes its side
            await asyncio.sleep(0.2)
        assert await asyncio.to_thread(camera.close) == Sent(acknowledged=3)

    def test_nobody_there_is_waited_for(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        camera = Camera(f"http://127.0.0.1:{port}", "gate-1", None)
        camera.publish(frames.planes())
        sent = camera.close(0.3)
        assert (sent.dropped, sent.unknown) == (1, 0)
        assert "can't connect" in sent.last_error

    def test_no_answer_is_unknown_and_close_does_not_wait_for_it(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            camera = Camera(f"http://127.0.0.1:{silent.getsockname()[1]}", "gate-1", None)
            camera.publish(frames.planes())
            assert camera.close(0.2).unknown == 1
