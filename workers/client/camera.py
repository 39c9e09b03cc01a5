"""The camera's side: what an integrator imports to publish frames.

    camera = Camera("redis://127.0.0.1:6379/0", "gate-1", key, partitions=4)
    camera.publish({"rgb": jpeg(rgb), "depth": camera.depth(depth_mm), "ir": jpeg(ir)})
    camera.close()

`publish` never waits: it signs the frame and puts it in an outbox that keeps the newest few.
`AsyncCamera` sends from a task, `Camera` runs one in a thread of its own; both behave alike, to
Redis as by HTTP (`Camera("http://host:8000", "gate-1", key)`, for cameras that are not trusted):

- server full or unreachable: they try again, after pauses that grow to a second, and meanwhile
  the outbox drops its oldest frames. A door has no use for old frames.
- reply lost: the frame may or may not have arrived. It is counted as `unknown` and not sent
  again, since a second copy would be a replay.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.client.lines import HttpLine, Line, RedisLine, SendError, checked_partitions
from workers.client.outbox import OnResult, Outbox, SendResult, Sent
from workers.client.pictures import CameraError, FaceBox, jpeg, make_frame, pco, png
from workers.stream.connection import Servers, connect
from workers.stream.server import is_cancelled
from workers.wire.frame import EncodedPlane
from workers.wire.server_url import hidden

__all__ = [
    "AsyncCamera", "Camera", "CameraError", "FaceBox", "SendResult", "Sent", "jpeg", "pco", "png",
]  # fmt: skip

_log = logging.getLogger(__name__)


class AsyncCamera:
    """Publishes one camera's frames from a task of the running event loop; see `Camera`."""

    def __init__(
        self,
        servers: Servers | Line,
        camera_id: str,
        key: bytes | None,
        *,
        partitions: int | None = None,
        max_waiting: int = 16,
        on_result: OnResult | None = None,
    ) -> None:
        """Start the sender task; the server need not be up yet.

        Args:
            servers: from `workers.stream.connection.connect`, which many cameras can share; or a
                line of this camera's own, as `workers.client.lines.HttpLine`.
            camera_id: 1 to 64 of `[A-Za-z0-9._-]`.
            key: this camera's key, 32 bytes; None where the deployment takes unsigned frames.
            partitions: the deployment's number of partitions, for Redis.
            max_waiting: frames kept while the server does not take them; older ones are dropped.
            on_result: called once, in the event loop, with what has become of each frame. What it
                raises is logged.

        Raises:
            CameraError: an argument can't be used.
            KeyRefused: the key is none.
        """
        self.outbox = Outbox(camera_id, key, max_waiting, on_result)
        self._line = _line(servers, camera_id, partitions)
        self._has_work = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._pid = os.getpid()
        self._task = asyncio.create_task(self._send())
        self._task.add_done_callback(self._ended)

    @property
    def sent(self) -> Sent:
        """What has become of the frames so far."""
        return self.outbox.sent

    def publish(
        self,
        planes: Mapping[str, EncodedPlane],
        *,
        captured_at_ms: int | None = None,
        presentation_id: str | None = None,
        face_box: FaceBox | None = None,
    ) -> int:
        """Queue a frame and return its seq at once; see `Camera.publish`."""
        self.check()
        seq = self.outbox.put(make_frame(planes, captured_at_ms, presentation_id, face_box))
        self.wake()
        return seq

    def depth(self, pixels: NDArray[np.uint16], unit_mm: float = 1.0) -> EncodedPlane:
        """Encode depth as this deployment likes it best; see `Camera.depth`."""
        return (pco if "pco" in self._line.codecs else png)(pixels, unit_mm)

    def check(self) -> None:
        """Return if frames can be published.

        Raises:
            CameraError: the camera is closed, was forked, or its sender has ended.
        """
        if self._pid != os.getpid():
            raise CameraError("this camera's sender stayed in the parent process: make a new one")
        if self._is_closed.is_set():
            raise CameraError("the camera is closed: make a new one")
        if self._task.done():
            raise CameraError("the camera's sender has ended, see the log: make a new one")

    def wake(self) -> None:
        """Let the sender look into its outbox."""
        self._has_work.set()

    async def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts."""
        self.outbox.close()
        self._is_closed.set()
        self._has_work.set()
        # The sender is not cancelled while it may still get its reply: that frame would be unknown.
        await asyncio.wait([self._task], timeout=timeout_s)
        self._task.cancel()
        self.outbox.give_up()
        await self._line.aclose()
        return self.sent

    async def _send(self) -> None:
        while not is_cancelled():
            fields = self.outbox.take()
            if fields is None:
                if self._is_closed.is_set():
                    return
                await self._has_work.wait()
                self._has_work.clear()
                continue
            try:
                await self._line.bring_up()
                self.outbox.begin()
                entry_id = await self._line.send(fields)
            except Exception as error:  # noqa: BLE001 - whatever it is, the camera goes on
                if not isinstance(error, SendError):
                    _log.exception("a frame could not be sent; the camera goes on")
                await self._pause(self.outbox.failed(error))
            else:
                self.outbox.arrived(entry_id)

    async def _pause(self, pause_s: float) -> None:
        """Wait; when the camera is closed, once no longer."""
        if self._is_closed.is_set():
            await asyncio.sleep(pause_s)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._is_closed.wait()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not self._is_closed.is_set():
            error = None if task.cancelled() else task.exception()
            _log.error("the camera's sender has ended: %r", error or "cancelled", exc_info=error)
            self.outbox.give_up()


class Camera:
    """Publishes one camera's frames from a thread of its own."""

    def __init__(  # noqa: PLR0913 - most have a default
        self,
        url: str,
        camera_id: str,
        key: bytes | None,
        *,
        partitions: int | None = None,
        cluster: bool = False,
        max_waiting: int = 16,
        on_result: OnResult | None = None,
    ) -> None:
        """Start the sender; the server need not be up yet.

        Args:
            url: of the server, as `workers.wire.server_url` says; or `http://` or `https://` of
                the deployment's ingress, as `workers.client.lines.HttpLine` says.
            camera_id: as for `AsyncCamera`, as are those that follow.
            key: this camera's key, 32 bytes, or None.
            partitions: the deployment's number of partitions, for Redis.
            cluster: the server at `url` is one of a Redis Cluster.
            max_waiting: frames kept while the server does not take them.
            on_result: called once with what has become of each frame, in the sender's thread or,
                for one that was pushed out, in that of `publish`.

        Raises:
            CameraError: an argument can't be used.
            KeyRefused: the key is none.
            ServerUrlError: the URL can't be used.
        """
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._servers: Servers | None = None
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"camera-{camera_id}", daemon=True
        )

        async def start() -> AsyncCamera:
            target: Servers | Line
            if url.startswith(("http://", "https://")):
                target = HttpLine(url)
            else:
                self._servers = target = connect(url, cluster=cluster)
            return AsyncCamera(
                target,
                camera_id,
                key,
                partitions=partitions,
                max_waiting=max_waiting,
                on_result=on_result,
            )

        self._thread.start()
        try:
            self._camera: AsyncCamera = self._run(start())
        except BaseException:
            self._stop()
            raise
        _log.info("camera %s publishes to %s", camera_id, hidden(url))

    @property
    def sent(self) -> Sent:
        """What has become of the frames so far."""
        return self._camera.sent

    def depth(self, pixels: NDArray[np.uint16], unit_mm: float = 1.0) -> EncodedPlane:
        """Encode depth, lossless, in the best way that the deployment is known to take.

        As PNG until it has told that it takes Pco, which is a fifth smaller and decodes six times
        as fast: once the line to Redis is up, and by HTTP with its first answer.

        Args:
            pixels: (H, W) uint16 counts of `unit_mm`, 0 = hole.
            unit_mm: millimetres a count.

        Raises:
            CameraError: the array is of another type, byte order, shape or size, or `unit_mm` is
                not above 0 and at most 100.
        """
        return self._camera.depth(pixels, unit_mm)

    def publish(
        self,
        planes: Mapping[str, EncodedPlane],
        *,
        captured_at_ms: int | None = None,
        presentation_id: str | None = None,
        face_box: FaceBox | None = None,
    ) -> int:
        """Queue a frame and return its seq at once; it never waits for the server.

        Args:
            planes: 1 to 3 of `rgb`, `depth`, `ir`, registered to each other.
            captured_at_ms: Unix ms; None: now.
            presentation_id: the person standing at the door, as the camera tracks them.
            face_box: (x, y, w, h) px in the RGB plane; None: the planes are face crops already.

        Raises:
            FrameRefused: the frame breaks a rule of the wire format.
            CameraError: the camera is closed, was made before this process was forked, or its
                sender has ended.
        """
        if self._pid != os.getpid():
            raise CameraError("this camera's thread stayed in the parent process: make a new one")
        if not self._thread.is_alive() and not self._is_closed:
            raise CameraError("the camera's thread has ended, see the log: make a new one")
        self._camera.check()
        seq = self._camera.outbox.put(make_frame(planes, captured_at_ms, presentation_id, face_box))
        with suppress(RuntimeError):  # closed this very moment: the frame is in its account
            self._loop.call_soon_threadsafe(self._camera.wake)
        return seq

    def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts.

        Raises:
            CameraError: it is called from `on_result`, which the sender waits for.
        """
        if threading.current_thread() is self._thread:
            raise CameraError("close the camera from another thread than that of on_result")
        if not self._is_closed and self._pid == os.getpid() and self._thread.is_alive():
            self._is_closed = True
            self._run(self._camera.close(timeout_s))
            if self._servers is not None:
                self._run(self._servers.aclose())
            self._stop()
        return self.sent

    def _run(self, step: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - what it returns
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _line(servers: Servers | Line, camera_id: str, partitions: int | None) -> Line:
    if not isinstance(servers, Servers):
        return servers
    return RedisLine(servers, camera_id, checked_partitions(partitions))
