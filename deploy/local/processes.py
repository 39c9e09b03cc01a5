"""The processes that this one has started, and what they cost; on Linux, from /proc.

Where there is no /proc, there are none to be seen.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process.

    Attributes:
        pid: its number.
        parent: that of the process which started it.
        session: that of the session it belongs to.
        title: its command line; Ray's workers write their actor there.
        cpu_s: processor time that it has used.
        rss_mb: memory that it holds, MiB.
    """

    pid: int
    parent: int
    session: int
    title: str
    cpu_s: float
    rss_mb: float


def processes() -> Iterator[Process]:
    """Yield all processes of this machine that still run."""
    for folder in _PROC.glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue  # it has ended meanwhile
        if fields[0] == "Z":
            continue
        yield Process(
            pid=int(folder.name),
            parent=int(fields[1]),
            session=int(fields[3]),
            title=title.decode(errors="replace").strip(),
            cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND,
            rss_mb=int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )


def descendants(of: int | None = None) -> list[Process]:
    """Return what the process `of` (None: this one) has started, and what those have."""
    by_parent: dict[int, list[Process]] = {}
    for process in processes():
        by_parent.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    parents = [os.getpid() if of is None else of]
    while parents:
        children = by_parent.get(parents.pop(), [])
        found += children
        parents += [child.pid for child in children]
    return found


def cpu_s_of(pid: int) -> float:
    """Return the processor time that a process has used; 0 if there is none."""
    return sum(process.cpu_s for process in processes() if process.pid == pid)
