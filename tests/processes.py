"""Processes that tests start: none outlives its test, or holds it up when it has failed."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Run a command while the block runs, and end it with SIGKILL if it still runs then.

    Args:
        command: program and arguments.
        **options: of `subprocess.Popen`.
    """
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()
