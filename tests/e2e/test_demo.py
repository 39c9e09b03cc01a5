"""The demo as a user runs it: one command, one JSON line, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = [
    sys.executable,
    "-c",
    "from deploy.commands.main import main; main()",
    "demo",
    "--seconds",
]


def children_of(group: int) -> list[int]:
    """Return the processes of a process group or session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_it_accounts_for_every_frame() -> None:
    done = subprocess.run([*COMMAND, "9"], capture_output=True, text=True, timeout=120, check=False)
    account = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert account["published"] == account["decided"] > 200
    assert (account["lost"], account["duplicates"]) == (0, 0)
    assert account["bona_fide"] + account["attack"] + account["no_decision"] == account["decided"]
    assert account["correct_ratio"] >= 0.9
    assert account["model"].startswith("rendered-small@")
    assert account["replicas_max"] >= 1


def test_ctrl_c_leaves_no_process_behind() -> None:
    command = [*COMMAND, "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "first decision" in line:
                break
        # As a terminal does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        last = process.stdout.read().splitlines()[-1]
        assert process.wait(60) == 0
    assert json.loads(last)["lost"] == 0
    end_s = time.monotonic() + 10
    while (left := children_of(process.pid)) and time.monotonic() < end_s:
        pass
    assert left == []
