"""What is said of a presentation, and its bytes: one verdict a presentation, format version 1.

`workers/README.md` tells each key; golden files under `tests/` freeze the bytes.
"""

from dataclasses import dataclass, fields
from enum import StrEnum

import msgpack

from workers.wire.decision import VERSION, Outcome

KIND = "presentation"


class Undecided(StrEnum):
    """Why a presentation got `no_decision`."""

    UNDECIDED = "undecided"
    TOO_MANY_ATTEMPTS = "too_many_attempts"


@dataclass(frozen=True, slots=True)
class PresentationVerdict:
    """What is known of a presentation once it is decided; `workers/README.md` tells each key.

    `seq` and `captured_at_ms` are those of the frame that decided it.
    """

    camera_id: str
    presentation_id: str
    seq: int
    captured_at_ms: int
    decided_at_ms: int
    outcome: Outcome
    reason: Undecided | None
    model: str
    replica: str


_KEYS = tuple(each.name for each in fields(PresentationVerdict))


def pack_verdict(verdict: PresentationVerdict) -> bytes:
    """Return the bytes of the field `p`."""
    body = {"v": VERSION, "kind": KIND, **{name: getattr(verdict, name) for name in _KEYS}}
    packed: bytes = msgpack.packb(body)
    return packed


def unpack_verdict(packed: bytes) -> PresentationVerdict:
    """Return the verdict in `packed`, as written by `pack_verdict`.

    Keys that this version does not know are ignored: a later one may add some.

    Raises:
        ValueError: the bytes are not a verdict of version 1.
    """
    body = msgpack.unpackb(packed)
    if not isinstance(body, dict) or (body.get("v"), body.get("kind")) != (VERSION, KIND):
        raise ValueError("p is not a presentation's verdict of version 1: update the reader")
    if not body.keys() >= set(_KEYS):
        raise ValueError(f"p lacks {min(set(_KEYS) - body.keys())}: it is no verdict")
    body["outcome"] = Outcome(body["outcome"])
    body["reason"] = Undecided(body["reason"]) if body["reason"] is not None else None
    return PresentationVerdict(**{name: body[name] for name in _KEYS})
