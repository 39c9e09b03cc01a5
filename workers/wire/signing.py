"""Signatures of frames and decisions, and the keys that they are made with.

`workers/wire/keyring.py` has the file that the keys are kept in.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.errors import WorkerError

KEY_BYTES = 32
SIGNATURE_BYTES = 32


class KeyRefused(WorkerError):
    """A value is no key; the message says what to pass instead, and never the value."""


def checked_key(key: object) -> bytes:
    """Return a camera key or door key as bytes, if it is one.

    Raises:
        KeyRefused: it is of another type or length.
    """
    if isinstance(key, str):
        raise KeyRefused(
            f"a key is {KEY_BYTES} bytes, not a text of {len(key)} characters: pass "
            "bytes.fromhex(text) if it is the hex of a key file"
        )
    if not isinstance(key, bytes | bytearray | memoryview):
        raise KeyRefused(f"a key is {KEY_BYTES} bytes, not a {type(key).__name__}")
    if len(bytes(key)) != KEY_BYTES:
        hint = ": bytes.fromhex(key.decode()) if it is hex" if len(key) == 2 * KEY_BYTES else ""
        raise KeyRefused(f"a key has {KEY_BYTES} bytes, not {len(bytes(key))}{hint}")
    return bytes(key)


def checked_keys(keys: object) -> tuple[bytes, ...]:
    """Return one key, or several while they are rotated, as a tuple; empty for None.

    Raises:
        KeyRefused: there is none in the sequence, or one is no key.
    """
    if keys is None:
        return ()
    if isinstance(keys, Sequence) and not isinstance(keys, str | bytes | bytearray | memoryview):
        if not keys:
            raise KeyRefused("no key is given: pass one, or None where frames are unsigned")
        return tuple(map(checked_key, keys))
    return (checked_key(keys),)


def sign(packed: bytes, key: bytes) -> bytes:
    """Return the field `s` of a frame: HMAC-SHA256 of `packed` with the camera's key, 32 bytes."""
    return hmac.digest(key, packed, "sha256")


def door_key(camera_key: bytes) -> bytes:
    """Return the key that a camera's decisions are signed with, 32 bytes.

    It is derived from the camera's key, so that a door controller can check decisions and can't
    sign frames.

    Source: HKDF with SHA-256, RFC 5869, without salt, for one block.
    """
    extracted = hmac.digest(bytes(32), camera_key, "sha256")
    return hmac.digest(extracted, b"livegate decision v1\x01", "sha256")


def key_id(camera_key: bytes) -> str:
    """Return the name of a key that tells nothing about it: 8 hexadecimal digits."""
    return hashlib.sha256(b"livegate key id v1" + camera_key).hexdigest()[:8]


def new_key() -> bytes:
    """Return a fresh random camera key, 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class Proof:
    """That a frame comes from the camera that it names.

    Attributes:
        key_id: of the camera's key that it was signed with.
        door_key: to sign its decision with; None where frames are not signed.
    """

    key_id: str
    door_key: bytes | None = None


class Verifier(Protocol):
    """Says whether a frame comes from the camera that it names."""

    def verify(self, camera_id: str, packed: bytes, signature: bytes | None) -> Proof:
        """Return the proof if the signature holds.

        Raises:
            UnknownCamera: there is no key for `camera_id`.
            BadSignature: `signature` is missing or is not this camera's for `packed`.
        """
        ...


class AcceptUnsigned:
    """Takes every frame at its word: for a deployment that sets `allow_unsigned`."""

    def verify(self, camera_id: str, packed: bytes, signature: bytes | None) -> Proof:
        """Return a proof, whatever is given."""
        return Proof("unsigned")
