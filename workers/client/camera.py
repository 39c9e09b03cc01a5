"""The camera's side: what an integrator imports to publish frames.

    camera = Camera("redis://127.0.0.1:6379/0", "gate-1", key, partitions=4)
    camera.publish({"rgb": jpeg(rgb), "depth": png(depth_mm), "ir": jpeg(ir)})
    camera.close()

`publish` never waits: it signs the frame and puts it in an outbox that keeps the newest few.
`Camera` sends from a thread, `AsyncCamera` from a task; both behave alike:

- server full or unreachable: they try again, after pauses that grow to a second, and meanwhile
  the outbox drops its oldest frames. A door has no use for old frames.
- reply lost: the frame may or may not have arrived. It is counted as `unknown` and not sent
  again, since a second copy would be a replay.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.client.outbox import OnResult, Outbox, Sent
from workers.stream.connection import FAILURES, AsyncClient, connect_blocking
from workers.wire.frame import EncodedPlane, Frame


def jpeg(pixels: NDArray[np.uint8], quality: int = 92) -> EncodedPlane:
    """Encode an RGB picture (H, W, 3) or an infrared one (H, W), uint8."""
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return EncodedPlane("jpeg", data.tobytes())


def png(pixels: NDArray[Any], unit_mm: float = 1.0) -> EncodedPlane:
    """Encode depth (H, W), uint16, 0 = hole, in counts of `unit_mm`; lossless."""
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return EncodedPlane("png", data.tobytes(), unit_mm=unit_mm)


def _frame(
    planes: Mapping[str, EncodedPlane],
    captured_at_ms: int | None,
    presentation_id: str | None,
    face_box: tuple[float, float, float, float] | None,
) -> Frame:
    now_ms = time.time_ns() // 1_000_000 if captured_at_ms is None else captured_at_ms
    return Frame("-", 0, now_ms, planes, presentation_id, face_box)


class Camera:
    """Publishes one camera's frames from a thread of its own."""

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        url: str,
        camera_id: str,
        key: bytes | None,
        *,
        partitions: int,
        cluster: bool = False,
        max_waiting: int = 16,
        on_result: OnResult | None = None,
    ) -> None:
        """Start the sender; the server need not be up yet, but one of a cluster has to be.

        Args:
            url: `redis://` or `rediss://` URL of the server, with user and password.
            camera_id: 1 to 64 of `[A-Za-z0-9._-]`.
            key: this camera's key, 32 bytes; None where the deployment takes unsigned frames.
            partitions: the deployment's number of partitions.
            cluster: the server at `url` is one of a Redis Cluster.
            max_waiting: frames kept while the server does not take them; older ones are dropped.
            on_result: called once with what has become of each frame, in whichever thread knows it.
        """
        self._outbox = Outbox(camera_id, key, partitions, max_waiting, on_result)
        self._client = connect_blocking(url, cluster=cluster)
        self._has_work = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._send, name=f"camera-{camera_id}", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> Sent:
        """What has become of the frames so far."""
        return self._outbox.sent

    def publish(
        self,
        planes: Mapping[str, EncodedPlane],
        *,
        captured_at_ms: int | None = None,
        presentation_id: str | None = None,
        face_box: tuple[float, float, float, float] | None = None,
    ) -> int:
        """Queue a frame and return its seq at once; it never waits for the server.

        Args:
            planes: 1 to 3 of `rgb`, `depth`, `ir`, registered to each other.
            captured_at_ms: Unix ms; None: now.
            presentation_id: the person standing at the door, as the camera tracks them.
            face_box: (x, y, w, h) px in the RGB plane; None: the planes are face crops already.

        Raises:
            workers.wire.refusal.FrameRefused: the frame breaks a rule of the wire format.
        """
        seq = self._outbox.put(_frame(planes, captured_at_ms, presentation_id, face_box))
        self._has_work.set()
        return seq

    def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts."""
        self._is_closed.set()
        self._has_work.set()
        self._thread.join(timeout_s)
        self._outbox.give_up()
        self._client.close()
        return self.sent

    def _send(self) -> None:
        execute: Any = self._client.execute_command
        while True:
            command = self._outbox.next_command()
            if command is None:
                if self._is_closed.is_set():
                    return
                self._has_work.wait()
                self._has_work.clear()
                continue
            try:
                self._outbox.answered(execute(*command))
            except FAILURES as error:
                self._is_closed.wait(self._outbox.failed(error))


class AsyncCamera:
    """Publishes one camera's frames from a task of the running event loop; see `Camera`."""

    def __init__(
        self,
        client: AsyncClient,
        camera_id: str,
        key: bytes | None,
        *,
        partitions: int,
        max_waiting: int = 16,
        on_result: OnResult | None = None,
    ) -> None:
        """Start the sender task; arguments as for `Camera`, but for the client.

        Args:
            client: from `workers.stream.connection.connect`; many cameras can share one.
            camera_id: 1 to 64 of `[A-Za-z0-9._-]`.
            key: this camera's key, 32 bytes, or None.
            partitions: the deployment's number of partitions.
            max_waiting: frames kept while the server does not take them.
            on_result: called once, in the event loop, with what has become of each frame.
        """
        self._outbox = Outbox(camera_id, key, partitions, max_waiting, on_result)
        self._client = client
        self._has_work = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._task = asyncio.create_task(self._send())

    @property
    def sent(self) -> Sent:
        """What has become of the frames so far."""
        return self._outbox.sent

    def publish(
        self,
        planes: Mapping[str, EncodedPlane],
        *,
        captured_at_ms: int | None = None,
        presentation_id: str | None = None,
        face_box: tuple[float, float, float, float] | None = None,
    ) -> int:
        """Queue a frame and return its seq at once; see `Camera.publish`."""
        seq = self._outbox.put(_frame(planes, captured_at_ms, presentation_id, face_box))
        self._has_work.set()
        return seq

    async def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts."""
        self._is_closed.set()
        self._has_work.set()
        # The sender is not cancelled while it may still get its reply: that frame would be unknown.
        await asyncio.wait([self._task], timeout=timeout_s)
        self._task.cancel()
        self._outbox.give_up()
        return self.sent

    async def _send(self) -> None:
        execute: Any = self._client.execute_command
        # Seen: a cancellation amid a command got lost, and what waited for this task never ended.
        while not self._task.cancelling():
            command = self._outbox.next_command()
            if command is None:
                if self._is_closed.is_set():
                    return
                await self._has_work.wait()
                self._has_work.clear()
                continue
            try:
                self._outbox.answered(await execute(*command))
            except FAILURES as error:
                await self._pause(self._outbox.failed(error))

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._is_closed.wait()
        except TimeoutError:
            return
