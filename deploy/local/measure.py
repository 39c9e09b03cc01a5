"""Memory of a replica and of the server under load, and how fast decisions resume after a restart.

    python -m deploy.local.measure [SECONDS]

ends with one JSON line, and with exit status 1 if a frame was lost or decided twice. Speed and
memory are measured here and told in EXPERIMENTS.md, not asserted in tests: machines are shared and
noisy.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from deploy.local.config import load_config
from deploy.local.ports import free_port
from deploy.local.processes import descendants
from deploy.local.server import EmbeddedServer, embedded_server
from deploy.local.stack import serve_application
from loadtest.account import account_of, wait_until_decided
from loadtest.fleet import Fleet, Phase
from loadtest.samples import load_samples
from workers.client.door import follow
from workers.stream.connection import Servers, connect
from workers.stream.failure import FAILURES
from workers.wire import keys
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 8
FPS = 5.0
NUM_RESTARTS = 5
_RESTART_FPS = 10.0
_RESUME_S = 30.0


def main() -> None:
    """Measure, and print what was seen."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory(prefix="livegate-") as name:
        folder = Path(name)
        camera_keys = {f"gate-{number}": new_key() for number in range(NUM_CAMERAS)}
        write_keys(folder / "keys.json", camera_keys)
        with embedded_server(folder / "server", free_port()) as server:
            config = load_config().with_redis(server.url).with_http_port(free_port())
            config = config.with_args(camera_keys=folder / "keys.json")
            settings = config.settings.stream
            with serve_application(config):
                client = connect(settings.url, timeout_s=5.0)
                fleet = Fleet(client, camera_keys, load_samples(), settings.partitions)
                seen = asyncio.run(_measure(server, client, fleet, settings.partitions, seconds))
    print(json.dumps(seen))  # noqa: T201 - the result
    if seen["lost"] or seen["duplicates"]:
        sys.exit(1)


async def _measure(
    server: EmbeddedServer, client: Servers, fleet: Fleet, partitions: int, seconds: float
) -> dict[str, object]:
    reading = asyncio.create_task(_read(client, fleet, partitions))
    server_mb: list[float] = []
    replica_mb: list[float] = []
    playing = asyncio.create_task(fleet.play(lambda: iter([Phase(seconds, FPS)])))
    while not playing.done():
        await asyncio.sleep(1)
        try:
            server_mb.append((await client.execute("", "INFO", "memory"))["used_memory"] / 2**20)
        except FAILURES:
            continue  # too busy to say
        replica_mb.append(max(_replica_rss_mb(), default=0.0))
    await playing
    resumed_ms = await _restarts(server, fleet)
    await wait_until_decided(fleet.ledger)
    reading.cancel()
    await client.aclose()
    third = max(1, len(server_mb) // 3)
    return {
        **account_of(fleet.ledger),
        "replica_rss_mb": round(max(replica_mb, default=0.0), 1),
        "server_mb_first_third": _median(server_mb[:third]),
        "server_mb_last_third": _median(server_mb[-third:]),
        "resumed_ms": [None if each is None else round(each) for each in resumed_ms],
    }


async def _restarts(server: EmbeddedServer, fleet: Fleet) -> list[float | None]:
    """Return, for each SIGKILL of the server, ms from when it listens to the next decision.

    None: there was none within 30 s.
    """
    phase = Phase(4.0 * NUM_RESTARTS, _RESTART_FPS)
    playing = asyncio.create_task(fleet.play(lambda: iter([phase])))
    resumed_ms: list[float | None] = []
    for _ in range(NUM_RESTARTS):
        await asyncio.sleep(2)
        server.kill()
        before = len(fleet.ledger.decided)
        await asyncio.to_thread(server.start)
        listens_s = time.monotonic()
        while len(fleet.ledger.decided) == before and time.monotonic() < listens_s + _RESUME_S:
            await asyncio.sleep(0.002)
        has_resumed = len(fleet.ledger.decided) > before
        resumed_ms.append((time.monotonic() - listens_s) * 1000 if has_resumed else None)
    await playing
    return resumed_ms


async def _read(client: Servers, fleet: Fleet, partitions: int) -> None:
    after = {keys.decisions(partition): "0" for partition in range(partitions)}
    async for _, decision in follow(client, after):
        fleet.ledger.decide(decision, time.monotonic())


def _replica_rss_mb() -> list[float]:
    """Return the resident memory of each replica of this deployment, MiB."""
    return [
        process.rss_mb
        for process in descendants()
        if process.title.startswith("ray::ServeReplica:")
    ]


def _median(values: list[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


if __name__ == "__main__":
    main()
