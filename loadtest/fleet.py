"""Simulated cameras that play the sample set, on schedules that nothing slows down (open loop)."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.ledger import Ledger, Published
from loadtest.samples import Presentation
from workers.client.camera import AsyncCamera
from workers.stream.connection import Servers

_FRAMES_A_PRESENTATION = 12


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run with a steady load.

    Attributes:
        seconds: how long it lasts.
        fps: frames a second, a camera.
        is_surge: meant to be more than one replica carries.
    """

    seconds: float
    fps: float
    is_surge: bool = False


class Fleet:
    """A number of cameras, each with its key, on one connection pool."""

    def __init__(
        self,
        client: Servers,
        camera_keys: Mapping[str, bytes],
        samples: Sequence[Presentation],
        partitions: int,
        *,
        seed: int = 0,
        close_s: float = 30.0,
    ) -> None:
        """Prepare the cameras; none sends before `play`.

        Args:
            client: from `workers.stream.connection.connect`.
            camera_keys: camera id to key; one camera for each.
            samples: what they play.
            partitions: the deployment's number of partitions.
            seed: of the order in which presentations are played.
            close_s: how long a camera may take to send what waits when its schedule is over.
        """
        self.ledger = Ledger()
        self._client = client
        self._camera_keys = camera_keys
        self._samples = samples
        self._partitions = partitions
        self._seed = seed
        self._close_s = close_s

    async def play(self, phases: Callable[[], Iterator[Phase]]) -> None:
        """Let all cameras send through the phases, then until their outboxes are empty.

        Args:
            phases: called once a camera. A phase is asked for when the one before it is over, so
                its load may depend on what was measured meanwhile.
        """
        start_s = time.monotonic()
        # A group, since it also waits for the cameras to close when it is cancelled.
        async with asyncio.TaskGroup() as cameras:
            for number, camera_id in enumerate(self._camera_keys):
                cameras.create_task(self._play(camera_id, number, phases(), start_s))

    async def _play(
        self, camera_id: str, number: int, phases: Iterator[Phase], start_s: float
    ) -> None:
        camera = AsyncCamera(
            self._client,
            camera_id,
            self._camera_keys[camera_id],
            partitions=self._partitions,
            max_waiting=1000,
            on_result=lambda result: self.ledger.sent(camera_id, result),
        )
        show = self._show(camera_id, number)
        try:
            for phase in phases:
                period_s = 1 / phase.fps
                # Each camera has its own place within the period, as real ones have.
                place = number / len(self._camera_keys)
                end_s = start_s + phase.seconds
                # Counted, not summed up: a sum of periods may miss the end of the phase by a hair.
                for index in range(_num_periods(phase, place)):
                    at_s = start_s + (index + place) * period_s
                    try:
                        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
                    except asyncio.CancelledError:
                        self.ledger.num_unsent += _num_due(at_s, end_s, period_s)
                        raise
                    self._send(camera, camera_id, at_s, phase, next(show))
                start_s = end_s
        finally:
            await camera.close(self._close_s)

    def _show(self, camera_id: str, number: int) -> Iterator[tuple[Presentation, int, str]]:
        order = random.Random(self._seed * 1009 + number)  # noqa: S311 - a simulation, not a key
        serial = 0
        while True:
            serial += 1
            presentation = order.choice(self._samples)
            for index in range(_FRAMES_A_PRESENTATION):
                yield presentation, index, f"{camera_id}-{serial}"

    def _send(
        self,
        camera: AsyncCamera,
        camera_id: str,
        intended_at_s: float,
        phase: Phase,
        shown: tuple[Presentation, int, str],
    ) -> None:
        presentation, index, presentation_id = shown
        frame = presentation.frames[index % len(presentation.frames)]
        late_ms = (time.monotonic() - intended_at_s) * 1000
        seq = camera.publish(
            frame.planes,
            captured_at_ms=int(time.time() * 1000 - late_ms),
            presentation_id=presentation_id,
            face_box=frame.face_box,
        )
        published = Published(intended_at_s, presentation.is_bona_fide, phase.is_surge, late_ms)
        self.ledger.publish(camera_id, seq, published)


def _num_periods(phase: Phase, place: float) -> int:
    """Return how many frames a camera sends in a phase that stands at `place` in its period."""
    return max(0, math.ceil(phase.seconds * phase.fps - place - 1e-9))


def _num_due(at_s: float, end_s: float, period_s: float) -> int:
    """Return how many frames of a phase should have been sent by now, from the one at `at_s`."""
    overdue_s = min(time.monotonic(), end_s) - at_s
    return math.ceil(overdue_s / period_s) if overdue_s > 0 else 0
