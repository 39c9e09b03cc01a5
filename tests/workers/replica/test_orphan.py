"""No replica outlives the process that started it."""

import os
import signal
import subprocess
import sys

CHILD = """
import threading
from workers.replica.orphan import end_with_parent
end_with_parent()
print("ready", flush=True)
threading.Event().wait()
"""
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}])
child.wait()
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        # The child has the other end of the pipe: this returns once it has ended too.
        assert parent.stdout.read() == b""
