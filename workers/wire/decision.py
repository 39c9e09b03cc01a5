"""What is said of a frame, and its bytes: one decision a frame, format version 1.

`workers/README.md` tells each key; golden files under `tests/` freeze the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

import msgpack

VERSION = 1


class Outcome(StrEnum):
    """What a decision says. A door opens on `bona_fide` and on nothing else."""

    BONA_FIDE = "bona_fide"
    ATTACK = "attack"
    NO_DECISION = "no_decision"


class Reason(StrEnum):
    """Why a frame got `no_decision` (ISO/IEC 30107-3: a non-response)."""

    EXPIRED = "expired"
    BAD_SIGNATURE = "bad_signature"
    UNKNOWN_CAMERA = "unknown_camera"
    REPLAYED = "replayed"
    SEQ_MEMORY_FULL = "seq_memory_full"
    OVER_QUOTA = "over_quota"
    MALFORMED = "malformed"
    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    MODALITY_MISSING = "modality_missing"
    LOW_QUALITY = "low_quality"
    WORKER_FAILED = "worker_failed"


@dataclass(frozen=True, slots=True)
class Decision:
    """What is known of one frame once it is decided; `workers/README.md` tells each key.

    `camera_id`, `seq` and `captured_at_ms` are None where the frame was too broken to say.
    `quality` is there where it was too low, and only there.
    """

    camera_id: str | None
    seq: int | None
    presentation_id: str | None
    entry_id: str
    captured_at_ms: int | None
    decided_at_ms: int
    outcome: Outcome
    reason: Reason | None
    score: float | None
    threshold: float | None
    modalities: tuple[str, ...]
    evidence: Mapping[str, float]
    model: str
    replica: str
    batch_size: int
    timing_ms: Mapping[str, float]
    quality: Mapping[str, float] = field(default_factory=dict)


_NAMES = tuple(each.name for each in fields(Decision))
_KEYS = frozenset(_NAMES)
_NEEDED = _KEYS - {"quality"}


def pack_decision(decision: Decision) -> bytes:
    """Return the bytes of the field `d`."""
    body = {"v": VERSION, **{name: getattr(decision, name) for name in _NAMES}}
    if not decision.quality:
        del body["quality"]
    packed: bytes = msgpack.packb(body)
    return packed


def unpack_decision(packed: bytes) -> Decision:
    """Return the decision in `packed`, as written by `pack_decision`.

    Keys that this version does not know are ignored: a later one may add some.

    Raises:
        ValueError: the bytes are not a decision of version 1.
    """
    body = msgpack.unpackb(packed)
    if not isinstance(body, dict) or body.pop("v", None) != VERSION:
        raise ValueError("d is not a decision of version 1: update the reader")
    if not body.keys() >= _NEEDED:
        raise ValueError(f"d lacks {min(_NEEDED - body.keys())}: it is no decision on a frame")
    body["outcome"] = Outcome(body["outcome"])
    body["reason"] = Reason(body["reason"]) if body["reason"] is not None else None
    body["modalities"] = tuple(body["modalities"])
    return Decision(**{name: value for name, value in body.items() if name in _KEYS})
