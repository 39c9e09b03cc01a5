"""The folder of a deployment: one at a time, found while it runs, and keys that are not lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.home import Address, AlreadyRuns, BadCameraId, Home, NoDeployment, key_in
from workers.wire.keyring import read_keys, write_keys
from workers.wire.signing import new_key


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.prepare()
    return made


def test_a_new_camera_gets_a_key_and_keeps_it(home: Home) -> None:
    assert home.key_of("gate-1") == home.key_of("gate-1") != home.key_of("gate-2")


@pytest.mark.parametrize("camera_id", ["", "a b", "x" * 65, "a/b", "gate\n1"])
def test_a_camera_that_can_not_be_spoils_no_key_file(home: Home, camera_id: str) -> None:
    with pytest.raises(BadCameraId, match="1 to 64"):
        home.key_of(camera_id)
    assert read_keys(home.key_file) == {}


def test_cameras_that_come_at_once_all_keep_their_keys(home: Home) -> None:
    code = (
        "import sys; from deploy.local.home import *; Home(Path(sys.argv[1])).key_of(sys.argv[2])"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(home.folder), f"gate-{number}"])
        for number in range(6)
    ]
    assert [child.wait() for child in children] == [0] * 6
    assert len(read_keys(home.key_file)) == 6


def test_a_deployment_is_found_while_it_runs(home: Home) -> None:
    address = Address("redis://127.0.0.1:6379/0", 4)
    with home.occupied(), home.announced(address):
        assert home.address() == address
        # Its URL may hold a password.
        assert (home.folder / "deployment.json").stat().st_mode & 0o077 == 0
    with pytest.raises(NoDeployment, match="livegate up"):
        home.address()


def test_one_that_was_killed_is_not_found(home: Home) -> None:
    (home.folder / "deployment.json").write_text(json.dumps({"redis_url": "x", "partitions": 4}))
    with pytest.raises(NoDeployment):
        home.address()


def test_the_second_in_a_folder_is_refused(home: Home) -> None:
    with (
        home.occupied(),
        pytest.raises(AlreadyRuns, match=rf"process {os.getpid()}\).*--folder"),
        Home(home.folder).occupied(),
    ):
        pass
    with home.occupied():
        pass


def test_keys_are_those_of_the_running_deployment(home: Home, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    key = new_key()
    write_keys(theirs, {"gate-1": key})
    with home.occupied(), home.announced(Address("redis://h", 4, key_file=str(theirs))):
        assert home.key_of("gate-1") == key
        assert home.key_of("gate-2") == key_in(theirs, "gate-2")
    with home.occupied(), home.announced(Address("redis://h", 4, key_file="")):
        assert home.key_of("gate-1") is None
    assert read_keys(home.key_file) == {}
