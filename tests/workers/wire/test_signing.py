"""Camera keys: what a key file may hold, and that a change to it is followed."""

import json
from pathlib import Path

import pytest

from workers.wire.refusal import BadSignature, UnknownCamera
from workers.wire.signing import KeyFileError, Keyring, new_key, read_keys, sign, write_keys


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    write_keys(path, {"gate-1": bytes(32)})
    return path


def test_a_signature_holds_for_its_camera_and_bytes(key_file: Path) -> None:
    keyring = Keyring(key_file)
    keyring.verify("gate-1", b"frame", sign(b"frame", bytes(32)))
    for signature in (None, b"", bytes(32), sign(b"frame!", bytes(32)), sign(b"frame", new_key())):
        with pytest.raises(BadSignature):
            keyring.verify("gate-1", b"frame", signature)
    with pytest.raises(UnknownCamera):
        keyring.verify("gate-2", b"frame", sign(b"frame", bytes(32)))


def test_a_changed_file_is_followed(key_file: Path) -> None:
    keyring = Keyring(key_file)
    key = new_key()
    write_keys(key_file, {"gate-2": key})
    keyring.verify("gate-2", b"frame", sign(b"frame", key))
    with pytest.raises(UnknownCamera):
        keyring.verify("gate-1", b"frame", sign(b"frame", bytes(32)))


def test_a_key_that_was_taken_away_ends_at_the_next_look(key_file: Path) -> None:
    keyring = Keyring(key_file)
    write_keys(key_file, {})
    keyring.refresh()
    with pytest.raises(UnknownCamera):
        keyring.verify("gate-1", b"frame", sign(b"frame", bytes(32)))


def test_a_broken_file_changes_nothing(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring(key_file)
    key_file.write_text("{")
    keyring.refresh()
    key_file.unlink()
    keyring.refresh()
    keyring.verify("gate-1", b"frame", sign(b"frame", bytes(32)))
    assert "kept as they were" in caplog.text


def test_only_its_owner_can_read_a_key_file(key_file: Path) -> None:
    assert key_file.stat().st_mode & 0o077 == 0
    assert read_keys(key_file) == {"gate-1": bytes(32)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no key file"),
        ("[]", "JSON object"),
        (json.dumps({"a b": "00" * 32}), "not a camera id"),
        (json.dumps({"a": "00" * 31}), "64 hex digits"),
        (json.dumps({"a": "zz" * 32}), "64 hex digits"),
        (json.dumps({"a": 5}), "64 hex digits"),
    ],
)
def test_a_bad_file_is_refused(key_file: Path, content: str, message: str) -> None:
    key_file.write_text(content)
    with pytest.raises(KeyFileError, match=message):
        read_keys(key_file)
