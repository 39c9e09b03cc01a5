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
from loadtest.account import account_of, wait_until_decided
from loadtest.fleet import Fleet, Phase
from loadtest.samples import load_samples
from workers.client.door import follow
from workers.stream.backlog import read_backlog, total
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.wire import keys
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 8
STEADY_FPS = 5.0
# Of what one replica is meant to carry: enough to need a second one, less than one could do.
_SURGE_FACTOR = 1.25
_ROUND_S = 30.0
_REFRESH_S = 0.25
_LOOK_S = 1.0


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
        self._started_s = started_s
        self._view = View()
        self._screen = Screen(console)
        self._model = ""
        self._service_fps = config.settings.scaling.first_service_fps
        self._stop = asyncio.Event()
        self._surge_fps = 0.0
        self._client: Servers = connect(self._settings.url, timeout_s=5.0)
        self._fleet = Fleet(self._client, camera_keys, load_samples(), self._settings.partitions)

    async def run(self, seconds: float) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as cleanup:
            cleanup.push_async_callback(self._client.aclose)
            cleanup.enter_context(self._screen.shown())
            watchers = [
                asyncio.create_task(each)
                for each in (self._read_decisions(), self._watch(), self._show())
            ]
            cleanup.push_async_callback(_end, watchers)
            play = asyncio.create_task(self._fleet.play(lambda: self._phases(seconds)))
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([play, stopped, *watchers], return_when=asyncio.FIRST_COMPLETED)
            for watcher in watchers:
                if watcher.done():
                    watcher.result()  # raises what ended it: without it nothing would be counted
            if not play.done():
                play.cancel()
                await asyncio.wait([play])
            stopped.cancel()
            self._view.phase = "draining"
            await wait_until_decided(self._fleet.ledger)
        if not play.cancelled():
            play.result()
        account = account_of(self._fleet.ledger)
        return {**account, "replicas_max": self._view.replicas_max, "model": self._model}

    def _phases(self, seconds: float) -> Iterator[Phase]:
        third_s = (seconds or _ROUND_S) / 3
        while True:
            self._view.phase = "steady"
            yield Phase(third_s, STEADY_FPS)
            # All cameras alike: the first that gets here says how much.
            self._surge_fps = self._surge_fps or self._surge()
            self._view.phase = "surge"
            yield Phase(third_s, self._surge_fps / NUM_CAMERAS, is_surge=True)
            self._view.phase = "steady again"
            self._surge_fps = 0.0
            yield Phase(third_s, STEADY_FPS)
            if seconds:
                return

    def _surge(self) -> float:
        carried_fps = self._service_fps * self._config.settings.scaling.target_utilisation
        return max(carried_fps * _SURGE_FACTOR, 1.5 * STEADY_FPS * NUM_CAMERAS)

    async def _read_decisions(self) -> None:
        partitions = range(self._settings.partitions)
        from_the_start = {keys.decisions(partition): "0" for partition in partitions}
        async for _, decision in follow(self._client, from_the_start):
            now_s = time.monotonic()
            ledger = self._fleet.ledger
            if not ledger.decided:
                self._screen.note(f"first decision after {now_s - self._started_s:.1f} s")
            ledger.decide(decision, now_s)
            frame = ledger.published.get((decision.camera_id or "", decision.seq or 0))
            latency_ms = None if frame is None else (now_s - frame.intended_at_s) * 1000
            self._view.decided(decision, latency_ms)
            self._model = decision.model or self._model

    async def _watch(self) -> None:
        """Look at replicas and backlog; whatever is slow runs beside the schedule."""
        partitions = range(self._settings.partitions)
        looked_s = 0.0
        while True:
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


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until they end: redis-py may turn a cancellation into a failed command."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.5)
