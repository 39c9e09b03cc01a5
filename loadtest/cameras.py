"""The cameras of one sender: who is before each, what it shows next, and what is wrong with it."""

import heapq
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from loadtest.book import Book
from loadtest.counts import Kind
from loadtest.gallery import Gallery, Shown, open_gallery
from loadtest.packets import CameraPackets
from loadtest.scenario.faults import FRAME_FAULTS, ClockSkew, FrameFault, Oversize
from loadtest.scenario.scenario import FleetSettings
from loadtest.task import Task
from workers.wire import keys
from workers.wire.signing import new_key, sign

_SLOTS = 16  # a camera of ordinary rate in one round of the order in which cameras send
_REPLAY_S = (0.5, 2.0)
_KINDS = {
    "send corrupt frames": Kind.CORRUPT,
    "send cut frames": Kind.CUT,
    "send duplicate frames": Kind.DUPLICATE,
    "replay frames": Kind.REPLAY,
    "leave out planes": Kind.RGB_ONLY,
    "forge signatures": Kind.FORGED,
    "send oversize frames": Kind.OVERSIZE,
    "set clocks wrong": Kind.SKEWED,
}
FrameTrouble = FrameFault | Oversize | ClockSkew


@dataclass(slots=True)
class Due:
    """A frame that is due: all that it takes to make it, however late it is sent.

    Attributes:
        number: in the book.
        camera: who sends it.
        still: what it shows.
        seq: its seq.
        captured_at_ms: its stamp, Unix ms.
        presentation: who is before the camera.
        kind: what it is.
        due_s: when it is due, s since the start.
        size: bytes of an oversize frame.
    """

    number: int
    camera: "SimulatedCamera"
    still: int
    seq: int
    captured_at_ms: int
    presentation: bytes
    kind: Kind
    due_s: float
    size: int = 0

    def fields(self) -> tuple[bytes, bytes, bytes]:
        """Return the two halves of `f`, and `s`."""
        packets, kind = self.camera.packets, self.kind
        if kind == Kind.FORGED:
            packets = self.camera.forger
        elif kind in (Kind.CORRUPT, Kind.CUT, Kind.OVERSIZE):
            return self._broken()
        rgb_only = kind == Kind.RGB_ONLY
        return packets.make(
            self.still, self.seq, self.captured_at_ms, self.presentation, rgb_only=rgb_only
        )

    def _broken(self) -> tuple[bytes, bytes, bytes]:
        begins, ends, signature = self.camera.packets.make(
            self.still, self.seq, self.captured_at_ms, self.presentation
        )
        if self.kind == Kind.OVERSIZE:
            return begins, ends + bytes(max(0, self.size - len(begins) - len(ends))), signature
        if self.kind == Kind.CUT:
            return begins, ends[:-9], signature
        spoilt = bytearray(begins)
        draw = random.Random(self.seq)  # noqa: S311 - a simulation
        for _ in range(200):
            spoilt[draw.randrange(64, len(spoilt) - 32)] ^= 1 << draw.randrange(8)
        return bytes(spoilt), ends, self.camera.signed(bytes(spoilt) + ends)


class SimulatedCamera:
    """One camera, and the person before it."""

    def __init__(
        self, camera_id: str, key: bytes | None, partition: int, gallery: Gallery, seed: int
    ) -> None:
        """Nobody is there yet."""
        self.partition = partition
        self.packets = CameraPackets(camera_id, key, gallery.stills)
        self._key = key
        self._gallery = gallery
        self._order = random.Random(seed)  # noqa: S311 - a simulation, not a key
        self._forger: CameraPackets | None = None
        self._shown: Shown | None = None
        self._leaves_s = 0.0
        self._num_people = 0
        self._num_shown = 0

    @property
    def forger(self) -> CameraPackets:
        """Signs with another key."""
        if self._forger is None:
            self._forger = CameraPackets(self.packets.camera_id, new_key(), self._gallery.stills)
        return self._forger

    def signed(self, packed: bytes) -> bytes:
        """Return the signature of other bytes."""
        return b"" if self._key is None else sign(packed, self._key)

    def look(self, at_s: float, fleet: FleetSettings) -> tuple[Shown, int, int]:
        """Return who is before the camera, the still to send, and how many people have come."""
        if self._shown is None or at_s >= self._leaves_s:
            self._shown = self._gallery.pick(fleet.attacks, self._order)
            self._leaves_s = at_s + fleet.stay * self._order.uniform(0.5, 1.5)
            self._num_people += 1
        self._num_shown += 1
        still = self._shown.stills[self._num_shown % len(self._shown.stills)]
        return self._shown, still, self._num_people


def sending_order(
    num_cameras: int, fleet: FleetSettings, hot: Sequence[bool], seed: int
) -> list[int]:
    """Return a round of cameras, to be gone through over and over: each at its own rate and phase.

    Args:
        num_cameras: of this sender.
        fleet: how many cameras are hot, and their share of all frames.
        hot: which of this sender's are.
        seed: makes it the same every time.
    """
    random_ = np.random.default_rng(seed)
    weights = random_.lognormal(0.0, 0.3, num_cameras)
    is_hot = np.array(hot)
    if is_hot.any() and not is_hot.all():
        ordinary = weights[~is_hot].sum()
        weights[is_hot] *= (
            ordinary * fleet.hot_share / (1 - fleet.hot_share) / weights[is_hot].sum()
        )
    counts = np.maximum(1, np.rint(weights * _SLOTS * num_cameras / weights.sum())).astype(int)
    places = [
        ((slot + phase) / count, camera)
        for camera, (count, phase) in enumerate(
            zip(counts.tolist(), random_.random(num_cameras), strict=True)
        )
        for slot in range(count)
    ]
    return [camera for _, camera in sorted(places)]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What becomes of a frame that a fault has picked.

    Attributes:
        kind: what it is instead.
        copies_at_s: when copies of it are sent too; it is itself what it was, then.
        shift_ms: of its stamp.
        size: it is filled up to.
    """

    kind: Kind
    copies_at_s: tuple[float, ...] = ()
    shift_ms: int = 0
    size: int = 0


class Troubles:
    """The frame faults of a scenario: says of each frame whether one of them has picked it."""

    def __init__(self, faults: Sequence[FrameTrouble], seed: int) -> None:
        """Take the faults; all draws come from the seed."""
        self._faults = faults
        self._order = random.Random(seed)  # noqa: S311 - a simulation

    def of(self, at_s: float) -> Trouble | None:
        """Return what is wrong with a frame that is due at a time; None: nothing."""
        for fault in self._faults:
            if fault.at <= at_s < fault.at + fault.lasts and self._order.random() < fault.share:
                return self._trouble(fault, at_s)
        return None

    def _trouble(self, fault: FrameTrouble, at_s: float) -> Trouble:
        kind = _KINDS[fault.do]
        if kind == Kind.DUPLICATE:
            return Trouble(kind, (at_s,))
        if kind == Kind.REPLAY:
            return Trouble(kind, (at_s + self._order.uniform(*_REPLAY_S),))
        if isinstance(fault, ClockSkew):
            shift_ms = int(fault.by * 1000)
            return Trouble(kind, shift_ms=-shift_ms if fault.behind else shift_ms)
        return Trouble(kind, size=int(fault.size) if isinstance(fault, Oversize) else 0)


class Cameras:
    """A task's cameras: says which frame comes next, and enters it in the book.

    Attributes:
        by_id: all of them.
        partitions: that they send to.
    """

    def __init__(self, task: Task, book: Book, seed: int, first_seq: int) -> None:
        """Prepare what they show; a frame's seq is its number in the book above `first_seq`."""
        scenario = task.scenario
        self._settings, self._book, self._first_seq = scenario.fleet, book, first_seq
        size = scenario.fleet.frame_size
        gallery = open_gallery(scenario.fleet.source, None if size is None else int(size))
        self._all = list(cameras_of(task.camera_keys, task.partitions, gallery, seed))
        self.by_id = {each.packets.camera_id: each for each in self._all}
        self.partitions = sorted({each.partition for each in self._all})
        self._order = cycle(sending_order(len(self._all), scenario.fleet, task.hot, seed))
        frame_faults = [each for each in scenario.faults if isinstance(each, FRAME_FAULTS)]
        self._troubles = Troubles(frame_faults, seed)
        self._copies: list[tuple[float, int, Due]] = []

    @property
    def has_copies(self) -> bool:
        """Whether copies of frames are still to be sent."""
        return bool(self._copies)

    def next(self, due_s: float, now_s: float) -> Due:
        """Return the frame that is due at a time; both times are s since the start."""
        camera = self._all[next(self._order)]
        shown, still, person = camera.look(due_s, self._settings)
        presentation = b"%x-%d" % (self._first_seq // 1_000_000, person)
        truth = shown.is_bona_fide
        kind = Kind.UNTOLD if truth is None else Kind.BONA_FIDE if truth else Kind.ATTACK
        trouble = self._troubles.of(due_s)
        if trouble is not None:
            kind = Kind.COPIED if trouble.copies_at_s else trouble.kind
        number = self._book.due(due_s, kind)
        wall_ms = int((time.time() - (now_s - due_s)) * 1000)
        seq = self._first_seq + number
        due = Due(number, camera, still, seq, wall_ms, presentation, kind, due_s)
        if trouble is not None:
            self._trouble(due, trouble)
        return due

    def copies(self, now_s: float) -> Iterator[Due]:
        """Yield the copies that are due until now."""
        while self._copies and self._copies[0][0] <= now_s:
            yield heapq.heappop(self._copies)[2]

    def _trouble(self, due: Due, trouble: Trouble) -> None:
        due.captured_at_ms += trouble.shift_ms
        due.size = trouble.size
        for at_s in trouble.copies_at_s:
            number = self._book.due(at_s, trouble.kind, copy_of=due.number)
            copy = replace(due, number=number, kind=trouble.kind, due_s=at_s)
            heapq.heappush(self._copies, (at_s, number, copy))


def cameras_of(
    camera_keys: Mapping[str, bytes | None], partitions: int, gallery: Gallery, seed: int
) -> Iterator[SimulatedCamera]:
    """Yield a camera for each id, in the order of the keys."""
    for number, (camera_id, key) in enumerate(camera_keys.items()):
        partition = keys.partition_of(camera_id, partitions)
        yield SimulatedCamera(camera_id, key, partition, gallery, seed * 1_000_003 + number)
