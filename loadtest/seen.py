"""What a sender sees in a second, until it tells its parent."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loadtest.book import Book
from loadtest.task import STAGES, Tick

_PROC = Path("/proc")


@dataclass(slots=True)
class Seen:
    """Figures of one second; the names are those of `Tick`."""

    latency_ms: list[float] = field(default_factory=list)
    steady_ms: list[float] = field(default_factory=list)
    lateness_ms: list[float] = field(default_factory=list)
    ack_ms: list[float] = field(default_factory=list)
    added_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=lambda: {n: [] for n in STAGES})
    replicas: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    errors: Counter[str] = field(default_factory=Counter)

    def tick(self, book: Book, at_s: float, cpu_s: float, waiting: int, *, is_last: bool) -> Tick:
        """Return all of it, and where the account stands."""
        return Tick(
            at_s=at_s,
            is_last=is_last,
            counts=book.counts,
            latency_ms=np.array(self.latency_ms, np.float32),
            steady_ms=np.array(self.steady_ms, np.float32),
            lateness_ms=np.array(self.lateness_ms, np.float32),
            ack_ms=np.array(self.ack_ms, np.float32),
            added_ms=np.array(self.added_ms, np.float32),
            stages_ms={name: np.array(each, np.float32) for name, each in self.stages_ms.items()},
            replicas=self.replicas,
            models=self.models,
            errors=self.errors,
            waiting=waiting,
            open=book.num_open,
            lost=len(book.lost()) if is_last else 0,
            cpu_s=cpu_s,
            rss_mb=rss_mb(os.getpid()),
            book_bytes=book.num_bytes,
        )


def rss_mb(pid: int) -> float:
    """Return the memory that a process holds, MiB; 0 where that can't be seen."""
    try:
        pages = int((_PROC / str(pid) / "statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
