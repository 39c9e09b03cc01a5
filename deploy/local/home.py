"""The folder of a deployment on this machine: its camera keys, its server's data, where it listens.

`livegate up` writes it; the other commands find the running deployment by it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.errors import DeployError
from workers.wire.keyring import ensure_key, write_keys

DEFAULT = Path(".livegate")


class NoDeployment(DeployError):
    """No deployment runs from this folder; the message says how to start one."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a deployment listens.

    Attributes:
        redis_url: of the server with the streams.
        partitions: number of partitions.
        cluster: the server is one of a Redis Cluster.
        http_url: of the HTTP side; empty where it is not known.
    """

    redis_url: str
    partitions: int
    cluster: bool = False
    http_url: str = ""


@dataclass(frozen=True, slots=True)
class Home:
    """One such folder."""

    folder: Path = DEFAULT

    @property
    def key_file(self) -> Path:
        """The cameras' keys."""
        return self.folder / "camera_keys.json"

    @property
    def server_folder(self) -> Path:
        """Data of the embedded server."""
        return self.folder / "server"

    def prepare(self) -> None:
        """Make the folder, with an empty key file, where it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key_file.exists():
            write_keys(self.key_file, {})

    def key_of(self, camera_id: str) -> bytes:
        """Return a camera's key; a new camera gets one, which running replicas pick up.

        Raises:
            workers.wire.keyring.KeyFileError: the key file can't be read.
        """
        return ensure_key(self.key_file, camera_id)

    @contextmanager
    def announce(self, address: Address) -> Iterator[None]:
        """Let other commands find the deployment while the block runs."""
        self._file.write_text(json.dumps(asdict(address)), encoding="utf-8")
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
            return Address(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise NoDeployment(
                f"no deployment runs from {self.folder}: start one with `livegate up`, or name "
                "the server of another one with --redis"
            ) from error

    @property
    def _file(self) -> Path:
        return self.folder / "deployment.json"
