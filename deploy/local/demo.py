"""The demo: a whole deployment on this machine, a fleet of cameras, and what becomes of it.

Three thirds: a steady load, a surge beyond what one replica is meant to carry, and the steady
load again, so that a replica is seen to come and go. Then everything is drained and accounted for.
"""

import asyncio
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.local.config import ServeConfig, load_config
from deploy.local.demo_view import Screen, View
from deploy.local.ports import free_port
from deploy.local.progress import tell_on
from deploy.local.server import embedded_server
from deploy.local.signals import interrupt_on_stop, stop_signals
from deploy.local.stack import DeployFailed, replica_states, serve_application
from loadtest.account import account_in_brief
from loadtest.fleet import Fleet
from loadtest.histograms import Distribution
from loadtest.scenario.arrivals import even_times
from loadtest.target import Target
from loadtest.task import lone_task
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.wire.decision import unpack_decision
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 8
STEADY_FPS = 5.0
# Of what one replica is meant to carry: enough to need a second one, less than one could do.
_SURGE_FACTOR = 1.25
_ROUND_S = 30.0
_REFRESH_S = 0.25
_LOOK_S = 1.0
_PATIENCE_S = 60.0


def run_demo(seconds: float, console: Console) -> dict[str, Any]:
    """Run the demo for `seconds` (0: until Ctrl-C) and return the account that it ends with."""
    interrupt_on_stop()
    started_s = time.monotonic()
    tell = tell_on(console)
    with tempfile.TemporaryDirectory(prefix="livegate-") as folder:
        key_file = Path(folder) / "camera_keys.json"
        camera_keys = {f"gate-{number}": new_key() for number in range(1, NUM_CAMERAS + 1)}
        write_keys(key_file, camera_keys)
        with embedded_server(Path(folder) / "server", free_port(), tell=tell) as server:
            config = load_config().with_redis(server.url).with_args(camera_keys=key_file)
            # Any free port: a demo is no service that somebody looks for.
            config = config.with_http_port(free_port())
            with serve_application(config, tell):
                tell(f"console: {config.http_url}/console/")
                demo = _Demo(config, key_file, console, started_s)
                return asyncio.run(demo.run(seconds))


class _Demo:
    def __init__(
        self, config: ServeConfig, key_file: Path, console: Console, started_s: float
    ) -> None:
        self._config = config
        self._settings = config.settings.stream
        self._started_s = started_s
        self._view = View()
        self._screen = Screen(console)
        self._model = ""
        self._service_fps = config.settings.scaling.first_service_fps
        self._client: Servers = connect(self._settings.url, timeout_s=5.0)
        target = Target(self._settings.url, self._settings.partitions, key_file=key_file)
        deadline_s = config.settings.deadline_ms / 1000
        task = lone_task(target, NUM_CAMERAS, deadline_s, stay_s=12 / STEADY_FPS)
        self._fleet = Fleet(task, self._decided)
        self._surges_s: list[tuple[float, float]] = []
        self._steady, self._surge, self._lateness = (Distribution() for _ in range(3))

    async def run(self, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._fleet.stop)
        async with AsyncExitStack() as cleanup:
            cleanup.push_async_callback(self._client.aclose)
            cleanup.enter_context(self._screen.shown())
            await cleanup.enter_async_context(self._fleet)
            play = asyncio.create_task(self._play(seconds))
            tasks = [play, *(asyncio.create_task(each) for each in (self._watch(), self._show()))]
            cleanup.push_async_callback(_end, tasks)
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # raises what ended it
        self._lateness.add(self._fleet.take().lateness_ms)
        account = account_in_brief(self._fleet.book, self._steady, self._surge, self._lateness)
        return {**account, "replicas_max": self._view.replicas_max, "model": self._model}

    async def _play(self, seconds: float) -> None:
        self._fleet.start_at(time.monotonic())
        await self._fleet.play(even_times(self._phases(seconds)), from_s=0.0)
        self._view.phase = "draining"
        await self._fleet.settle(_PATIENCE_S)

    def _phases(self, seconds: float) -> Iterator[tuple[float, float]]:
        third_s = (seconds or _ROUND_S) / 3
        steady = (third_s, STEADY_FPS * NUM_CAMERAS)
        begin_s = 0.0
        while True:
            self._view.phase = "steady"
            yield steady
            self._view.phase = "surge"
            self._surges_s.append((begin_s + third_s, begin_s + 2 * third_s))
            yield third_s, self._surge_fps()
            self._view.phase = "steady again"
            yield steady
            begin_s += 3 * third_s
            if seconds:
                return

    def _surge_fps(self) -> float:
        carried_fps = self._service_fps * self._config.settings.scaling.target_utilisation
        return max(carried_fps * _SURGE_FACTOR, 1.5 * STEADY_FPS * NUM_CAMERAS)

    def _decided(self, packed: bytes, due_s: float | None, latency_s: float | None) -> None:
        decision = unpack_decision(packed)
        latency_ms = None if latency_s is None else latency_s * 1000
        if not self._model:
            self._screen.note(f"first decision after {time.monotonic() - self._started_s:.1f} s")
        self._model = decision.model or self._model
        self._view.decided(decision, latency_ms)
        if due_s is not None and latency_ms is not None:
            is_surge = any(begin_s <= due_s < end_s for begin_s, end_s in self._surges_s)
            (self._surge if is_surge else self._steady).add([latency_ms])

    async def _watch(self) -> None:
        """Look at replicas and backlog; whatever is slow runs beside the schedule."""
        partitions = range(self._settings.partitions)
        looked_s = 0.0
        while True:
            self._lateness.add(self._fleet.take().lateness_ms)
            with suppress(*FAILURES):
                self._view.backlog = total(await read_backlog(self._client, partitions))
            with suppress(DeployFailed):
                self._view.scaled(await asyncio.to_thread(replica_states, self._config.application))
            if time.monotonic() - looked_s >= _LOOK_S:
                looked_s = time.monotonic()
                self._service_fps = await asyncio.to_thread(self._reported) or self._service_fps
            await asyncio.sleep(_REFRESH_S)

    def _reported(self) -> float:
        """Return the service rate that a replica has measured; 0 if none says so."""
        url = f"{self._config.http_url}/v1/status"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own URL
                return float(json.load(answer)["replica"]["service_rate_fps"])
        except (OSError, ValueError, KeyError):
            return 0.0

    async def _show(self) -> None:
        while True:
            self._screen.show(self._view.snapshot())
            await asyncio.sleep(_REFRESH_S)


async def _end(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel until they end: redis-py may turn a cancellation into a failed command."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.5)
