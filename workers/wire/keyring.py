"""The key file: which keys the cameras sign with, and how it is changed while replicas follow it.

A JSON object of camera id to key, a key being 64 hexadecimal digits (32 bytes), or to a list of
keys, the newest first. A camera signs with one of them; a replica takes any. So a key is rotated
without a gap: add the new one, give it to the camera and its door, revoke the old one.
"""

import fcntl
import hmac
import json
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.errors import WorkerError
from workers.wire.frame import CAMERA_ID
from workers.wire.refusal import BadSignature, UnknownCamera
from workers.wire.signing import KEY_BYTES, Proof, door_key, key_id, new_key, sign

MAX_KEYS = 4
"""Keys a camera: each one that does not fit costs a frame another HMAC."""

_log = logging.getLogger(__name__)

CameraKeys = dict[str, tuple[bytes, ...]]


class KeyFileError(WorkerError):
    """The key file can't be read or written; the message names the file, the camera, the rule."""


class Keyring:
    """The cameras' keys, from a file that is followed as it changes."""

    def __init__(self, path: Path) -> None:
        """Read the keys in `path`.

        Raises:
            KeyFileError: the file is missing or is not a key file.
        """
        self._path = path
        self._stamp: tuple[int, int, int] | None = _stamp(path)
        self._keys = _proven(read_keys(path))
        if path.stat().st_mode & 0o077:
            _log.warning("%s: others than its owner can use this file: chmod 600", path)

    def verify(self, camera_id: str, packed: bytes, signature: bytes | None) -> Proof:
        """See `workers.wire.signing.Verifier.verify`."""
        proof = self._proof(camera_id, packed, signature)
        if proof is None and self.refresh():
            # A camera that was added, or given a new key, this very second.
            proof = self._proof(camera_id, packed, signature)
        if proof is not None:
            return proof
        if camera_id not in self._keys:
            raise UnknownCamera(f"no key is on file for camera {camera_id}")
        if signature is None:
            raise BadSignature("the frame is not signed: the field s is missing")
        raise BadSignature(f"the signature is not that of camera {camera_id}")

    def refresh(self) -> bool:
        """Read the file again if it changed, and say so; a broken one leaves the keys as they are.

        A file that can't be used is complained of once.
        """
        stamp: tuple[int, int, int] | None = None
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return False
            self._keys = _proven(read_keys(self._path))
        except KeyFileError as error:
            if stamp != self._stamp:
                self._stamp = stamp
                _log.error("camera keys kept as they were: %s", error)
            return False
        self._stamp = stamp
        _log.info("camera keys read again", extra={"cameras": len(self._keys)})
        return True

    def _proof(self, camera_id: str, packed: bytes, signature: bytes | None) -> Proof | None:
        if signature is None:
            return None
        for key, proof in self._keys.get(camera_id, ()):
            if hmac.compare_digest(sign(packed, key), signature):
                return proof
        return None


def _proven(keys: Mapping[str, Sequence[bytes]]) -> dict[str, list[tuple[bytes, Proof]]]:
    return {
        camera_id: [(key, Proof(key_id(key), door_key(key))) for key in several]
        for camera_id, several in keys.items()
    }


def read_keys(path: Path) -> CameraKeys:
    """Return camera id to its keys, the newest first, from a key file.

    Raises:
        KeyFileError: the file is missing, is not a JSON object, or holds a bad id or key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise KeyFileError(f"{path}: no key file can be read here: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise KeyFileError(f"{path}: no key file can be read here: {error}") from error
    if not isinstance(content, dict):
        raise KeyFileError(f"{path}: must be a JSON object of camera id to key")
    return {camera_id: _keys(path, camera_id, value) for camera_id, value in content.items()}


def write_keys(path: Path, keys: Mapping[str, bytes | Sequence[bytes]]) -> None:
    """Write a key file that only its owner can read, whole or not at all, and onto the disk.

    Raises:
        KeyFileError: it can't be written.
    """
    told = {name: key.hex() if isinstance(key, bytes) else _told(key) for name, key in keys.items()}
    write_secret(path, json.dumps(told, indent=1) + "\n")


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it replaces what was there in one step.

    Raises:
        KeyFileError: it can't be written.
    """
    try:
        path = path.resolve()  # the file behind a link is replaced, not the link
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"{path}: can't be written: {error.strerror}") from error


@contextmanager
def changing_keys(path: Path, *, may_create: bool = False) -> Iterator[CameraKeys]:
    """Let the block change the keys of a file that no one else changes meanwhile.

    What the block leaves in the yielded mapping is written, unless it raises.

    Args:
        path: the key file.
        may_create: begin with no keys where there is no file.

    Raises:
        KeyFileError: the file can't be read or written.
    """
    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: can't be locked: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = {} if may_create and not path.exists() else read_keys(path)
        keys = dict(before)
        yield keys
        if keys != before:
            write_keys(path, keys)
    finally:
        os.close(lock)


def ensure_key(path: Path, camera_id: str) -> bytes:
    """Return the newest key of a camera; a camera that has none gets one.

    Raises:
        KeyFileError: the file can't be read or written, or there can be no such camera.
    """
    with changing_keys(path) as keys:
        if camera_id not in keys:
            keys[checked_id(path, camera_id)] = (new_key(),)
        return keys[camera_id][0]


def checked_id(path: Path, camera_id: str) -> str:
    """Return a camera id that may stand in a key file.

    Raises:
        KeyFileError: it may not.
    """
    if not CAMERA_ID.fullmatch(camera_id):
        raise KeyFileError(
            f"{path}: {camera_id!r:.80} is not a camera id: 1 to 64 of A-Z a-z 0-9 . _ -"
        )
    return camera_id


def _keys(path: Path, camera_id: str, value: object) -> tuple[bytes, ...]:
    several = value if isinstance(value, list) else [value]
    keys = tuple(_key(path, checked_id(path, camera_id), text) for text in several)
    if not 1 <= len(set(keys)) == len(keys) <= MAX_KEYS:
        raise KeyFileError(f"{path}: {camera_id} must have 1 to {MAX_KEYS} keys, each of them once")
    return keys


def _key(path: Path, camera_id: str, text: object) -> bytes:
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path}: the key of {camera_id} must be {KEY_BYTES * 2} hex digits")
    return key


def _told(keys: Sequence[bytes]) -> str | list[str]:
    # One key stands as it always did, so that the file stays readable to whoever wrote it.
    return keys[0].hex() if len(keys) == 1 else [key.hex() for key in keys]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a camera stands in it twice")
    return content


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    # The file is replaced by another one: the inode tells changes within one tick of the clock.
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
