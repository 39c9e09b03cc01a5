"""Replicas as processes: started, killed, and started again as a deployment would."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from workers.settings import WorkerSettings


class Replicas:
    """Keeps a number of replicas alive, and notes how each one ended."""

    def __init__(self, settings: WorkerSettings, count: int, folder: Path) -> None:
        self.endings: Counter[int] = Counter()
        self._settings = settings
        self._folder = folder
        self._num_started = 0
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._count = count
        self._end = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def pids(self) -> list[int]:
        """Return the processes that run."""
        with self._lock:
            return [each.pid for each in self._processes.values() if each.poll() is None]

    def signal(self, pid: int, number: int) -> None:
        """Send a signal, unless the process has just ended."""
        with self._lock:
            if any(each.pid == pid and each.poll() is None for each in self._processes.values()):
                os.kill(pid, number)

    def stop(self, timeout_s: float = 60) -> None:
        """Drain all of them; one that does not end is killed, and noted as -9."""
        self._end.set()
        self._keeper.join()
        for process in self._processes.values():
            process.terminate()
        end_s = time.monotonic() + timeout_s
        for process in self._processes.values():
            try:
                process.wait(max(0.1, end_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
            self.endings[process.wait()] += 1

    def failures(self) -> list[str]:
        """Return the last words of replicas that ended by themselves.

        One that finds at its start that it is not allowed what it needs says so and ends, and is
        no failure.
        """
        texts = (path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log")))
        failed = (each for each in texts if "Traceback" in each or "STALLED" in each)
        return [each[-3000:] for each in failed if "StreamError: the server" not in each]

    def _keep(self) -> None:
        while not self._end.wait(0.05):
            with self._lock:
                for name, process in list(self._processes.items()):
                    if process.poll() is not None:
                        self.endings[process.returncode] += 1
                        del self._processes[name]
                while len(self._processes) < self._count:
                    self._start()

    def _start(self) -> None:
        self._num_started += 1
        name = f"replica-{self._num_started}"
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.faults.replica"),
                    *(self._settings.model_dump_json(), name),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )
