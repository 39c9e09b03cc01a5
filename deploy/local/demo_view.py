"""What the demo shows while it runs: a live table, or lines where there is no terminal.

It is drawn by a thread of its own, from snapshots: a terminal that is slow, or stopped with
Ctrl-S, must not hold up the cameras' schedule.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from loadtest.histograms import percentile
from workers.stream.backlog import NOTHING, Backlog
from workers.wire.decision import Decision

_RECENT_S = 3.0
_REFRESH_S = 0.25
_LINE_S = 2.0
_CLOSE_S = 2.0
_NUM_SHOWN = 8
_STYLE = {"bona_fide": "green", "attack": "red", "no_decision": "yellow"}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is shown at one time.

    Attributes:
        phase: of the load.
        fps: decisions a second, of the last few seconds, with their latency:
        p50_ms: median; None: there were none.
        p99_ms: 99th percentile.
        backlog: of all partitions.
        replicas: by state.
        last: decisions, the newest first.
    """

    phase: str
    fps: float
    p50_ms: float | None
    p99_ms: float | None
    backlog: Backlog
    replicas: dict[str, int]
    last: tuple[Decision, ...]


@dataclass
class View:
    """What is gathered for it, in the event loop."""

    phase: str = "starting"
    replicas: dict[str, int] = field(default_factory=dict)
    replicas_max: int = 0
    backlog: Backlog = NOTHING
    _recent: deque[tuple[float, float]] = field(default_factory=deque)
    _last: deque[Decision] = field(default_factory=lambda: deque(maxlen=_NUM_SHOWN))

    def decided(self, decision: Decision, latency_ms: float | None) -> None:
        """Take in a decision, and how long it took if that is known."""
        self._last.appendleft(decision)
        if latency_ms is not None:
            self._recent.append((time.monotonic(), latency_ms))

    def scaled(self, replicas: dict[str, int]) -> None:
        """Take in the number of replicas in each state."""
        self.replicas = replicas
        self.replicas_max = max(self.replicas_max, replicas.get("RUNNING", 0))

    def snapshot(self) -> Snapshot:
        """Return what is to be shown now."""
        since_s = time.monotonic() - _RECENT_S
        while self._recent and self._recent[0][0] < since_s:
            self._recent.popleft()
        latencies_ms = [latency_ms for _, latency_ms in self._recent]
        return Snapshot(
            self.phase,
            len(latencies_ms) / _RECENT_S,
            percentile(latencies_ms, 50),
            percentile(latencies_ms, 99),
            self.backlog,
            self.replicas,
            tuple(self._last),
        )


class Screen:
    """Shows the newest snapshot, from its own thread."""

    def __init__(self, console: Console) -> None:
        """Show nothing yet; `shown` does."""
        self._console = console
        self._newest: Snapshot | None = None
        self._notes: deque[str] = deque()
        self._is_over = threading.Event()

    def show(self, snapshot: Snapshot) -> None:
        """Show this from now on; returns at once."""
        self._newest = snapshot

    def note(self, line: str) -> None:
        """Print a line above; returns at once."""
        self._notes.append(line)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs."""
        draw = self._draw_table if self._console.is_terminal else self._draw_lines
        thread = threading.Thread(target=self._guarded, args=(draw,), name="screen", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join(_CLOSE_S)  # a terminal that takes nothing is left alone

    def _guarded(self, draw: Callable[[], None]) -> None:
        with suppress(OSError):  # the terminal was closed
            draw()

    def _draw_lines(self) -> None:
        next_s = time.monotonic() + _LINE_S
        while not self._is_over.wait(_REFRESH_S):
            self._print_notes()
            if time.monotonic() >= next_s and self._newest is not None:
                next_s += _LINE_S
                self._console.print(line_of(self._newest), highlight=False, soft_wrap=True)
        self._print_notes()

    def _draw_table(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            while not self._is_over.wait(_REFRESH_S):
                self._print_notes()
                if self._newest is not None:
                    live.update(table_of(self._newest), refresh=True)
        self._print_notes()

    def _print_notes(self) -> None:
        while self._notes:
            self._console.print(self._notes.popleft(), highlight=False)


def line_of(shown: Snapshot) -> str:
    """Return a snapshot as one line."""
    return (
        f"{shown.phase:<13} {shown.fps:6.1f} decisions/s  waiting {shown.backlog.waiting:3d}  "
        f"pending {shown.backlog.pending:3d}  p50 {shown.p50_ms} ms  p99 {shown.p99_ms} ms  "
        f"replicas: {_replicas(shown)}"
    )


def table_of(shown: Snapshot) -> Group:
    """Return a snapshot as two tables: the load, and the last decisions."""
    load = Table("load", "decisions/s", "waiting", "pending", "p50 ms", "p99 ms", "replicas")
    load.add_row(
        shown.phase,
        f"{shown.fps:.1f}",
        str(shown.backlog.waiting),
        str(shown.backlog.pending),
        str(shown.p50_ms),
        str(shown.p99_ms),
        _replicas(shown),
    )
    last = Table("camera", "presentation", "outcome", "score", "total ms", title="last decisions")
    for decision in shown.last:
        last.add_row(
            decision.camera_id,
            decision.presentation_id,
            f"[{_STYLE[decision.outcome]}]{decision.reason or decision.outcome}",
            "-" if decision.score is None else f"{decision.score:.3f}",
            f"{decision.timing_ms.get('total', 0):.1f}",
        )
    return Group(load, last)


def _replicas(shown: Snapshot) -> str:
    return ", ".join(f"{number} {state.lower()}" for state, number in shown.replicas.items())
