"""The key file: what it may hold, how it changes, and that a change to it is followed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from workers.wire.keyring import (
    MAX_KEYS,
    KeyFileError,
    Keyring,
    changing_keys,
    ensure_key,
    read_keys,
    write_keys,
)
from workers.wire.refusal import BadSignature, UnknownCamera
from workers.wire.signing import door_key, key_id, new_key, sign


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
    assert read_keys(key_file) == {"gate-1": (bytes(32),)}


def test_a_broken_file_is_complained_of_once(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keyring = Keyring(key_file)
    key_file.write_text("{")
    for _ in range(5):
        with pytest.raises(UnknownCamera):
            keyring.verify("gate-2", b"frame", bytes(32))
    assert caplog.text.count("kept as they were") == 1


def test_a_file_that_others_can_read_is_told(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_file.chmod(0o644)
    Keyring(key_file)
    assert "chmod 600" in caplog.text


def test_while_a_key_is_rotated_both_hold(key_file: Path) -> None:
    new = new_key()
    keyring = Keyring(key_file)
    with changing_keys(key_file) as keys:
        keys["gate-1"] = (new, *keys["gate-1"])
    for key in (new, bytes(32)):
        proof = keyring.verify("gate-1", b"frame", sign(b"frame", key))
        assert (proof.key_id, proof.door_key) == (key_id(key), door_key(key))
    with changing_keys(key_file) as keys:
        keys["gate-1"] = (new,)
    keyring.refresh()
    with pytest.raises(BadSignature):
        keyring.verify("gate-1", b"frame", sign(b"frame", bytes(32)))


def test_a_file_of_the_first_version_reads_as_one_key_each(key_file: Path) -> None:
    key_file.write_text(json.dumps({"gate-1": "00" * 32, "gate-2": ["11" * 32, "22" * 32]}))
    assert read_keys(key_file) == {
        "gate-1": (bytes(32),),
        "gate-2": (b"\x11" * 32, b"\x22" * 32),
    }


def test_a_change_that_fails_changes_nothing(key_file: Path) -> None:
    before = key_file.read_text()
    with pytest.raises(ZeroDivisionError), changing_keys(key_file) as keys:
        keys["gate-2"] = (bytes([1 // len(keys.pop("gate-1")[1:])] * 32),)
    with pytest.raises(KeyFileError, match="not a camera id"):
        ensure_key(key_file, "a b")
    assert key_file.read_text() == before
    assert sorted(path.name for path in key_file.parent.iterdir()) == ["keys.json", "keys.lock"]


def test_a_link_stays_a_link(key_file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(key_file)
    ensure_key(link, "gate-2")
    assert link.is_symlink()
    assert set(read_keys(key_file)) == {"gate-1", "gate-2"}


def test_writers_at_the_same_time_lose_nothing(key_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from workers.wire.keyring import ensure_key\n"
        "for n in range(20): ensure_key(Path(sys.argv[1]), f'camera-{sys.argv[2]}-{n}')"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(key_file), str(number)])
        for number in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(read_keys(key_file)) == 1 + 4 * 20
    assert key_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no key file"),
        ("[]", "JSON object"),
        (json.dumps({"a b": "00" * 32}), "not a camera id"),
        (json.dumps({"a": "00" * 31}), "64 hex digits"),
        (json.dumps({"a": "zz" * 32}), "64 hex digits"),
        (json.dumps({"a": 5}), "64 hex digits"),
        (json.dumps({"a": []}), "1 to 4 keys"),
        (json.dumps({"a": ["00" * 32, "00" * 32]}), "each of them once"),
        (json.dumps({"a": [f"{n:064x}" for n in range(MAX_KEYS + 1)]}), "1 to 4 keys"),
        (json.dumps({"a": [["00" * 32]]}), "64 hex digits"),
        (f'{{"a": "{bytes(32).hex()}", "a": "{bytes(32).hex()}"}}', "twice"),
        ("[" * 100_000, "no key file"),
    ],
)
def test_a_bad_file_is_refused(key_file: Path, content: str, message: str) -> None:
    key_file.write_text(content)
    with pytest.raises(KeyFileError, match=message):
        read_keys(key_file)
