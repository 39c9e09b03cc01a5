"""The deployment that a run is against: where it is, its cameras' keys, what may be done to it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtest.errors import LoadtestError
from loadtest.faults.proxy import Proxy
from loadtest.scenario.scenario import FleetSettings
from workers.wire.keyring import changing_keys, read_keys
from workers.wire.signing import new_key

_CAMERA = "load-{:05d}"


class TargetError(LoadtestError):
    """The deployment can't be tested as the scenario says; the message says what is missing."""


class Controls(Protocol):
    """What can be done to a deployment that this machine has in its hands.

    Attributes:
        proxy: that the replicas reach their server through; None: they reach it themselves.
        restart_server: kills a server as a crash does, and starts it again with its data; None:
            it is someone else's to start.
        swap_model: gives all replicas another model; None: that can't be done from here.
    """

    proxy: Proxy | None
    restart_server: Callable[[], None] | None
    swap_model: Callable[[], None] | None

    def replica_pids(self) -> list[int]:
        """Return the processes of the replicas that run."""
        ...

    def server_pids(self) -> list[int]:
        """Return the processes of the servers that run; those of a cluster in no order."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment.

    Attributes:
        url: of its server.
        partitions: it has.
        cluster: its server is a cluster.
        http_url: of its ingress; empty where it is not known.
        key_file: the cameras' keys; None: it takes unsigned frames.
        may_add_keys: the key file is the deployment's own, and may be given new cameras.
        controls: what can be done to it; None: nothing but what its server takes.
        what: it is, in a few words, for the report.
    """

    url: str
    partitions: int
    cluster: bool = False
    http_url: str = ""
    key_file: Path | None = None
    may_add_keys: bool = False
    controls: Controls | None = None
    what: str = "a deployment by URL"

    def camera_keys(self, fleet: FleetSettings) -> dict[str, bytes | None]:
        """Return the cameras of a fleet and their keys; missing ones are added where they may be.

        Raises:
            TargetError: there are not enough.
            workers.wire.keyring.KeyFileError: the key file can't be read, or not be written.
        """
        names = [_CAMERA.format(number) for number in range(1, fleet.cameras + 1)]
        if self.key_file is None:
            return dict.fromkeys(names)
        if self.may_add_keys:
            with changing_keys(self.key_file) as known:
                for name in names:
                    known.setdefault(name, (new_key(),))
                return {name: known[name][0] for name in names}
        known = read_keys(self.key_file)
        if len(known) < fleet.cameras:
            raise TargetError(
                f"{self.key_file} has the keys of {len(known)} cameras, the scenario's fleet has "
                f"{fleet.cameras}: export more, or lower fleet.cameras"
            )
        return {name: known[name][0] for name in sorted(known)[: fleet.cameras]}
