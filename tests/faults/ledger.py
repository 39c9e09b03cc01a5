"""An account that is independent of `loadtest`: every frame sent, all that was ever said of it.

It shares no code with the product: redis-py and msgpack alone, and the wire format's own words.
"""

import hmac
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

import msgpack
import redis
from redis.exceptions import RedisError

from tests.faults.replica import ATTACK, BONA_FIDE, POISON

SIDE = 8
KINDS = ("good", "attack", "old", "replay", "broken", "poison")


class Route(Protocol):
    """How to reach the server that has a partition."""

    def add(self, partition: int, fields: dict[bytes, bytes]) -> str:
        """Add a frame and return its id once it can't be lost; raise if that is not known."""

    def reader(self, partition: int) -> "redis.Redis[bytes]":
        """Return a connection that reads a partition's decisions."""


@dataclass(eq=False)
class Sent:
    """One frame that was sent."""

    kind: str
    camera_id: str
    seq: int
    sent_s: float
    entry: tuple[int, str] | None = None
    is_excused: bool = False


@dataclass
class Said:
    """One decision that was seen."""

    partition: int
    decision_id: str
    body: dict[str, Any]
    not_before_s: float
    seen_s: float = field(default_factory=time.monotonic)


@dataclass
class Ledger:
    """What was sent and what was said; all times are of this process's monotonic clock."""

    deadline_s: float
    are_ids_times: bool = True
    judged: tuple[str, ...] = ("attack", "old", "replay", "broken", "poison", "again")
    sent: list[Sent] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    seen: set[tuple[int, str]] = field(default_factory=set)
    entries_said: Counter[tuple[int, str]] = field(default_factory=Counter)
    emptied_s: list[tuple[float, float]] = field(default_factory=list)

    def say(self, said: Said) -> None:
        """Take in a decision, unless it is known."""
        if (said.partition, said.decision_id) in self.seen:
            return
        self.seen.add((said.partition, said.decision_id))
        self.said.append(said)
        self.entries_said[said.partition, said.body["entry_id"]] += 1

    def missing(self) -> list[Sent]:
        """Return the acknowledged frames without a decision."""
        return [
            each
            for each in list(self.sent)
            if each.entry and each.entry not in self.entries_said and not each.is_excused
        ]

    def excuse(self, since_s: float) -> None:
        """Let go of what was on a server that was emptied, and of what was sent meanwhile."""
        self.emptied_s.append((since_s, time.monotonic()))
        for each in list(self.sent):
            if each.entry not in self.entries_said or each.sent_s >= since_s:
                each.is_excused = True

    def account(self) -> dict[str, Any]:
        """Return the counts; `wrong` must be empty."""
        sent = {(each.camera_id, each.seq): each for each in self.sent}
        wrong = [fault for said in self.said for fault in self._faults_of(said, sent)]
        wrong += self._second_verdicts()
        wrong += [f"{n} decisions: {each}" for each, n in self.entries_said.items() if n > 1]
        wrong += [f"lost: {each}" for each in self.missing()]
        said_of = Counter(str(each.body["reason"] or each.body["outcome"]) for each in self.said)
        return {
            "sent": len(self.sent),
            "acknowledged": sum(each.entry is not None for each in self.sent),
            "excused": sum(each.is_excused for each in self.sent),
            "decided": len(self.said),
            "said": dict(sorted(said_of.items())),
            "wrong": wrong,
        }

    def _faults_of(self, said: Said, sent: Mapping[tuple[str, int], Sent]) -> Iterator[str]:
        name = (said.body["camera_id"], said.body["seq"])
        if said.body["outcome"] == "no_decision":
            return
        frame = sent.get(name)
        if frame is None:
            yield f"a verdict on a frame that was never sent: {name}"
            return
        age_s = said.not_before_s - frame.sent_s
        if self.are_ids_times:
            age_s = (int(said.decision_id.partition("-")[0]) - said.body["captured_at_ms"]) / 1000
        if age_s > self.deadline_s:
            yield f"a verdict at an age of {age_s:.3f} s: {name}"
        if said.body["outcome"] == "bona_fide" and frame.kind in self.judged:
            yield f"bona_fide of kind {frame.kind}: {name}"

    def _second_verdicts(self) -> Iterator[str]:
        first: dict[tuple[str, int], Said] = {}
        for said in self.said:
            if said.body["outcome"] == "no_decision":
                continue
            name = (said.body["camera_id"], said.body["seq"])
            before = first.setdefault(name, said)
            if before is said:
                continue
            # The memory of seqs is on the server too, and goes with it.
            if any(
                before.not_before_s <= until_s and said.not_before_s >= since_s - 1
                for since_s, until_s in self.emptied_s
            ):
                continue
            yield f"two verdicts: {before} {said}"


class Camera(threading.Thread):
    """Sends frames of one camera until told to stop; never repeats one by itself."""

    def __init__(
        self, camera_id: str, route: Route, ledger: Ledger, partitions: int, fps: float, seed: int
    ) -> None:
        super().__init__(daemon=True)
        self.camera_id = camera_id
        self.partition = crc32(camera_id.encode()) % partitions
        self.wall_s: Callable[[], float] = time.time
        self.poison = 0
        self.key = b""
        self.planes: dict[str, Any] = {}
        self.kinds = KINDS[:-1]
        self.weights = (70, 16, 2, 10, 2)
        self._route = route
        self._ledger = ledger
        self._period_s = 1 / fps
        self._random = random.Random(seed)
        self._seq = itertools.count(1)
        self._last: tuple[Sent, dict[bytes, bytes]] | None = None
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(self._period_s * self._random.uniform(0.5, 1.5)):
            if self.poison:
                self.poison -= 1
                self._send("poison")
            else:
                weights = self.weights[: len(self.kinds)]
                self._send(self._random.choices(self.kinds, weights)[0])

    def stop(self) -> None:
        self._end.set()
        self.join()

    def next_fields(self) -> dict[bytes, bytes]:
        """Return the next good frame, and account for nothing."""
        return self._fields(Sent("good", self.camera_id, next(self._seq), time.monotonic()))

    def forget(self) -> None:
        """Replay nothing that was sent until now: the server no longer knows of it."""
        self._last = None

    def _send(self, kind: str) -> None:
        if kind == "replay" and self._last is not None:
            original, fields = self._last
            frame = Sent("replay", self.camera_id, original.seq, time.monotonic())
            self._add(frame, fields, is_new=False)
            return
        kind = "good" if kind == "replay" else kind
        frame = Sent(kind, self.camera_id, next(self._seq), time.monotonic())
        fields = self._fields(frame)
        self._add(frame, fields, is_new=True)
        if kind == "good":
            self._last = (frame, fields)

    def _fields(self, frame: Sent) -> dict[bytes, bytes]:
        value = {"attack": ATTACK, "poison": POISON}.get(frame.kind, BONA_FIDE)
        plane = {"codec": "raw", "data": bytes([value]) * SIDE**2 * 3, "shape": [SIDE, SIDE, 3]}
        body = {
            "v": 1,
            "camera_id": self.camera_id,
            "seq": frame.seq,
            "captured_at_ms": int(self.wall_s() * 1000) - (60_000 if frame.kind == "old" else 0),
            "planes": self.planes or {"rgb": plane},
        }
        packed = msgpack.packb(body)
        packed = packed[:-9] if frame.kind == "broken" else packed
        signature = {b"s": hmac.digest(self.key, packed, "sha256")} if self.key else {}
        return {b"f": packed, **signature}

    def _add(self, frame: Sent, fields: dict[bytes, bytes], *, is_new: bool) -> None:
        if is_new:
            self._ledger.sent.append(frame)
        try:
            entry_id = self._route.add(self.partition, fields)
        except (RedisError, OSError):
            return  # refused, or it is not known what became of it
        frame.entry = (self.partition, entry_id)
        if not is_new:
            # Of a replay, only that it is decided once counts: its seq is another frame's.
            self._ledger.sent.append(Sent("again", self.camera_id, -1, frame.sent_s, frame.entry))


class Reader(threading.Thread):
    """Reads every decision, and notes before which moment it was not there."""

    def __init__(self, route: Route, ledger: Ledger, partitions: int) -> None:
        super().__init__(daemon=True)
        self._route = route
        self._ledger = ledger
        self._after = dict.fromkeys(range(partitions), "0")
        self._asked_s = dict.fromkeys(range(partitions), 0.0)
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.01):
            for partition in list(self._after):
                try:
                    self._poll(partition)
                except (RedisError, OSError, KeyError):
                    continue

    def stop(self) -> None:
        self._end.set()
        self.join()

    def skip(self, partitions: set[int]) -> None:
        """Read some partitions no more: their server will not answer."""
        for partition in partitions:
            del self._after[partition]

    def read_all(self) -> None:
        """Read every stream again from its beginning."""
        for partition in self._after:
            self._take(
                partition,
                self._route.reader(partition).xrange(f"livegate:{{{partition}}}:decisions"),
            )

    def _poll(self, partition: int) -> None:
        asked_s = time.monotonic()
        name = f"livegate:{{{partition}}}:decisions"
        after = f"({self._after[partition]}" if self._after[partition] != "0" else "-"
        rows = self._route.reader(partition).xrange(name, after, "+", 1000)
        self._take(partition, rows)
        self._asked_s[partition] = asked_s

    def _take(self, partition: int, rows: Any) -> None:
        for entry_id, fields in rows:
            try:
                body = msgpack.unpackb(fields[b"d"])
            except (ValueError, KeyError):
                continue
            if not isinstance(body, dict):
                continue  # what a fault put there
            said = Said(partition, entry_id.decode(), body, self._asked_s[partition])
            self._ledger.say(said)
            self._after[partition] = entry_id.decode()
