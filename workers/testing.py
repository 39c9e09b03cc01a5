"""Test doubles that ship beside the real thing: a stream in memory, a clock, a predictor.

`MemoryStream` keeps the promises of `workers.stream.redis_stream.RedisStream` (one contract test
runs against both) with pending entries, fencing and reclaim, on a clock that a test moves by hand.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.data.planes import MODALITIES, SUBSETS, DepthKind, Planes
from model.data.quality import ANY_QUALITY, QualityLimits
from model.serving.predictor import Prediction
from model.serving.presentations import ErrorRates
from workers.settings import StreamSettings
from workers.stream.delivery import (
    Commit,
    CommitResult,
    Entry,
    EntryKey,
    PresentationStep,
    SeqUse,
)
from workers.wire import keys
from workers.wire.decision import Decision, unpack_decision
from workers.wire.presentation import PresentationVerdict, unpack_verdict

_RATES = ErrorRates(apcer=0.05, bpcer=0.05)


@dataclass(slots=True)
class ManualClock:
    """A server clock that moves only when told, as a stream sees it: set back, it stands still."""

    now_ms: int = 1_700_000_000_000
    behind_ms: int = 0

    def advance(self, by_ms: int) -> None:
        """Let `by_ms` pass."""
        self.now_ms += by_ms

    def step_back(self, by_ms: int) -> None:
        """Set the server's own clock back: nothing that goes by the stream's time may change."""
        self.behind_ms += by_ms


@dataclass(slots=True)
class _Pending:
    consumer: str
    deliveries: int


@dataclass(slots=True)
class _Presentation:
    last_ms: int
    total: float = 0.0
    num_frames: int = 0
    is_told: bool = False


@dataclass
class MemoryServer:
    """What a server holds: make one, and a `MemoryStream` a consumer."""

    settings: StreamSettings = field(default_factory=StreamSettings)
    clock: ManualClock = field(default_factory=ManualClock)
    entries: dict[int, dict[str, Mapping[bytes, bytes]]] = field(default_factory=dict)
    pending: dict[int, dict[str, _Pending]] = field(default_factory=dict)
    decisions: dict[int, list[Decision]] = field(default_factory=dict)
    dead: list[tuple[Decision, str]] = field(default_factory=list)
    signatures: dict[str, bytes] = field(default_factory=dict)
    seqs: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    verdicts: list[PresentationVerdict] = field(default_factory=list)
    presentations: dict[tuple[str, str, str], _Presentation] = field(default_factory=dict)
    refused: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
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
        self.groups: Sequence[Sequence[int]] = [tuple(range(server.settings.partitions))]
        self.is_up = True
        self.loses_reply = False  # of the next read or reclaim: what it found comes again
        self._to_read_again: dict[EntryKey, Entry] = {}
        self._in_hand: set[EntryKey] = set()

    async def join(self) -> None:
        """See `FrameStream.join`."""
        await self.beat()

    async def read(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.read`; waits for `add` for as long as the settings say."""
        if not (entries := self._take(group, slots)):
            self.server.arrived.clear()
            try:
                async with asyncio.timeout(self.server.settings.block_ms / 1000):
                    await self.server.arrived.wait()
            except TimeoutError:
                return []
            entries = self._take(group, slots)
        return self._replied(entries)

    async def reclaim(self, group: Sequence[int], slots: int) -> list[Entry]:
        """See `FrameStream.reclaim`."""
        return self._replied(self._take_over(group, slots))

    async def beat(self) -> None:
        """See `FrameStream.beat`."""
        self.server.beats[self.consumer] = self.server.clock.now_ms

    async def commit(
        self, commits: Sequence[Commit], on_wait: Callable[[], None] | None = None
    ) -> list[CommitResult]:
        """See `FrameStream.commit`."""
        return [self._commit(commit) for commit in commits]

    def release(self, entry: Entry, *, is_ours: bool) -> None:
        """See `FrameStream.release`."""
        self._in_hand.discard(entry.key)
        if is_ours:
            self._to_read_again[entry.key] = entry

    async def admit(self, use: SeqUse) -> CommitResult:
        """See `FrameStream.admit`."""
        return self._use(use) or CommitResult.COMMITTED

    def group_of(self, partition: int) -> Sequence[int]:
        """See `FrameStream.group_of`."""
        return self.groups[0]

    def is_available(self, group: Sequence[int]) -> bool:
        """See `FrameStream.is_available`."""
        return self.is_up

    def now_ms(self, partition: int) -> int:
        """See `FrameStream.now_ms`."""
        return self.server.clock.now_ms

    async def leave(self) -> None:
        """See `FrameStream.leave`."""
        self.server.beats.pop(self.consumer, None)

    def _replied(self, entries: list[Entry]) -> list[Entry]:
        if not self.loses_reply:
            new = [entry for entry in entries if entry.key not in self._in_hand]
            self._in_hand |= {entry.key for entry in new}
            return new
        self.loses_reply = False
        self._to_read_again |= {entry.key: entry for entry in entries}
        return []

    def _take_over(self, group: Sequence[int], slots: int) -> list[Entry]:
        found: list[Entry] = []
        for partition in group:
            for entry_id, row in self.server.pending[partition].items():
                if not self._is_silent(row.consumer):
                    continue
                if len(found) >= slots or (found and row.deliveries > 1):
                    return found
                row.consumer = self.consumer
                if row.deliveries >= self.server.settings.max_deliveries:
                    return [Entry(partition, entry_id, None, row.deliveries)]
                row.deliveries += 1
                fields = self.server.entries[partition][entry_id]
                found.append(Entry(partition, entry_id, fields, row.deliveries))
                if row.deliveries > 2:
                    return found
        return found

    def _is_mine(self, entry: Entry) -> bool:
        row = self.server.pending[entry.partition].get(entry.id)
        return row is not None and row.consumer == self.consumer

    def _take(self, group: Sequence[int], slots: int) -> list[Entry]:
        again = [entry for entry in self._to_read_again.values() if self._is_mine(entry)]
        taken = again[:slots]
        self._to_read_again = {entry.key: entry for entry in again[slots:]}
        for partition in group:
            pending = self.server.pending[partition]
            for entry_id, fields in self.server.entries[partition].items():
                if entry_id not in pending and len(taken) < slots:
                    pending[entry_id] = _Pending(self.consumer, 1)
                    taken.append(Entry(partition, entry_id, fields))
        return taken

    def _is_silent(self, consumer: str) -> bool:
        beat_ms = self.server.beats.get(consumer, 0)
        is_late = self.server.clock.now_ms - beat_ms > self.server.settings.lease_ms
        return consumer != self.consumer and is_late

    def _use(self, use: SeqUse) -> CommitResult | None:
        now_ms = self.server.clock.now_ms
        seqs = self.server.seqs.setdefault((use.camera_id, use.key_id), {})
        for seq in [seq for seq, until_ms in seqs.items() if until_ms < now_ms]:
            del seqs[seq]
        if use.seq in seqs:
            return CommitResult.REPLAYED
        if len(seqs) >= self.server.settings.max_seqs:
            return CommitResult.MEMORY_FULL
        seqs[use.seq] = use.until_ms
        return None

    def _commit(self, commit: Commit) -> CommitResult:
        entry, server = commit.entry, self.server
        row = server.pending[entry.partition].get(entry.id)
        if row is None or row.consumer != self.consumer:
            return CommitResult.NOT_OWNER
        if commit.deadline_ms is not None and server.clock.now_ms > commit.deadline_ms:
            return CommitResult.EXPIRED
        if commit.seq is not None and (refused := self._use(commit.seq)):
            return refused
        decision = unpack_decision(commit.decision)
        server.decisions[entry.partition].append(decision)
        server.signatures[entry.id] = commit.signature
        if commit.error:
            server.dead.append((decision, commit.error))
        if commit.presentation is not None and commit.camera_id is not None:
            self._weigh(commit.camera_id, commit.presentation)
        del server.pending[entry.partition][entry.id]
        del server.entries[entry.partition][entry.id]
        return CommitResult.COMMITTED

    def _weigh(self, camera_id: str, step: PresentationStep) -> None:
        limits, server, now_ms = self.server.settings.presentation, self.server, self.now_ms(0)
        who = (camera_id, step.key_id, step.presentation_id)
        state = server.presentations.get(who)
        if state is None or now_ms - state.last_ms > limits.silence_ms:
            state = server.presentations[who] = _Presentation(now_ms)
        state.last_ms = now_ms
        if state.is_told:
            return
        state.total += step.evidence
        state.num_frames += 1
        verdict = limits.test.verdict(state.total, state.num_frames)
        if verdict is None:
            return
        state.is_told = True
        # The number of those refused, and since when.
        refused, since_ms = server.refused.get(who[:2], [0, now_ms])
        if now_ms - since_ms > limits.refused_s * 1000:
            refused, since_ms = 0, now_ms
        which = 0
        if verdict == "undecided":
            which = 1
        elif verdict == "bona_fide" and refused >= limits.max_refused:
            which = 2
        if which or verdict == "attack":
            server.refused[who[:2]] = [refused + 1, since_ms]
        server.verdicts.append(unpack_verdict(step.verdicts[which][0]))


@dataclass
class ConstantPredictor:
    """A predictor that gives every frame the same score, and can be made to fail or to wait."""

    score: float = 0.9
    threshold: float = 0.5
    size: int = 112
    crop_margin: float = 0.2
    quality: QualityLimits = ANY_QUALITY
    depth_kind: DepthKind = "millimetres"
    max_batch: int = 16
    model_id: str = "constant@000000000000"
    modalities: tuple[str, ...] = MODALITIES
    rates: ErrorRates = _RATES
    failures: int = 0
    batches: list[int] = field(default_factory=list)

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the one threshold, for any modalities."""
        return self.threshold if modalities else None

    def error_rates(self, modalities: Sequence[str]) -> ErrorRates:
        """Return the same for any modalities."""
        return self.rates

    def predict(self, planes: Sequence[Planes]) -> Prediction:
        """Return the score for each frame; raise while `failures` are left."""
        self.batches.append(len(planes))
        if self.failures > 0:
            self.failures -= 1
            raise RuntimeError("made to fail")
        return Prediction(
            scores=np.full(len(planes), self.score, np.float32),
            evidence=np.zeros((len(planes), len(SUBSETS)), np.float32),
        )
