"""A deployment for a load test alone: replicas as processes on this machine, without Ray.

What a run against it measures is the stream, the pipeline and the network, not Ray Serve's
scaling. Its replicas are kept alive as a deployment would, and the server can be killed.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from loadtest.faults.proxy import Proxy
from workers.settings import WorkerSettings
from workers.wire.server_url import parse_server_url

_LOOK_S = 0.05
_DRAIN_S = 30.0
INSTANT = "instant"


class Stack:
    """Keeps replicas running; the `Controls` of a target."""

    def __init__(
        self,
        settings: WorkerSettings,
        num_replicas: int,
        folder: Path,
        *,
        restart_server: Callable[[], None] | None,
        server_pids: Callable[[], list[int]],
        proxied: bool = False,
    ) -> None:
        """Start.

        Args:
            settings: of the replicas; its bundle may be `INSTANT`, a network that is none.
            num_replicas: to keep alive.
            folder: for their logs.
            restart_server: kills the server, and starts it again.
            server_pids: its processes.
            proxied: replicas reach the server through a proxy, which can be cut.
        """
        self.proxy: Proxy | None = None
        self.restart_server: Callable[[], None] | None = restart_server
        self.swap_model: Callable[[], None] | None = self._swap
        self._server_pids = server_pids
        if proxied:
            host, port = parse_server_url(settings.stream.url).hosts[0]
            self.proxy = Proxy(host, port)
            stream = settings.stream.model_copy(
                update={"url": f"redis://127.0.0.1:{self.proxy.port}/0"}
            )
            settings = settings.model_copy(update={"stream": stream})
        self._settings, self._count, self._folder = settings, num_replicas, folder
        self.num_started = 0
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="stack", daemon=True)
        self._keeper.start()

    def replica_pids(self) -> list[int]:
        """See `Controls.replica_pids`."""
        with self._lock:
            return [each.pid for each in self._running.values() if each.poll() is None]

    def server_pids(self) -> list[int]:
        """See `Controls.server_pids`."""
        return self._server_pids()

    def _swap(self) -> None:
        for pid in self.replica_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)

    def close(self) -> None:
        """Drain all replicas, and wait for their end."""
        self._end.set()
        self._keeper.join()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_DRAIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.proxy is not None:
            self.proxy.close()

    def _keep(self) -> None:
        while not self._end.wait(_LOOK_S):
            with self._lock:
                self._running = {
                    name: each for name, each in self._running.items() if each.poll() is None
                }
                while len(self._running) < self._count:
                    self._start()

    def _start(self) -> None:
        self.num_started += 1
        name = f"load-replica-{self.num_started}"
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own module
                [
                    *(sys.executable, "-m", "loadtest.replica"),
                    *(self._settings.model_dump_json(), name),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
