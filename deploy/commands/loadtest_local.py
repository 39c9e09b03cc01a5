"""What `livegate loadtest` has in its hands here: a stack of its own, or that of `up`."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.commands.target_options import TargetOptions
from deploy.local.home import DEFAULT, Home
from deploy.local.ports import free_port
from deploy.local.processes import descendants, processes
from deploy.local.server import EmbeddedServer, embedded_server
from loadtest.faults.proxy import Proxy
from loadtest.scenario.scenario import Scenario
from loadtest.stack import Stack
from loadtest.target import Target
from workers.settings import WorkerSettings
from workers.wire.keyring import write_keys

_KEY_FILE = "camera_keys.json"


class UpControls:
    """What can be done to a `livegate up` that runs from a folder of this machine."""

    proxy: Proxy | None = None
    restart_server: Callable[[], None] | None = None
    swap_model: Callable[[], None] | None = None

    def __init__(self, where: Home) -> None:
        """Look at nothing yet."""
        self._lock = where.folder / "lock"

    def replica_pids(self) -> list[int]:
        """See `Controls.replica_pids`."""
        return [
            each.pid for each in self._processes() if each.title.startswith("ray::ServeReplica:")
        ]

    def server_pids(self) -> list[int]:
        """See `Controls.server_pids`."""
        return [each.pid for each in self._processes() if "valkey-server" in each.title]

    def _processes(self) -> list:  # type: ignore[type-arg]
        try:
            return descendants(int(self._lock.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return []


@contextmanager
def _server() -> Iterator[tuple[Path, EmbeddedServer]]:
    """Run an empty server while the block runs, with a key file of no cameras in a folder."""
    with tempfile.TemporaryDirectory(prefix="livegate-") as name:
        folder = Path(name)
        write_keys(folder / _KEY_FILE, {})
        with embedded_server(folder / "server", free_port()) as server:
            yield folder, server


@contextmanager
def empty_server() -> Iterator[tuple[str, Path]]:
    """Run an empty server while the block runs; yields its URL, and a key file of no cameras."""
    with _server() as (folder, server):
        yield server.url, folder / _KEY_FILE


@contextmanager
def local_target(scenario: Scenario, num_replicas: int, bundle: str | None) -> Iterator[Target]:
    """Run a server and replicas without Ray while the block runs; needs the extra `serve`."""
    from deploy.local.config import load_config

    of_network = any(getattr(each, "of", "") in ("replicas", "both") for each in scenario.faults)
    with _server() as (folder, server):
        settings = load_config().with_redis(server.url).settings
        settings = settings.model_copy(update={"camera_keys": folder / _KEY_FILE})
        if bundle is not None:
            settings = settings.model_copy(update={"bundle": bundle})
        with local_stack(settings, num_replicas, folder, server, proxied=of_network) as stack:
            target = Target(
                url=server.url,
                partitions=settings.stream.partitions,
                key_file=folder / _KEY_FILE,
                may_add_keys=True,
                controls=stack,
                what=f"{num_replicas} replicas without Ray, bundle {settings.bundle}",
            )
            target.camera_keys(scenario.fleet)  # before the replicas look for them
            yield target


@contextmanager
def local_stack(
    settings: WorkerSettings,
    num_replicas: int,
    folder: Path,
    server: EmbeddedServer,
    *,
    proxied: bool = False,
) -> Iterator[Stack]:
    """Run replicas beside a server of this process while the block runs."""

    def restart() -> None:
        server.kill()
        server.start()

    def pids() -> list[int]:
        own = f"{server.port}"
        return [
            each.pid
            for each in processes()
            if each.parent == os.getpid() and "valkey-server" in each.title and own in each.title
        ]

    stack = Stack(
        settings, num_replicas, folder, restart_server=restart, server_pids=pids, proxied=proxied
    )
    try:
        yield stack
    finally:
        stack.close()


@contextmanager
def target_of(scenario: Scenario, options: TargetOptions) -> Iterator[Target]:
    """Find the deployment that is meant, or start one, while the block runs."""
    if options.local is not None:
        with local_target(scenario, options.local, options.bundle) as target:
            yield target
    elif options.redis is not None:
        partitions, http_url = options.partitions or 4, options.http or ""
        yield Target(options.redis, partitions, options.cluster, http_url, options.key_file)
    else:
        yield _of_home(Home(options.folder or DEFAULT))


def _of_home(where: Home) -> Target:
    address = where.address()
    return Target(
        url=address.redis_url,
        partitions=address.partitions,
        cluster=address.cluster,
        http_url=address.http_url,
        key_file=Path(address.key_file) if address.key_file else None,
        may_add_keys=True,
        controls=UpControls(where),
        what=f"`livegate up` in {where.folder}",
    )
