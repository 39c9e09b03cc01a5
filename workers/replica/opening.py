"""A replica opens frames: from bytes that anybody may have sent to planes the network can judge."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from model.data.quality import faults, measure
from workers.replica.decode import decode
from workers.replica.in_flight import InFlight
from workers.replica.quota import CameraQuota
from workers.settings import WorkerSettings
from workers.wire.frame import peek_camera_id, take_fields, unpack_frame
from workers.wire.keys import partition_of
from workers.wire.refusal import (
    ClockAhead,
    Expired,
    FrameRefused,
    LowQuality,
    ModalityMissing,
    WorkerFailed,
    WrongPartition,
)
from workers.wire.signing import Verifier

if TYPE_CHECKING:
    from model.data.planes import Planes
    from model.serving.predictor import Predictor

_log = logging.getLogger(__name__)


class Opener:
    """Verifies and decodes, in the threads of the decode pool."""

    def __init__(self, verifier: Verifier, settings: WorkerSettings) -> None:
        """Open frames as `settings` say."""
        self._verifier = verifier
        self._settings = settings
        self._quota = CameraQuota(settings.max_camera_fps)

    def open(
        self, frames: Sequence[InFlight], predictor_for: "Callable[[str], Predictor]"
    ) -> list[FrameRefused | None]:
        """Verify and decode several; what is learned stays on each, even if it is refused.

        Args:
            frames: as they came.
            predictor_for: tells by the camera's id whose input the planes are to be.

        Returns:
            For each, why it gets no decision; None: it may be judged.
        """
        return [self._open(frame, predictor_for) for frame in frames]

    def _open(
        self, frame: InFlight, predictor_for: "Callable[[str], Predictor]"
    ) -> FrameRefused | None:
        started_s = time.perf_counter()
        try:
            self._verify(frame)
            self.check_age(frame, frame.read_at_ms)
            self._quota.take(frame.camera_id or "", frame.arrived_at_ms)
            self._decode(frame, predictor_for(frame.camera_id or ""))
        except FrameRefused as refused:
            return refused
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this frame only
            _log.exception("a frame could not be opened", extra=frame.named)
            return WorkerFailed(f"opening it failed: {type(error).__name__}")
        finally:
            frame.decode_s = time.perf_counter() - started_s
            frame.finish_stage("decode")
        return None

    def check_age(self, frame: InFlight, now_ms: int) -> None:
        """Return if a frame is neither too old nor from the future.

        Raises:
            Expired: it is older than the deadline.
            ClockAhead: it was captured later than now.
        """
        content = frame.frame
        assert content is not None  # noqa: S101 - only verified frames have an age
        age_ms = now_ms - frame.born_at_ms
        if age_ms > self._settings.deadline_ms:
            raise Expired(f"{age_ms} ms old")
        ahead_ms = content.captured_at_ms - now_ms
        if ahead_ms > self._settings.max_clock_skew_ms:
            raise ClockAhead(f"captured_at_ms is {ahead_ms} ms ahead: set the camera's clock")

    def _verify(self, frame: InFlight) -> None:
        if frame.entry is not None and frame.entry.fields is None:
            raise WorkerFailed(f"handed out {frame.entry.deliveries} times without a decision")
        packed, signature = take_fields(frame.fields, self._settings.max_frame_bytes)
        frame.camera_id = peek_camera_id(packed)
        partition = partition_of(frame.camera_id, self._settings.stream.partitions)
        if frame.entry is not None and frame.entry.partition != partition:
            raise WrongPartition(f"frames of {frame.camera_id} belong in partition {partition}")
        frame.proof = self._verifier.verify(frame.camera_id, packed, signature)
        frame.frame = unpack_frame(packed)

    def _decode(self, frame: InFlight, predictor: "Predictor") -> None:
        assert frame.frame is not None  # noqa: S101 - verified before
        frame.predictor = predictor
        frame.planes = decode(
            frame.frame, predictor.size, predictor.crop_margin, predictor.depth_kind
        )
        frame.quality = measure(frame.planes)
        check_planes(frame.planes, frame.quality, predictor)


def check_planes(planes: "Planes", quality: Mapping[str, float], predictor: "Predictor") -> None:
    """Return if a predictor may judge a face.

    Args:
        planes: of the face, as `decode` cut them for it.
        quality: the face's figures.
        predictor: whose limits count.

    Raises:
        LowQuality: a figure is beyond its limit.
        ModalityMissing: there is no threshold for what the frame has.
    """
    if found := faults(quality, predictor.quality):
        raise LowQuality("; ".join(found))
    if predictor.threshold_for(planes.present) is None:
        raise ModalityMissing(f"no threshold for {'+'.join(planes.present)}")
