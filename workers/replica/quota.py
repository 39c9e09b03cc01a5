"""A replica's quota of each camera: one that sends too much does so at no neighbour's cost."""

import threading
from collections import Counter

from workers.wire.refusal import OverQuota

_KEPT_S = 60


class CameraQuota:
    """Counts the frames of each camera by the second in which they arrived.

    Not by when they are opened: what has waited for a server that was away comes all at once, and
    is no flood. Frames are counted once their signature holds, so that nobody else can use a
    camera's quota up.
    """

    def __init__(self, max_fps: int) -> None:
        """Let `max_fps` frames a camera and second pass."""
        self._max_fps = max_fps
        self._lock = threading.Lock()
        self._counts: dict[int, Counter[str]] = {}

    def take(self, camera_id: str, arrived_at_ms: int) -> None:
        """Count a frame; called by several threads.

        Raises:
            OverQuota: the camera's frames of that second are used up.
        """
        second = arrived_at_ms // 1000
        with self._lock:
            if second not in self._counts:
                self._counts[second] = Counter()
                self._forget(second - _KEPT_S)
            self._counts[second][camera_id] += 1
            count = self._counts[second][camera_id]
        if count > self._max_fps:
            raise OverQuota(f"frame {count} of a second, at most {self._max_fps} are judged")

    def _forget(self, before: int) -> None:
        for second in [each for each in self._counts if each < before]:
            del self._counts[second]
