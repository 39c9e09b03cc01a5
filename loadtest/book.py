"""The account of a run: each frame once, in some bytes, however many there are.

Frames are numbered in the order in which they are due. A decision finds its frame by its entry as
long as it has none, and good ones by their seq as well, which is the first frame's plus the number:
so a reply that got lost, or a second decision, is found out without a table of all frames.
"""

from array import array
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.counts import Counts, Kind, Phase, Status

_CHUNK_BITS = 16
_CHUNK = 1 << _CHUNK_BITS
# What is looked for by entry alone is known for so long: to a broken frame's second decision, and
# to decisions that come before the reply to their frame.
_KNOWN_S = 60.0
_MAX_EARLY = 100_000

_STATUS = 0x07
_BY_ENTRY = 0x08
_DECIDED = 0x10
_VERDICT = 0x20


@dataclass(slots=True)
class _Family:
    """A frame and its copies: together they may get one verdict.

    Attributes:
        num_open: of them, those that are not settled.
        is_judged: they have it.
    """

    num_open: int = 1
    is_judged: bool = False


class Book:
    """One sender's account."""

    def __init__(self, warm_up_s: float, deadline_s: float) -> None:
        """Begin empty.

        Args:
            warm_up_s: frames due before are not of the steady window.
            deadline_s: a verdict later than that after its frame was due is worth nothing.
        """
        self.counts = Counts()
        self.num_open = 0  # frames acknowledged or unknown, and not decided
        self._warm_up_s, self._deadline_s = warm_up_s, deadline_s
        self._state = bytearray()
        self._kind = bytearray()
        self._due_s: list[array[float] | None] = []
        self._unsettled: list[int] = []
        self._entries: dict[str, int] = {}
        self._kept: deque[tuple[float, str]] = deque()  # entries that are not forgotten when found
        self._original: dict[int, int] = {}
        self._families: dict[int, _Family] = {}
        self._early: OrderedDict[str, tuple[str, float, int | None]] = OrderedDict()

    @property
    def size(self) -> int:
        """Frames in the book."""
        return len(self._state)

    @property
    def num_bytes(self) -> int:
        """Memory that the book takes, about."""
        chunks = sum(8 * len(each) for each in self._due_s if each is not None)
        others = len(self._entries) + len(self._early) + 2 * len(self._original)
        return 2 * len(self._state) + chunks + 200 * others

    def due(self, at_s: float, kind: Kind, copy_of: int | None = None) -> int:
        """Enter a frame that is due `at_s` after the start; returns its number.

        Args:
            at_s: when it is due.
            kind: what it is.
            copy_of: number of the frame whose bytes it has; that one is not settled yet.
        """
        number = len(self._state)
        self._state.append(0 if kind.is_good else _BY_ENTRY)
        if copy_of is not None:
            self._original[number] = copy_of
            self._families.setdefault(copy_of, _Family()).num_open += 1
        self._kind.append(kind)
        if not number & (_CHUNK - 1):
            self._due_s.append(array("d"))
            self._unsettled.append(0)
        chunk = self._due_s[-1]
        assert chunk is not None  # noqa: S101 - it is the last one, and not full
        chunk.append(at_s)
        self._unsettled[-1] += 1
        self.counts.statuses[self._phase(at_s), "due"] += 1
        return number

    def due_s(self, number: int) -> float | None:
        """Return when a frame was due; None once it and all those around it are settled."""
        chunk = self._due_s[number >> _CHUNK_BITS]
        return None if chunk is None else chunk[number & (_CHUNK - 1)]

    def kind(self, number: int) -> Kind:
        """Return what a frame is."""
        return Kind(self._kind[number])

    def begin(self, number: int) -> None:
        """Note that a frame is on its way: from now on its reply can get lost."""
        self._set(number, Status.UNDER_WAY)

    def wait(self, number: int) -> None:
        """Note that a frame was not taken, and waits to be sent again."""
        self._set(number, Status.WAITING)

    def added(self, number: int, entry_id: str) -> "tuple[str, float, int | None] | None":
        """Note a frame's entry; returns what was said of it already, for `decide`."""
        state = self._state[number]
        self._set(number, Status.ACKNOWLEDGED)
        self._count(number, "acknowledged")
        self.num_open += 1
        if state & _DECIDED:  # the decision was read before the reply was
            self.num_open -= 1
            self._settle(number)
            return None
        self._entries[entry_id] = number
        if state & _BY_ENTRY:
            self._kept.append((self.due_s(number) or 0.0, entry_id))
        return self._early.pop(entry_id, None)

    def lost_sight(self, number: int) -> None:
        """Note that the reply got lost: the frame may have arrived."""
        self._set(number, Status.UNKNOWN)
        self._count(number, "unknown")
        if self._state[number] & _DECIDED:
            self._count(number, "unknown_arrived")
            self._settle(number)

    def drop(self, number: int) -> None:
        """Note that a frame was given up on before it was sent."""
        self._set(number, Status.DROPPED)
        self._count(number, "dropped")
        self._settle(number)

    def refuse(self, number: int) -> None:
        """Note that the server refused a frame for good."""
        self._set(number, Status.REFUSED)
        self._count(number, "refused")
        self._settle(number)

    def find(self, seq_number: int | None, entry: str, said: str, at_s: float) -> int | None:
        """Return the number of the frame that a decision is on; None: not known, or not yet.

        Args:
            seq_number: the decision's seq, less that of the first frame; None: it has none.
            entry: its partition and entry id.
            said: the outcome, or the reason.
            at_s: when it was read.
        """
        self._forget(at_s - _KNOWN_S)
        number = self._entries.get(entry)
        if number is not None:
            if not self._state[number] & _BY_ENTRY:
                del self._entries[entry]  # from now on its seq is enough
            return number
        is_known = seq_number is not None and 0 <= seq_number < len(self._state)
        if is_known and not self._state[seq_number] & _BY_ENTRY:  # type: ignore[index]
            return seq_number
        if is_known or seq_number is None:
            self._early[entry] = (said, at_s, seq_number)
        else:
            self.counts.strangers += 1
        return None

    def decide(self, number: int, said: str, at_s: float) -> float | None:
        """Note what was said of a frame; returns its latency from when it was due, s.

        None: it had a decision before, or it was due so long ago that nobody knows.
        """
        state, kind, counts = self._state[number], Kind(self._kind[number]), self.counts
        if state & _DECIDED:
            counts.doubled += 1
            return None
        due_s = self.due_s(number)
        is_verdict = said in ("bona_fide", "attack")
        self._state[number] = state | _DECIDED | (_VERDICT if is_verdict else 0)
        phase = self._phase(due_s or 0.0)
        counts.said[phase, kind.name.lower(), said] += 1
        status = state & _STATUS
        if status == Status.UNKNOWN:
            counts.statuses[phase, "unknown_arrived"] += 1
        if status == Status.ACKNOWLEDGED:
            self.num_open -= 1
        if is_verdict:
            self._judge(number, kind, said)
        if status != Status.UNDER_WAY:
            self._settle(number)
        if due_s is None:
            return None
        if is_verdict and kind.is_good and at_s - due_s <= self._deadline_s:
            counts.in_time[phase] += 1
        return at_s - due_s

    def lost(self) -> list[int]:
        """Return the frames that were acknowledged and have no decision, once nothing moves."""
        return self._numbers(Status.ACKNOWLEDGED)

    def close(self) -> None:
        """Settle what is left over: decisions on frames whose entry nobody was told."""
        left = dict.fromkeys(self._numbers(Status.UNKNOWN))
        for said, at_s, seq_number in self._early.values():
            number = seq_number if seq_number in left else next(iter(left), None)
            if number is None:
                self.counts.strangers += 1
            else:
                del left[number]
                self.decide(number, said, at_s)
        self._early.clear()

    def _numbers(self, status: Status) -> list[int]:
        """Return the frames of a status that have no decision."""
        states: NDArray[np.uint8] = np.frombuffer(bytes(self._state), np.uint8)
        found: list[int] = np.flatnonzero(states & (_STATUS | _DECIDED) == status).tolist()
        return found

    def _forget(self, before_s: float) -> None:
        """Let go of what was there for so long that nothing more will be said of it."""
        while self._kept and self._kept[0][0] < before_s:
            _, entry = self._kept[0]
            number = self._entries.get(entry)
            if number is not None and not self._state[number] & _DECIDED:
                break  # it still waits for its own
            self._kept.popleft()
            self._entries.pop(entry, None)
        while len(self._early) > _MAX_EARLY:
            self._early.popitem(last=False)
            self.counts.strangers += 1

    def _judge(self, number: int, kind: Kind, said: str) -> None:
        if (family := self._families.get(self._original.get(number, number))) is not None:
            self.counts.breaches += family.is_judged
            family.is_judged = True
        if said == "bona_fide" and kind.must_not_open:
            self.counts.breaches += 1
        if kind <= Kind.ATTACK:
            if (kind == Kind.BONA_FIDE) == (said == "bona_fide"):
                self.counts.right += 1
            else:
                self.counts.wrong += 1

    def _phase(self, due_s: float) -> Phase:
        return "warm-up" if due_s < self._warm_up_s else "steady"

    def _count(self, number: int, status: str) -> None:
        self.counts.statuses[self._phase(self.due_s(number) or 0.0), status] += 1

    def _set(self, number: int, status: Status) -> None:
        self._state[number] = self._state[number] & ~_STATUS | status

    def _settle(self, number: int) -> None:
        """Let go of the times of a chunk all of whose frames are settled, and of a whole family."""
        index = number >> _CHUNK_BITS
        self._unsettled[index] -= 1
        chunk = self._due_s[index]
        if not self._unsettled[index] and chunk is not None and len(chunk) == _CHUNK:
            self._due_s[index] = None
        if self._families:
            original = self._original.pop(number, number)
            if (family := self._families.get(original)) is not None:
                family.num_open -= 1
                if not family.num_open:
                    del self._families[original]
