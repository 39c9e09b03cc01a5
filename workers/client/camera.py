"""The client's side at the camera: what an integrator imports to publish frames.

    camera = Camera("redis://127.0.0.1:6379/0", "gate-1", key, partitions=4)
    camera.publish({"rgb": jpeg(rgb), "depth": png(depth_mm), "ir": jpeg(ir)})
    camera.close()

`publish` never waits: it signs the frame and puts it in an outbox that keeps the newest few.
`AsyncCamera` sends from a task, `Camera` runs one in a thread of its own; both behave alike:

- server full or unreachable: they try again, after pauses that grow to a second, and meanwhile
  the outbox drops its oldest frames. A door has no use for old frames.
- reply lost: the frame may or may not have arrived. It is counted as `unknown` and not sent
  again, since a second copy would be a replay.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.client.outbox import Outbox, Sent
from workers.errors import WorkerError
from workers.stream.connection import Servers, connect, is_cancelled
from workers.wire.frame import EncodedPlane, Frame

FaceBox = tuple[float, float, float, float]

_log = logging.getLogger(__name__)


class CameraError(WorkerError):
    """A camera can't publish; the message says why, and what to do."""


def jpeg(pixels: NDArray[np.uint8], quality: int = 92) -> EncodedPlane:
    """Encode an RGB picture (H, W, 3) or an infrared one (H, W), uint8.

    Raises:
        CameraError: the array is of another type or shape.
    """
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise CameraError(
            f"jpeg takes uint8 of shape (H, W, 3) in RGB order or (H, W), not {_told(pixels)}: "
            "scale to 0..255 and convert yourself, nothing is guessed here"
        )
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return EncodedPlane("jpeg", _encoded(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, quality))


def png(pixels: NDArray[np.uint16], unit_mm: float = 1.0) -> EncodedPlane:
    """Encode depth (H, W), uint16, 0 = hole, in counts of `unit_mm`; lossless.

    Raises:
        CameraError: the array is of another type or shape.
    """
    if pixels.dtype != np.uint16 or pixels.ndim != 2 or not pixels.dtype.isnative:
        raise CameraError(
            f"png takes depth as native uint16 of shape (H, W), not {_told(pixels)}: pass "
            "millimetres (or counts, with unit_mm) rounded to uint16, 0 where there is no depth"
        )
    return EncodedPlane(
        "png", _encoded(".png", pixels, cv2.IMWRITE_PNG_COMPRESSION, 1), unit_mm=float(unit_mm)
    )


class AsyncCamera:
    """Publishes one camera's frames from a task of the running event loop; see `Camera`."""

    def __init__(
        self,
        servers: Servers,
        camera_id: str,
        key: bytes | None,
        *,
        partitions: int,
        max_waiting: int = 16,
        on_sent: Callable[[int, str], None] | None = None,
    ) -> None:
        """Start the sender task; the server need not be up yet.

        Args:
            servers: from `workers.stream.connection.connect`; many cameras can share them.
            camera_id: 1 to 64 of `[A-Za-z0-9._-]`.
            key: this camera's key, 32 bytes; None where the deployment takes unsigned frames.
            partitions: the deployment's number of partitions.
            max_waiting: frames kept while the server does not take them; older ones are dropped.
            on_sent: called in the event loop with (seq, entry id) of each acknowledged frame.
        """
        self.outbox = Outbox(camera_id, key, partitions, max_waiting)
        self._servers = servers
        self._on_sent = on_sent
        self._has_work = asyncio.Event()
        self._is_closed = asyncio.Event()
        self._task = asyncio.create_task(self._send())

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
        if self._is_closed.is_set():
            raise CameraError("the camera is closed: make a new one")
        seq = self.outbox.put(_frame(planes, captured_at_ms, presentation_id, face_box))
        self.wake()
        return seq

    def wake(self) -> None:
        """Let the sender look into its outbox."""
        self._has_work.set()

    async def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts."""
        self._is_closed.set()
        self._has_work.set()
        # The sender is not cancelled while it may still get its reply: that frame would be unknown.
        await asyncio.wait([self._task], timeout=timeout_s)
        self._task.cancel()
        self.outbox.give_up()
        return self.sent

    async def _send(self) -> None:
        while not is_cancelled():
            command = self.outbox.next_command()
            if command is None:
                if self._is_closed.is_set():
                    return
                await self._has_work.wait()
                self._has_work.clear()
                continue
            try:
                done = self.outbox.answered(
                    await self._servers.execute(self.outbox.stream, *command)
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, the camera goes on
                await self._pause(self.outbox.failed(error))
            else:
                if done is not None and self._on_sent is not None:
                    self._call(self._on_sent, done)

    def _call(self, on_sent: Callable[[int, str], None], done: tuple[int, str]) -> None:
        try:
            on_sent(*done)
        except Exception:  # noqa: BLE001 - the caller's own: it must not end the sender
            _log.exception("on_sent failed for seq %d; the camera goes on", done[0])

    async def _pause(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._is_closed.wait()
        except TimeoutError:
            return


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
        on_sent: Callable[[int, str], None] | None = None,
    ) -> None:
        """Start the sender; the server need not be up yet.

        Args:
            url: `redis://` or `rediss://` URL of the server, with user and password.
            camera_id: as for `AsyncCamera`, as are those that follow.
            key: this camera's key, 32 bytes, or None.
            partitions: the deployment's number of partitions.
            cluster: the server at `url` is one of a Redis Cluster.
            max_waiting: frames kept while the server does not take them.
            on_sent: called in the sender's thread with (seq, entry id) of each acknowledged frame.
        """
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._is_closed = False
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=f"camera-{camera_id}", daemon=True
        )

        async def start() -> tuple[Servers, AsyncCamera]:
            servers = connect(url, cluster=cluster)
            camera = AsyncCamera(
                servers,
                camera_id,
                key,
                partitions=partitions,
                max_waiting=max_waiting,
                on_sent=on_sent,
            )
            return servers, camera

        self._thread.start()
        try:
            self._servers: Servers
            self._camera: AsyncCamera
            self._servers, self._camera = self._run(start())
        except BaseException:
            self._stop()
            raise

    @property
    def sent(self) -> Sent:
        """What has become of the frames so far."""
        return self._camera.sent

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
            workers.wire.refusal.FrameRefused: the frame breaks a rule of the wire format.
            CameraError: the camera is closed, or was made before this process was forked.
        """
        if self._pid != os.getpid():
            raise CameraError("this camera's thread stayed in the parent process: make a new one")
        if self._is_closed:
            raise CameraError("the camera is closed: make a new one")
        frame = _frame(planes, captured_at_ms, presentation_id, face_box)
        seq = self._camera.outbox.put(frame)
        self._loop.call_soon_threadsafe(self._camera.wake)
        return seq

    def close(self, timeout_s: float = 2.0) -> Sent:
        """Send what waits, for at most `timeout_s`; drop the rest and return the counts."""
        if not self._is_closed and self._pid == os.getpid():
            self._is_closed = True
            self._run(self._camera.close(timeout_s))
            self._run(self._servers.aclose())
            self._stop()
        return self.sent

    def _run(self, step: Any) -> Any:  # noqa: ANN401 - what the coroutine returns
        return asyncio.run_coroutine_threadsafe(step, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _frame(
    planes: Mapping[str, EncodedPlane],
    captured_at_ms: int | None,
    presentation_id: str | None,
    face_box: FaceBox | None,
) -> Frame:
    now_ms = time.time_ns() // 1_000_000 if captured_at_ms is None else captured_at_ms
    return Frame("-", 0, _plain(now_ms), planes, presentation_id, _box(face_box))


def _plain(value: Any) -> Any:  # noqa: ANN401 - numpy's numbers are as good as Python's
    return value.item() if isinstance(value, np.generic) else value


def _box(face_box: Any) -> Any:  # noqa: ANN401 - what is no box is refused as the frame is checked
    if isinstance(face_box, np.ndarray):
        return tuple(face_box.tolist())
    return tuple(map(_plain, face_box)) if isinstance(face_box, list | tuple) else face_box


def _encoded(kind: str, image: Any, flag: int, value: int) -> bytes:  # noqa: ANN401
    is_done, data = cv2.imencode(kind, np.ascontiguousarray(image), [flag, value])
    if not is_done:
        raise CameraError(f"OpenCV can't encode {_told(image)} as {kind}")
    return bytes(data.tobytes())


def _told(pixels: NDArray[Any]) -> str:
    order = "" if pixels.dtype.isnative else " (not native byte order)"
    return f"{pixels.dtype}{order} of shape {pixels.shape}"
