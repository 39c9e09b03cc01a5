"""The demo: a whole deployment on this machine, a fleet of cameras, and what becomes of it.

Three thirds: a steady load, a surge beyond what one replica is meant to carry, and the steady
load again, so that a replica is seen to come and go. Then everything is drained and accounted for.
"""

import asyncio
import json
import signal
import tempfile
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from deploy.local.server import embedded_server
from deploy.local.stack import (
    ServeConfig,
    free_port,
    load_config,
    replica_states,
    serve_application,
)
from loadtest.fleet import Fleet, Phase
from loadtest.ledger import percentile
from loadtest.samples import load_samples
from workers.client.door import follow
from workers.stream.backlog import NOTHING, Backlog, read_backlog, total
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.wire import keys
from workers.wire.decision import Decision
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 8
STEADY_FPS = 5.0
# Of what one replica is meant to carry: enough to need a second one, less than one could do.
_SURGE_FACTOR = 1.25
_ROUND_S = 30.0
_SETTLE_S = 20.0
_RECENT_S = 3.0
_REFRESH_S = 0.25
_NUM_SHOWN = 8


@dataclass
class _View:
    """What the table shows, gathered while the demo runs."""

    phase: str = "starting"
    replicas: dict[str, int] = field(default_factory=dict)
    replicas_max: int = 0
    backlog: Backlog = NOTHING
    model: str = ""
    recent: deque[tuple[float, float]] = field(default_factory=deque)
    last: deque[Decision] = field(default_factory=lambda: deque(maxlen=_NUM_SHOWN))


def run_demo(seconds: float, console: Console) -> dict[str, Any]:
    """Run the demo for `seconds` (0: until Ctrl-C) and return the account that it ends with."""
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="livegate-") as folder:
        key_file = Path(folder) / "camera_keys.json"
        camera_keys = {f"gate-{number}": new_key() for number in range(1, NUM_CAMERAS + 1)}
        write_keys(key_file, camera_keys)
        console.print("starting the embedded server, Ray and one replica ...")
        with embedded_server(Path(folder) / "server") as url:
            config = load_config(url=url, camera_keys=key_file, http_port=free_port(8000))
            with serve_application(config):
                demo = _Demo(config, camera_keys, console, started_s)
                return asyncio.run(demo.run(seconds))


class _Demo:
    def __init__(
        self,
        config: ServeConfig,
        camera_keys: dict[str, bytes],
        console: Console,
        started_s: float,
    ) -> None:
        self._config = config
        self._settings = config.settings.stream
        self._console = console
        self._started_s = started_s
        self._view = _View()
        self._stop = asyncio.Event()
        self._surge_fps = 0.0
        self._client: Servers = connect(self._settings.url, timeout_s=5.0)
        self._fleet = Fleet(self._client, camera_keys, load_samples(), self._settings.partitions)

    async def run(self, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as cleanup:
            cleanup.push_async_callback(self._client.aclose)
            watchers = [
                asyncio.create_task(each)
                for each in (self._read_decisions(), self._watch(), self._show())
            ]
            for watcher in watchers:
                cleanup.callback(watcher.cancel)
            play = asyncio.create_task(self._fleet.play(lambda: self._phases(seconds)))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([play, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not play.done():
                play.cancel()
                await asyncio.wait([play])
            await self._settle()
        return self._account()

    def _phases(self, seconds: float) -> Iterator[Phase]:
        third_s = (seconds or _ROUND_S) / 3
        while True:
            self._view.phase = "steady"
            yield Phase(third_s, STEADY_FPS)
            self._surge_fps = self._surge_fps or self._measured_surge_fps()
            self._view.phase = "surge"
            yield Phase(third_s, self._surge_fps / NUM_CAMERAS, is_surge=True)
            self._view.phase = "steady again"
            self._surge_fps = 0.0
            yield Phase(third_s, STEADY_FPS)
            if seconds:
                return

    def _measured_surge_fps(self) -> float:
        rate_fps = self._status().get("replica", {}).get("service_rate_fps", 0.0)
        carried_fps = (rate_fps or self._config.first_service_fps) * self._config.target_utilisation
        return max(carried_fps * _SURGE_FACTOR, 1.5 * STEADY_FPS * NUM_CAMERAS)

    def _status(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self._config.http_url}/v1/status", timeout=2) as answer:  # noqa: S310
                status: dict[str, Any] = json.load(answer)
                return status
        except OSError:
            return {}

    async def _read_decisions(self) -> None:
        partitions = range(self._settings.partitions)
        from_the_start = {keys.decisions(partition): "0" for partition in partitions}
        async for _, decision in follow(self._client, from_the_start):
            now_s = time.monotonic()
            ledger = self._fleet.ledger
            if not ledger.decided:
                self._console.print(f"first decision after {now_s - self._started_s:.1f} s")
            ledger.decide(decision, now_s)
            frame = ledger.published.get((decision.camera_id or "", decision.seq or 0))
            if frame is not None:
                self._view.recent.append((now_s, (now_s - frame.intended_at_s) * 1000))
            self._view.model = decision.model or self._view.model
            self._view.last.appendleft(decision)

    async def _watch(self) -> None:
        while True:
            self._view.replicas = await asyncio.to_thread(replica_states)
            running = self._view.replicas.get("RUNNING", 0)
            self._view.replicas_max = max(self._view.replicas_max, running)
            with suppress(*FAILURES):
                figures = await read_backlog(self._client, range(self._settings.partitions))
                self._view.backlog = total(figures)
            await asyncio.sleep(_REFRESH_S)

    async def _show(self) -> None:
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(2)
                self._console.print(_line(self._view), highlight=False, soft_wrap=True)
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                live.update(_table(self._view), refresh=True)
                await asyncio.sleep(_REFRESH_S)

    async def _settle(self) -> None:
        """Wait until each acknowledged frame has its decision."""
        self._view.phase = "draining"
        give_up_s = time.monotonic() + _SETTLE_S
        while self._fleet.ledger.num_open and time.monotonic() < give_up_s:
            await asyncio.sleep(0.05)

    def _account(self) -> dict[str, Any]:
        ledger = self._fleet.ledger
        outcomes = ledger.outcomes()
        steady_ms = ledger.latencies_ms(is_surge=False)
        return {
            "published": len(ledger.acknowledged),
            "decided": len(ledger.decided),
            "lost": ledger.num_open,
            "duplicates": len(ledger.duplicates),
            "bona_fide": outcomes["bona_fide"],
            "attack": outcomes["attack"],
            "no_decision": outcomes["no_decision"],
            "correct_ratio": round(ledger.correct_ratio(), 4),
            "p50_ms": percentile(steady_ms, 50),
            "p99_ms": percentile(steady_ms, 99),
            "p99_surge_ms": percentile(ledger.latencies_ms(is_surge=True), 99),
            "replicas_max": self._view.replicas_max,
            "model": self._view.model,
        }


def _recent(view: _View) -> tuple[float, float | None, float | None]:
    """Return decisions a second, and their p50 and p99 latency in ms, of the last few seconds."""
    since_s = time.monotonic() - _RECENT_S
    while view.recent and view.recent[0][0] < since_s:
        view.recent.popleft()
    latencies_ms = [latency_ms for _, latency_ms in view.recent]
    fps = len(latencies_ms) / _RECENT_S
    return fps, percentile(latencies_ms, 50), percentile(latencies_ms, 99)


def _replicas(view: _View) -> str:
    return ", ".join(f"{number} {state.lower()}" for state, number in view.replicas.items())


def _line(view: _View) -> str:
    fps, p50_ms, p99_ms = _recent(view)
    return (
        f"{view.phase:<13} {fps:6.1f} decisions/s  waiting {view.backlog.waiting:3d}  "
        f"pending {view.backlog.pending:3d}  p50 {p50_ms} ms  p99 {p99_ms} ms  "
        f"replicas: {_replicas(view)}"
    )


def _table(view: _View) -> Group:
    fps, p50_ms, p99_ms = _recent(view)
    load = Table("load", "decisions/s", "waiting", "pending", "p50 ms", "p99 ms", "replicas")
    load.add_row(
        view.phase,
        f"{fps:.1f}",
        str(view.backlog.waiting),
        str(view.backlog.pending),
        str(p50_ms),
        str(p99_ms),
        _replicas(view),
    )
    last = Table("camera", "presentation", "outcome", "score", "total ms", title="last decisions")
    style = {"bona_fide": "green", "attack": "red", "no_decision": "yellow"}
    for decision in list(view.last):
        last.add_row(
            decision.camera_id,
            decision.presentation_id,
            f"[{style[decision.outcome]}]{decision.reason or decision.outcome}",
            "-" if decision.score is None else f"{decision.score:.3f}",
            f"{decision.timing_ms.get('total', 0):.1f}",
        )
    return Group(load, last)
