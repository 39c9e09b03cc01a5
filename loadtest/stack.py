"""A deployment for a load test alone: replicas as processes on this machine, without Ray.

What a run against it measures is the stream, the pipeline and the network, not Ray Serve's
scaling. Its replicas are kept alive as a deployment would, and the server can be killed.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from loadtest.faults.proxy import Proxy
from workers.settings import WorkerSettings
from workers.wire.server_url import parse_server_url

_LOOK_S = 0.05
_DRAIN_S = 60.0
INSTANT = "instant"
STALLED = "stalled"  # what a replica logs that ends because it makes no headway


class Stack:
    """Keeps replicas running; the `Controls` of a target.

    Attributes:
        endings: how many replicas have ended so far, by exit status; negative: by that signal.
        num_started: replicas so far.
        module: that a replica runs; its arguments are those of `loadtest.replica`.
    """

    module: ClassVar[str] = "loadtest.replica"

    def __init__(
        self,
        settings: WorkerSettings,
        num_replicas: int,
        folder: Path,
        *,
        restart_server: Callable[[], None] | None = None,
        server_pids: Callable[[], list[int]] = list,
        proxied: bool = False,
    ) -> None:
        """Start.

        Args:
            settings: of the replicas; its bundle may be `INSTANT`, a network that is none.
            num_replicas: to keep alive.
            folder: for their logs.
            restart_server: kills the server, and starts it again; None: it is not ours.
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
        self.endings: Counter[int] = Counter()
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

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a replica, unless it has just ended."""
        with self._lock:
            if any(each.pid == pid and each.poll() is None for each in self._running.values()):
                os.kill(pid, number)

    def failures(self) -> list[str]:
        """Return the last words of replicas that ended by themselves.

        One that finds at its start that it is not allowed what it needs says so and ends: that is
        none.
        """
        texts = (path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log")))
        failed = (each for each in texts if "Traceback" in each or f"{STALLED}: " in each)
        return [each[-3000:] for each in failed if "StreamError: the server" not in each]

    def _swap(self) -> None:
        for pid in self.replica_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP)

    def close(self) -> None:
        """Drain all replicas, and wait for their end; one that does not end is killed."""
        if self._end.is_set():
            return
        self._end.set()
        self._keeper.join()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            process.terminate()
        end_s = time.monotonic() + _DRAIN_S
        for process in self._running.values():
            try:
                process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            self.endings[process.wait()] += 1
        if self.proxy is not None:
            self.proxy.close()

    def _keep(self) -> None:
        while not self._end.wait(_LOOK_S):
            with self._lock:
                for name, process in list(self._running.items()):
                    if process.poll() is not None:
                        self.endings[process.returncode] += 1
                        del self._running[name]
                while len(self._running) < self._count:
                    self._start()

    def _start(self) -> None:
        self.num_started += 1
        name = f"load-replica-{self.num_started}"
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - our own module
                [
                    *(sys.executable, "-m", self.module),
                    *(self._settings.model_dump_json(), name, str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
