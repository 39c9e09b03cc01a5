"""The folder of a deployment on this machine: its camera keys, its server's data, where it listens.

`livegate up` writes it; the other commands find the running deployment by it.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from deploy.errors import DeployError
from workers.wire.frame import CAMERA_ID
from workers.wire.keyring import ensure_key, write_keys, write_secret

DEFAULT = Path(".livegate")
_TRY_FOR_S = 1.0


class NoDeployment(DeployError):
    """No deployment runs from this folder; the message says how to start one."""


class AlreadyRuns(DeployError):
    """A deployment runs from this folder already: its server's data can't have two owners."""


class UserConfigError(DeployError):
    """The `user_config` of a folder can't be used; the message says what to do."""


class BadCameraId(DeployError):
    """A camera can't be called that; the message has the rule."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a deployment listens.

    Attributes:
        redis_url: of the server with the streams.
        partitions: number of partitions.
        cluster: the server is one of a Redis Cluster.
        http_url: of the HTTP side; empty where it is not known.
        key_file: the cameras' keys; empty: it takes unsigned frames.
    """

    redis_url: str
    partitions: int
    cluster: bool = False
    http_url: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """One such folder."""

    folder: Path = DEFAULT

    @property
    def key_file(self) -> Path:
        """The cameras' keys, unless the deployment's config names another file."""
        return self.folder / "camera_keys.json"

    @property
    def server_folder(self) -> Path:
        """Data of the embedded server."""
        return self.folder / "server"

    @property
    def user_config_file(self) -> Path:
        """What `livegate model` has set; it outlives `livegate up`."""
        return self.folder / "user_config.json"

    def prepare(self) -> None:
        """Make the folder, with an empty key file, where it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key_file.exists():
            write_keys(self.key_file, {})

    def user_config(self) -> dict[str, Any] | None:
        """Return the `user_config` that was set here; None: the config's own counts.

        Raises:
            UserConfigError: the file can't be read.
        """
        try:
            found = json.loads(self.user_config_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserConfigError(
                f"{self.user_config_file}: can't be read ({error}): remove it"
            ) from error
        if not isinstance(found, dict):
            raise UserConfigError(f"{self.user_config_file}: must be a JSON object: remove it")
        return found

    def set_user_config(self, user_config: Mapping[str, Any]) -> None:
        """Set a `user_config`; what runs from this folder takes it up, also after a restart."""
        write_secret(self.user_config_file, json.dumps(user_config, indent=1) + "\n")

    def key_of(self, camera_id: str) -> bytes | None:
        """Return a camera's key; a new camera gets one, which running replicas pick up.

        Returns:
            The key, or None: the deployment that runs from here takes unsigned frames.

        Raises:
            BadCameraId: there can be no such camera.
            workers.wire.keyring.KeyFileError: the key file can't be read.
        """
        try:
            key_file = self.address().key_file
        except NoDeployment:
            key_file = str(self.key_file)
        return key_in(Path(key_file), camera_id) if key_file else None

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Have the folder for this process alone while the block runs.

        Raises:
            AlreadyRuns: another process has it.
        """
        give_up_s = time.monotonic() + _TRY_FOR_S
        with self._lock.open("a+", encoding="utf-8") as lock:
            while not _locked(lock, fcntl.LOCK_EX):
                if time.monotonic() > give_up_s:  # longer than `address` looks at it
                    lock.seek(0)
                    raise AlreadyRuns(
                        f"a deployment runs from {self.folder} already (process "
                        f"{lock.read().strip()}): stop it, or choose another --folder"
                    )
                time.sleep(0.05)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield

    @contextmanager
    def announced(self, address: Address) -> Iterator[None]:
        """Let other commands find the deployment while the block runs, in `occupied`."""
        write_secret(self._file, json.dumps(asdict(address)))  # its URL may hold a password
        try:
            yield
        finally:
            self._file.unlink(missing_ok=True)

    def address(self) -> Address:
        """Return where the deployment of this folder listens.

        Raises:
            NoDeployment: none runs from here.
        """
        try:
            with self._lock.open(encoding="utf-8") as lock:
                # One that was killed left its address behind, but not its lock.
                if not _locked(lock, fcntl.LOCK_SH):
                    return Address(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            pass
        raise NoDeployment(
            f"no deployment runs from {self.folder}: start one with `livegate up`, or name "
            "the server of another one with --redis"
        )

    @property
    def _file(self) -> Path:
        return self.folder / "deployment.json"

    @property
    def _lock(self) -> Path:
        return self.folder / "lock"


def key_in(key_file: Path, camera_id: str) -> bytes:
    """Return a camera's key from a key file; a new camera gets one.

    Raises:
        BadCameraId: there can be no such camera.
        workers.wire.keyring.KeyFileError: the key file can't be read.
    """
    check_camera_id(camera_id)
    return ensure_key(key_file, camera_id)


def check_camera_id(camera_id: str) -> None:
    """Return if there can be a camera of that id.

    Raises:
        BadCameraId: there can't.
    """
    if not CAMERA_ID.fullmatch(camera_id):
        raise BadCameraId(f"{camera_id!r:.80} is no camera id: 1 to 64 of A-Z a-z 0-9 . _ -")


def _locked(file: TextIO, kind: int) -> bool:
    """Lock a file for as long as it is open; False if another process has it."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
