"""A real run to compare with: elastic replicas beside the senders, and what their server holds."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from loadtest.errors import LoadtestError
from loadtest.result import Result
from loadtest.run import run_scenario
from loadtest.scenario.scenario import Scenario
from loadtest.target import Target
from loadtest.validation.messages import Asked, ElasticSettings
from workers.settings import ScalingSettings, StreamSettings, WorkerSettings


class ValidationError(LoadtestError):
    """There is nothing to compare with: the run on this machine has failed."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where real runs are made.

    Attributes:
        url: of an empty server.
        key_file: of the cameras; more are added.
        batch_ms: of the network, by batch size, from 1.
        cold_s: that a replica takes to start.
        partitions: of the stream.
        deadline_ms: of the deployment.
    """

    url: str
    key_file: Path
    batch_ms: tuple[float, ...] = tuple(120.0 + 60.0 * size for size in range(1, 9))
    cold_s: float = 5.0
    partitions: int = 4
    deadline_ms: int = 30_000

    @property
    def service_fps(self) -> float:
        """Frames a second of one replica, at its best batch size."""
        return max(1000 * size / each for size, each in enumerate(self.batch_ms, 1))

    def elastic(self, scaling: ScalingSettings, start: int) -> ElasticSettings:
        """Return what to run, with so many replicas to begin with."""
        settings = WorkerSettings(
            stream=StreamSettings(url=self.url, partitions=self.partitions),
            scaling=scaling,
            camera_keys=self.key_file,
            max_batch=len(self.batch_ms),
            deadline_ms=self.deadline_ms,
        )
        return ElasticSettings(
            settings=settings, batch_ms=self.batch_ms, cold_s=self.cold_s, start=start
        )

    def target(self) -> Target:
        """Return the deployment that senders send to."""
        return Target(
            self.url, self.partitions, key_file=self.key_file, may_add_keys=True,
            what="elastic replicas of one process, without Ray",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RealRun:
    """What was seen.

    Attributes:
        asked: each time that the policy was.
        start_s: of the load, monotonic.
        result: of the load test.
    """

    result: Result
    asked: list[Asked]
    start_s: float


async def real_run(
    bench: Bench, scenario: Scenario, scaling: ScalingSettings, start: int
) -> RealRun:
    """Play a scenario against elastic replicas.

    Raises:
        ValidationError: frames were lost, or the account does not agree with the server's.
    """
    target = bench.target()
    target.camera_keys(scenario.fleet)  # before the replicas look for them
    starts_s: list[float] = []
    with _replicas(bench.elastic(scaling, start)) as asked:
        result = await run_scenario(
            scenario, target, lambda told: starts_s.append(time.monotonic() - told.second.at_s)
        )
    wrong = [each for each in result.checks if not each.holds and each.name not in _OF_MACHINE]
    if wrong or result.account["lost"]:
        told = "; ".join(f"{each.name}: {each.detail}" for each in wrong)
        raise ValidationError(f"{result.account['lost']} frames lost. {told}")
    return RealRun(result, asked, min(starts_s))


# The machine's doing: the comparison says by itself whether it matters.
_OF_MACHINE = {"frames were sent when they were due", "the senders had processor time to spare"}


@contextmanager
def _replicas(given: ElasticSettings) -> Iterator[list[Asked]]:
    command = [sys.executable, "-m", "loadtest.validation.elastic", given.model_dump_json()]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - as it was asked for
        lines = process.stdout
        asked = [_asked(lines.readline())]  # they are there

        def read() -> None:
            asked.extend(map(_asked, lines))

        reader = threading.Thread(target=read, name="elastic", daemon=True)
        reader.start()
        try:
            yield asked
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            reader.join()


def _asked(line: str) -> Asked:
    if not line:
        raise ValidationError("the replicas have ended: see what they printed")
    return Asked(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a server holds.

    Attributes:
        used_bytes: as it says itself.
        counts: items, by what they are.
    """

    used_bytes: int
    counts: dict[str, float]


def kept_on(url: str) -> Kept:
    """Return what a server holds: decisions, and seqs that are remembered."""
    counts: Counter[str] = Counter()
    with redis.Redis.from_url(url) as client:
        for name in client.scan_iter("livegate:*", count=1000):
            text = name.decode()
            if ":decisions:" in text:
                counts["decisions of the cameras"] += client.xlen(name)
            elif text.endswith(":decisions"):
                counts["decisions of the partitions"] += client.xlen(name)
            elif ":seen:" in text:
                counts["seqs"] += client.zcard(name)
        used = int(client.info("memory")["used_memory"])
    return Kept(used, {name: float(count) for name, count in counts.items()})
