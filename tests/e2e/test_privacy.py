"""What a deployment of this machine keeps to itself: faces, on disk too; and who can reach it."""

import base64
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import redis

from deploy.local.home import Home
from deploy.local.ports import free_port
from deploy.local.processes import descendants
from tests.e2e.test_promises import post
from tests.e2e.test_up import READY, until, up, write_config
from workers.client.camera import Camera, jpeg, png
from workers.wire import keys
from workers.wire.frame import EncodedPlane, Frame, pack_frame
from workers.wire.signing import sign

_LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
_LISTENS = "0A"


class Planted:
    """A picture that is nowhere else, and how to find it."""

    def __init__(self) -> None:
        rng = np.random.default_rng(secrets.randbits(64))
        colour = rng.integers(0, 256, (112, 112, 3), np.uint8)
        self.planes = {
            "rgb": jpeg(colour),
            "depth": png(rng.integers(500, 900, (112, 112), np.uint16)),
            "ir": jpeg(colour[..., 0]),
        }
        self._marks = [mark for plane in self.planes.values() for mark in marks_of(plane)]

    def is_in(self, *folders: Path) -> list[str]:
        """Return the files that hold a piece of it: as it was sent, in text, or decoded."""
        return [
            str(file)
            for folder in folders
            for file in folder.rglob("*")
            if file.is_file() and any(mark in file.read_bytes() for mark in self._marks)
        ]


def marks_of(plane: EncodedPlane) -> Iterator[bytes]:
    for start in range(1000, len(plane.data) - 100, 1000):
        piece = plane.data[start : start + 32]
        yield piece
        yield piece.hex().encode()
        yield from (base64.b64encode(piece[skip : skip + 24]) for skip in range(3))
    pixels = cv2.imdecode(np.frombuffer(plane.data, np.uint8), cv2.IMREAD_UNCHANGED)
    yield from (row.tobytes()[:32] for row in pixels[::10])


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    """A short name: Ray makes sockets in it."""
    folder = Path(tempfile.mkdtemp(prefix="lg-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_it_listens_on_loopback_and_keeps_no_face(
    tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(ray_folder))
    http_port, port = free_port(), free_port()
    write_config(tmp_path, {"deadline_ms": 600_000}, http_port, port)
    planted = Planted()
    with up("--config", "config.yaml", cwd=tmp_path) as running:
        running.wait_for(READY)
        started = descendants(running.process.pid)
        assert listening(*(each.pid for each in started)) > {http_port, port}
        (gcs,) = (each.pid for each in started if "gcs_server" in each.title)
        check_that_ray_wants_a_token(gcs)

        http = f"http://127.0.0.1:{http_port}"
        key = Home(tmp_path / ".livegate").key_of("gate-1")
        assert key is not None
        cameras = [
            Camera(f"redis://127.0.0.1:{port}", "gate-1", key, partitions=4),
            Camera(http, "gate-1", key),
        ]
        for camera in cameras:
            camera.publish(planted.planes)
            until(lambda camera=camera: camera.sent.acknowledged == 1)
            camera.close()
        packed = pack_frame(Frame("gate-1", 1, 1, planted.planes))  # far too old
        for body in (packed, packed[:-9]):
            assert post(http, body, sign(body, key))["outcome"] == "no_decision"
        with redis.Redis(port=port) as client:
            until(lambda: sum(client.xlen(keys.decisions(each)) for each in range(4)) == 2)
            assert not any(client.xlen(keys.frames(each)) for each in range(4))
        assert planted.is_in(tmp_path / ".livegate")  # until the server's file is rewritten
        assert running.ended_with(signal.SIGTERM, group=False) == 0
    assert list(ray_folder.iterdir())
    assert planted.is_in(tmp_path, ray_folder, Path("/dev/shm")) == []  # noqa: S108


def listening(*pids: int) -> set[int]:
    """Return the ports that processes listen on; fails if any is open beyond loopback."""
    sockets = {
        str(fd.readlink())
        for pid in pids
        for fd in Path(f"/proc/{pid}/fd").iterdir()
        if fd.is_symlink()
    }
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS and f"socket:[{inode}]" in sockets:
                address, _, number = local.partition(":")
                assert address in _LOOPBACK, line
                ports.add(int(number, 16))
    return ports


def check_that_ray_wants_a_token(gcs: int) -> None:
    entries = Path(f"/proc/{gcs}/environ").read_text().split("\0")
    environment = dict(each.split("=", 1) for each in entries if "=" in each)
    token = environment["RAY_AUTH_TOKEN"]
    assert environment["RAY_AUTH_MODE"] == "token"
    assert token not in Path(f"/proc/{gcs}/cmdline").read_text()
    (port,) = listening(gcs)
    ask = [sys.executable, "-m", "ray.scripts.scripts", "status", f"--address=127.0.0.1:{port}"]
    for given, is_let_in in ((token, True), ("0" * 64, False)):
        own = {**environment, "RAY_AUTH_TOKEN": given}
        done = subprocess.run(ask, env=own, capture_output=True, timeout=300, check=False)
        assert (done.returncode == 0) is is_let_in, done.stderr
