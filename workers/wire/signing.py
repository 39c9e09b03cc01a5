"""Camera keys, and the signatures made with them.

The key file is a JSON object: camera id to key, a key being 64 hexadecimal digits (32 bytes).
It is read again when it changes, so that a camera is added, or its key taken away, while the
replicas run.
"""

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.errors import WorkerError
from workers.wire.frame import CAMERA_ID
from workers.wire.refusal import BadSignature, UnknownCamera

KEY_BYTES = 32
SIGNATURE_BYTES = 32

_log = logging.getLogger(__name__)


class KeyFileError(WorkerError):
    """The key file can't be read; the message names the file, the camera and the rule."""


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


class Keyring:
    """The cameras' keys, from a file that is followed as it changes."""

    def __init__(self, path: Path) -> None:
        """Read the keys in `path`.

        Raises:
            KeyFileError: the file is missing or is not a key file.
        """
        self._path = path
        self._stamp = _stamp(path)
        self._keys = _proven(read_keys(path))

    def verify(self, camera_id: str, packed: bytes, signature: bytes | None) -> Proof:
        """See `Verifier.verify`."""
        if camera_id not in self._keys:
            self.refresh()  # a camera that was added this very second is known at its first frame
        if camera_id not in self._keys:
            raise UnknownCamera(f"no key is on file for camera {camera_id}")
        if signature is None:
            raise BadSignature("the frame is not signed: the field s is missing")
        key, proof = self._keys[camera_id]
        if not hmac.compare_digest(sign(packed, key), signature):
            raise BadSignature(f"the signature is not that of camera {camera_id}")
        return proof

    def refresh(self) -> None:
        """Read the file again if it changed; a broken file leaves the keys as they are."""
        try:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._keys = _proven(read_keys(self._path))
                self._stamp = stamp
                _log.info("camera keys read again", extra={"cameras": len(self._keys)})
        except KeyFileError as error:
            _log.error("camera keys kept as they were: %s", error)


def _proven(keys: Mapping[str, bytes]) -> dict[str, tuple[bytes, Proof]]:
    return {name: (key, Proof(key_id(key), door_key(key))) for name, key in keys.items()}


def read_keys(path: Path) -> dict[str, bytes]:
    """Return camera id to key, from a key file.

    Raises:
        KeyFileError: the file is missing, is not a JSON object, or holds a bad id or key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise KeyFileError(f"{path}: no key file can be read here: {error}") from error
    if not isinstance(content, dict):
        raise KeyFileError(f"{path}: must be a JSON object of camera id to key")
    return {camera_id: _key(path, camera_id, text) for camera_id, text in content.items()}


def write_keys(path: Path, keys: Mapping[str, bytes]) -> None:
    """Write a key file that only its owner can read, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(json.dumps({name: key.hex() for name, key in keys.items()}, indent=1))
    partial.replace(path)


def _key(path: Path, camera_id: str, text: object) -> bytes:
    if not CAMERA_ID.fullmatch(camera_id):
        raise KeyFileError(f"{path}: {camera_id!r:.80} is not a camera id")
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: the key of {camera_id} must be {KEY_BYTES * 2} hex digits")
    return key


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    return stat.st_mtime_ns, stat.st_size
