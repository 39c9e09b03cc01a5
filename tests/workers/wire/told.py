"""One frame, one decision and one verdict, as the golden files have them."""

from typing import Any

import msgpack

from workers.wire.decision import Decision, Outcome, Reason
from workers.wire.frame import (
    EncodedPlane,
    Frame,
    pack_frame,
)
from workers.wire.presentation import (
    PresentationVerdict,
    Undecided,
)

KEY = bytes(range(32))


FRAME = Frame(
    camera_id="gate-1",
    seq=2**64 - 1,
    captured_at_ms=1_700_000_000_123,
    planes={
        "rgb": EncodedPlane("jpeg", b"\xff\xd8\xff"),
        "depth": EncodedPlane("raw", bytes(range(8)), (2, 2), 0.5),
        "ir": EncodedPlane("png", b"\x89PNG"),
    },
    presentation_id="someone",
    face_box=(8.0, 9.5, 48.0, 50.0),
)


DECISION = Decision(
    camera_id="gate-1",
    seq=7,
    presentation_id=None,
    entry_id="1700000000200-0",
    captured_at_ms=1_700_000_000_123,
    decided_at_ms=1_700_000_000_250,
    outcome=Outcome.NO_DECISION,
    reason=Reason.EXPIRED,
    score=None,
    threshold=None,
    modalities=("rgb", "ir"),
    evidence={"rgb": 1.25, "rgb+ir": -0.75},
    model="rendered-small@0123456789ab",
    replica="r1",
    batch_size=3,
    timing_ms={"queue": 1.5, "total": 9.0},
)


VERDICT = PresentationVerdict(
    camera_id="gate-1",
    presentation_id="someone",
    seq=7,
    captured_at_ms=1_700_000_000_123,
    decided_at_ms=1_700_000_000_250,
    outcome=Outcome.NO_DECISION,
    reason=Undecided.TOO_MANY_ATTEMPTS,
    model="rendered-small@0123456789ab",
    replica="r1",
)


def body(**changes: Any) -> dict[str, Any]:
    unpacked: dict[str, Any] = msgpack.unpackb(pack_frame(FRAME))
    unpacked.update(changes)
    return {key: value for key, value in unpacked.items() if value is not ...}
