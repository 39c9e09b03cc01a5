"""Pools whose processes end with whoever started them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model.runs.processes import processes

SLEEPER = """
import os, sys, time
from pathlib import Path
from model.runs.processes import processes

def sleep(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    with processes(2) as pool:
        for each in [pool.submit(sleep, Path(sys.argv[1])) for _ in range(3)]:
            each.result()
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # The dead whom nobody has waited for yet are still listed.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(holds: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 20
    while not (held := holds()) and time.monotonic() < limit:
        time.sleep(0.05)
    return held


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    script, started = tmp_path / "sleeper.py", tmp_path / "started"
    script.write_text(SLEEPER)
    started.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    parent = subprocess.Popen(
        [sys.executable, str(script), str(started)], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        assert eventually(lambda: len(list(started.iterdir())) == 2)
        parent.send_signal(number)
        assert parent.wait(20) != 0
        workers = [int(each.name) for each in started.iterdir()]
        assert eventually(lambda: not any(map(is_running, workers)))
    finally:
        parent.kill()
        parent.wait()


def test_a_failure_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError), processes(1) as pool:
        pool.submit(divmod, 1, 0).result()


def test_results_come_back() -> None:
    with processes(2) as pool:
        assert sorted(pool.map(abs, [-3, 2, -1])) == [1, 2, 3]
