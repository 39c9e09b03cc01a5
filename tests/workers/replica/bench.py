"""A server in memory, two cameras with keys, and any number of replicas."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.workers import frames
from workers.replica.pipeline import Pipeline
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.testing import ConstantPredictor, MemoryServer, MemoryStream
from workers.wire.decision import Decision
from workers.wire.keyring import Keyring
from workers.wire.keys import partition_of
from workers.wire.signing import AcceptUnsigned


class Bench:
    """A server in memory, two cameras with keys, and any number of replicas."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        key_file = folder / "keys.json"
        key_file.write_text(json.dumps({"gate-1": frames.KEY.hex(), "gate-2": frames.KEY.hex()}))
        stream = StreamSettings(partitions=2, lease_ms=200, block_ms=10)
        if not settings.get("allow_unsigned"):
            settings["camera_keys"] = key_file
        self.settings = WorkerSettings(stream=stream, max_batch=4, **settings)
        self.server = MemoryServer(stream)
        self.verifier = (
            Keyring(key_file) if self.settings.camera_keys is not None else AcceptUnsigned()
        )
        self.telemetry = Telemetry(NoMetrics(), 1)

    def replica(self, name: str = "replica", predictor: Any = None) -> Pipeline:
        return Pipeline(
            stream=MemoryStream(self.server, name),
            predictor=predictor or ConstantPredictor(max_batch=4),
            verifier=self.verifier,
            telemetry=self.telemetry,
            settings=self.settings,
            replica=name,
        )

    def add(self, frame: Any = None, *, camera_id: str = "gate-1", **changes: Any) -> str:
        if frame is None:
            seq = changes.pop("seq", len(self.all_ids) + 1)
            changes = {"captured_at_ms": self.server.clock.now_ms, **changes}
            frame = frames.frame(camera_id, seq, **changes)
        fields = frame if isinstance(frame, dict) else frames.fields(frame)
        entry_id = self.server.add(partition_of(camera_id, 2), fields)
        self.all_ids.append(entry_id)
        return entry_id

    @property
    def all_ids(self) -> list[str]:
        if not hasattr(self, "_ids"):
            self._ids: list[str] = []
        return self._ids

    @property
    def decisions(self) -> list[Decision]:
        return [decision for each in self.server.decisions.values() for decision in each]

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self.server.entries.values()))


@asynccontextmanager
async def running(*replicas: Pipeline) -> AsyncIterator[None]:
    """Let replicas work; leave once all they were given is committed."""
    tasks = [asyncio.create_task(replica.run()) for replica in replicas]
    try:
        yield
    finally:
        for replica in replicas:
            replica.drain()
        await asyncio.gather(*tasks)


async def decide_all(bench: Bench, *replicas: Pipeline) -> list[Decision]:
    """Run replicas until nothing waits any more."""
    async with asyncio.timeout(20), running(*(replicas or (bench.replica(),))):
        while bench.num_waiting:
            await asyncio.sleep(0)
    return bench.decisions
