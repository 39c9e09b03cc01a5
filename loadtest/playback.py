"""One camera, played by hand: a source's frames on their schedule, from a thread of its own."""

import threading
import time
from collections.abc import Iterable

from loadtest.sources import SourceFrame
from workers.client.camera import Camera


def play(
    camera: Camera,
    frames: Iterable[SourceFrame],
    fps: float,
    seconds: float,
    stop: threading.Event,
) -> None:
    """Publish frames until the time is up, they are used up, or `stop` is set.

    Args:
        camera: that sends them; left open.
        frames: from `loadtest.sources.open_source`.
        fps: frames a second.
        seconds: how long; 0: until `stop` is set.
        stop: ends it, also amid a wait.
    """
    start_s = time.monotonic()
    for count, frame in enumerate(frames):
        at_s = count / fps
        if (seconds and at_s >= seconds) or stop.wait(max(0, start_s + at_s - time.monotonic())):
            return
        camera.publish(frame.planes, presentation_id=frame.name, face_box=frame.face_box)
