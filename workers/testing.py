"""Test doubles that ship beside the real thing: a stream in memory, a clock, a predictor.

`MemoryStream` keeps the promises of `workers.stream.redis_stream.RedisStream` (one contract test
runs against both) with pending entries, fencing and reclaim, on a clock that a test moves by hand.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.data.planes import MODALITIES, Planes
from model.data.quality import ANY_QUALITY, QualityLimits
from model.serving.predictor import Prediction
from workers.settings import StreamSettings
from workers.stream.delivery import NO_PARTITION, Commit, Entry, Fate
from workers.wire import keys
from workers.wire.decision import Decision, unpack_decision

_WINDOW_BYTES = 128


@dataclass(slots=True)
class ManualClock:
    """A server clock that moves only when told."""

    now_ms: int = 1_700_000_000_000

    def advance(self, by_ms: int) -> None:
        """Let `by_ms` pass."""
        self.now_ms += by_ms


@dataclass(slots=True)
class _Pending:
    consumer: str
    delivered_at_ms: int
    deliveries: int


@dataclass
class MemoryServer:
    """What a server holds: make one, and a `MemoryStream` a consumer."""

    settings: StreamSettings = field(default_factory=StreamSettings)
    clock: ManualClock = field(default_factory=ManualClock)
    entries: dict[int, dict[str, Mapping[bytes, bytes]]] = field(default_factory=dict)
    pending: dict[int, dict[str, _Pending]] = field(default_factory=dict)
    decisions: dict[int, list[Decision]] = field(default_factory=dict)
    dead: list[tuple[Decision, str]] = field(default_factory=list)
    seen: dict[str, set[int]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _serial: int = 0

    def __post_init__(self) -> None:
        """Lay out the partitions."""
        for partition in range(self.settings.partitions):
            self.entries[partition] = {}
            self.pending[partition] = {}
            self.decisions[partition] = []

    def add(self, partition: int, fields: Mapping[bytes, bytes]) -> str:
        """Add an entry, as XADD does, and return its id."""
        self._serial += 1
        entry_id = f"{self.clock.now_ms}-{self._serial}"
        self.entries[partition][entry_id] = fields
        self.arrived.set()
        return entry_id

    def camera_decisions(self, camera_id: str) -> list[Decision]:
        """Return the decisions that a camera's door controller sees."""
        partition = keys.partition_of(camera_id, self.settings.partitions)
        return [each for each in self.decisions[partition] if each.camera_id == camera_id]


class MemoryStream:
    """A `workers.stream.delivery.FrameStream` over a `MemoryServer`."""

    def __init__(self, server: MemoryServer, consumer: str) -> None:
        """Join nothing yet."""
        self.server = server
        self.consumer = consumer
        self.lanes: Sequence[Sequence[int]] = [tuple(range(server.settings.partitions))]
        self.is_available = True

    async def join(self) -> None:
        """See `FrameStream.join`."""

    async def read(self, lane: Sequence[int], places: int) -> list[Entry]:
        """See `FrameStream.read`; waits for `add` for as long as the settings say."""
        if not (entries := self._take(lane, places)):
            self.server.arrived.clear()
            try:
                async with asyncio.timeout(self.server.settings.block_ms / 1000):
                    await self.server.arrived.wait()
            except TimeoutError:
                return []
            entries = self._take(lane, places)
        return entries

    async def reclaim(self) -> list[Entry]:
        """See `FrameStream.reclaim`."""
        now_ms, settings = self.server.clock.now_ms, self.server.settings
        for partition, pending in self.server.pending.items():
            for entry_id, row in list(pending.items()):
                if now_ms - row.delivered_at_ms < settings.lease_ms:
                    continue
                row.consumer, row.delivered_at_ms = self.consumer, now_ms
                if row.deliveries >= settings.max_deliveries:
                    return [Entry(partition, entry_id, None, row.deliveries)]
                row.deliveries += 1
                fields = self.server.entries[partition][entry_id]
                return [Entry(partition, entry_id, fields, row.deliveries)]
        return []

    async def hold(self, entries: Sequence[Entry]) -> set[str]:
        """See `FrameStream.hold`."""
        lost: set[str] = set()
        for entry in entries:
            row = self._owned(entry)
            if row is None:
                lost.add(entry.id)
            else:
                row.delivered_at_ms = self.server.clock.now_ms
        return lost

    async def commit(self, commits: Sequence[Commit]) -> list[Fate]:
        """See `FrameStream.commit`."""
        return [self._commit(commit) for commit in commits]

    def now_ms(self) -> int:
        """See `FrameStream.now_ms`."""
        return self.server.clock.now_ms

    async def leave(self) -> None:
        """See `FrameStream.leave`."""

    def _take(self, lane: Sequence[int], places: int) -> list[Entry]:
        taken: list[Entry] = []
        for partition in lane:
            pending = self.server.pending[partition]
            for entry_id, fields in self.server.entries[partition].items():
                if entry_id not in pending and len(taken) < places:
                    pending[entry_id] = _Pending(self.consumer, self.server.clock.now_ms, 1)
                    taken.append(Entry(partition, entry_id, fields))
        return taken

    def _owned(self, entry: Entry) -> _Pending | None:
        row = self.server.pending[entry.partition].get(entry.id)
        return row if row is not None and row.consumer == self.consumer else None

    def _commit(self, commit: Commit) -> Fate:
        entry, server = commit.entry, self.server
        if entry.partition != NO_PARTITION and self._owned(entry) is None:
            return Fate.NOT_OWNER
        if commit.deadline_ms is not None and server.clock.now_ms > commit.deadline_ms:
            return Fate.EXPIRED
        if commit.seq is not None and commit.camera_id is not None:
            seen = server.seen.setdefault(commit.camera_id, set())
            if commit.seq in seen or (seen and commit.seq // 8 <= max(seen) // 8 - _WINDOW_BYTES):
                return Fate.REPLAYED
            seen.add(commit.seq)
        if entry.partition != NO_PARTITION:
            decision = unpack_decision(commit.decision)
            server.decisions[entry.partition].append(decision)
            if commit.error:
                server.dead.append((decision, commit.error))
            del server.pending[entry.partition][entry.id]
            del server.entries[entry.partition][entry.id]
        return Fate.COMMITTED


@dataclass
class ConstantPredictor:
    """A predictor that gives every frame the same score, and can be made to fail or to wait."""

    score: float = 0.9
    threshold: float = 0.5
    size: int = 112
    crop_margin: float = 0.2
    quality: QualityLimits = ANY_QUALITY
    max_batch: int = 16
    model_id: str = "constant@000000000000"
    modalities: tuple[str, ...] = MODALITIES
    failures: int = 0
    batches: list[int] = field(default_factory=list)

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the one threshold, for any modalities."""
        return self.threshold if modalities else None

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Return the score for each frame; raise while `failures` are left."""
        self.batches.append(len(planes))
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("made to fail")
        return Prediction(
            scores=np.full(len(planes), self.score, np.float32),
            shares=np.full((len(planes), len(MODALITIES)), 1 / len(MODALITIES), np.float32),
        )
