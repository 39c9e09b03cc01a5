"""The demo as a user runs it: one command, one JSON line, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

from deploy.local.processes import descendants, processes
from tests.processes import started

COMMAND = [
    sys.executable,
    "-c",
    "from deploy.commands.main import main; main()",
    "demo",
    "--seconds",
]


def test_it_accounts_for_every_frame() -> None:
    done = subprocess.run([*COMMAND, "9"], capture_output=True, text=True, timeout=600, check=False)
    account = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert account["published"] == account["decided"] > 200
    assert (account["lost"], account["duplicates"]) == (0, 0)
    parts = ("acknowledged", "dropped", "unknown", "refused")
    assert account["published"] == sum(account[part] for part in parts)
    outcomes = ("bona_fide", "attack", "no_decision")
    assert account["decided"] == sum(account[outcome] for outcome in outcomes)
    # Beside other load frames expire, and then there may be no verdict to be right or wrong.
    verdicts = account["bona_fide"] + account["attack"]
    assert account["no_decision"] >= account["expired"]
    assert account["correct_ratio"] >= 0.9 if verdicts > 100 else verdicts + account["expired"]
    assert account["send_late_max_ms"] >= account["send_late_p50_ms"] >= 0
    assert account["model"].startswith("rendered-small@")
    assert account["replicas_max"] >= 1


def test_ctrl_c_leaves_no_process_behind() -> None:
    command = [*COMMAND, "0"]
    with started(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "first decision" in line:
                break
        left = {each.pid for each in descendants(process.pid)}
        # As a terminal does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        last = process.stdout.read().splitlines()[-1]
        assert process.wait(600) == 0
    assert json.loads(last)["lost"] == 0
    end_s = time.monotonic() + 60
    while left & {each.pid for each in processes()}:
        assert time.monotonic() < end_s
        time.sleep(0.05)
