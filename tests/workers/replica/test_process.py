"""No replica outlives the process that started it, or leaves its memory behind."""

import os
import resource
import signal
import subprocess
import sys

from tests.processes import started

CHILD = """
import threading
from workers.replica.process import end_with_parent
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
    with started([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        # The child has the other end of the pipe: this returns once it has ended too.
        assert parent.stdout.read() == b""


def test_it_ends_when_its_parent_was_gone_before_it_looked() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    code = CHILD.replace("end_with_parent()\n", f"end_with_parent({gone.pid})\n")
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)
    assert done.returncode == 1


def test_it_leaves_no_core_file() -> None:
    asked = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    code = "from workers.replica.process import leave_no_core; leave_no_core(); "
    most_bytes = resource.getrlimit(resource.RLIMIT_CORE)[1]

    def allow_core() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (most_bytes, most_bytes))

    for start, limit in (("", most_bytes), (code, 0)):
        done = subprocess.run(
            [sys.executable, "-c", start + asked],
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=allow_core,
        )
        assert int(done.stdout) == limit
