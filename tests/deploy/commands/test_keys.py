"""`livegate keys`: a camera's keys from the first to the last, and none of them ever shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.commands import main as cli
from deploy.commands.keys import NoSuchKey
from workers.wire.keyring import MAX_KEYS, read_keys
from workers.wire.signing import door_key, key_id


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def run(key_file: Path, *args: str) -> str:
    result = CliRunner().invoke(cli.app, ["keys", *args, "--file", str(key_file)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_key_from_its_first_day_to_its_last(key_file: Path) -> None:
    told = run(key_file, "add", "gate-1", "gate-2")
    (first,) = read_keys(key_file)["gate-1"]
    assert key_id(first) in told
    told += run(key_file, "rotate", "gate-1")
    new, old = read_keys(key_file)["gate-1"]
    assert old == first != new
    listed: Any = json.loads(run(key_file, "list", "--json"))
    assert listed["gate-1"] == [key_id(new), key_id(old)]
    told += run(key_file, "list")
    told += run(key_file, "revoke", "gate-1", "--key", key_id(old))
    assert read_keys(key_file)["gate-1"] == (new,)
    told += run(key_file, "revoke", "gate-1")
    assert set(read_keys(key_file)) == {"gate-2"}
    assert not any(key.hex()[:16] in told for key in (first, new))


def test_export_hands_out_what_each_needs(key_file: Path, tmp_path: Path) -> None:
    run(key_file, "add", "gate-1")
    run(key_file, "rotate", "gate-1")
    new, old = read_keys(key_file)["gate-1"]
    assert json.loads(run(key_file, "export", "gate-1")) == {"gate-1": [new.hex()]}
    out = tmp_path / "door.json"
    told = run(key_file, "export", "gate-1", "--door", "--out", str(out))
    assert read_keys(out) == {"gate-1": (door_key(new), door_key(old))}
    assert out.stat().st_mode & 0o077 == 0
    assert door_key(new).hex() not in told


@pytest.mark.parametrize(
    "args",
    [
        ("add", "gate-1"),
        ("rotate", "gate-2"),
        ("revoke", "gate-2"),
        ("revoke", "gate-1", "--key", "00000000"),
        ("export", "gate-2"),
    ],
    ids=" ".join,
)
def test_what_can_not_be_done_changes_nothing(key_file: Path, args: tuple[str, ...]) -> None:
    run(key_file, "add", "gate-1")
    before = key_file.read_text()
    with pytest.raises(NoSuchKey, match=r"gate-\d"):
        run(key_file, *args)
    assert key_file.read_text() == before


def test_keys_of_a_camera_are_bounded(key_file: Path) -> None:
    run(key_file, "add", "gate-1")
    for _ in range(MAX_KEYS - 1):
        run(key_file, "rotate", "gate-1")
    with pytest.raises(NoSuchKey, match="revoke one first"):
        run(key_file, "rotate", "gate-1")


def test_a_deployment_elsewhere_is_never_given_an_invented_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for where in (("--redis", "redis://127.0.0.1:1"), ("--http", "http://127.0.0.1:1")):
        result = CliRunner().invoke(cli.app, ["camera", *where])
        assert isinstance(result.exception, cli.NoKey)
        assert "--key-file" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_no_key_file_is_taken_instead_of_the_one_that_was_named(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(*args: str) -> Any:
        return CliRunner().invoke(cli.app, ["keys", *args])

    both = keys("add", "gate-1", "--file", str(key_file), "--folder", str(tmp_path / "site"))
    assert both.exit_code == 2
    assert "pass one of them" in both.output
    assert not key_file.exists()
    monkeypatch.setenv("LIVEGATE_CAMERA_KEYS", str(key_file))
    assert keys("add", "gate-1", "--folder", str(tmp_path / "site")).exit_code == 0
    assert not key_file.exists()
    assert keys("add", "gate-2").exit_code == 0
    assert set(read_keys(key_file)) == {"gate-2"}
