"""The account of a run: each frame once, in some bytes, however many there are.

Frames are numbered in the order in which they are due. A decision finds its frame by its entry as
long as it has none, and good ones by their seq as well, which is the first frame's plus the number:
so a reply that got lost, or a second decision, is found out without a table of all frames.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

_CHUNK_BITS = 16
_CHUNK = 1 << _CHUNK_BITS

Phase = str  # "warm-up" or "steady"


class Kind(IntEnum):
    """What a frame is, and so what may be said of it."""

    BONA_FIDE = 0
    ATTACK = 1
    UNTOLD = 2  # good, and the source does not tell its truth
    CORRUPT = 3
    CUT = 4
    COPIED = 5  # good, and sent again: it or one of its copies gets the one verdict
    DUPLICATE = 6
    REPLAY = 7
    OVERSIZE = 8
    RGB_ONLY = 9
    FORGED = 10
    SKEWED = 11

    @property
    def is_good(self) -> bool:
        """Whether a deployment that is well gives it a verdict."""
        return self <= Kind.UNTOLD

    @property
    def must_not_open(self) -> bool:
        """Whether no door may ever open on it."""
        return self in _NEVER


_NEVER = {Kind.CUT, Kind.OVERSIZE, Kind.FORGED}


class Status(IntEnum):
    """What has become of a frame on its way to the server."""

    WAITING = 0
    UNDER_WAY = 1
    ACKNOWLEDGED = 2
    UNKNOWN = 3
    DROPPED = 4
    REFUSED = 5


_STATUS = 0x07
_BY_ENTRY = 0x08
_DECIDED = 0x10
_VERDICT = 0x20


@dataclass(slots=True)
class Counts:
    """Counts that add up, of one sender or of all.

    Attributes:
        statuses: by phase and status.
        said: of decided frames, by phase, kind and what was said: an outcome, or a reason.
        doubled: decisions on entries that had one.
        breaches: `bona_fide` on frames that no door may open on, and second verdicts on a seq.
        unsigned: decisions without the door key's signature that should have one.
        right: verdicts that are the truth.
        wrong: verdicts that are not.
        in_time: verdicts on good frames inside the deadline, by phase.
        strangers: decisions on frames that nobody here sent.
        presentations: verdicts on presentations, by outcome or reason.
    """

    statuses: Counter[tuple[Phase, str]] = field(default_factory=Counter)
    said: Counter[tuple[Phase, str, str]] = field(default_factory=Counter)
    doubled: int = 0
    breaches: int = 0
    unsigned: int = 0
    right: int = 0
    wrong: int = 0
    in_time: Counter[Phase] = field(default_factory=Counter)
    strangers: int = 0
    presentations: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Add another sender's."""
        for name in self.__slots__:
            mine, others = getattr(self, name), getattr(other, name)
            if isinstance(mine, Counter):
                mine.update(others)
            else:
                setattr(self, name, mine + others)


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
        self._original: dict[int, int] = {}
        self._judged: set[int] = set()
        self._early: dict[str, tuple[str, float, int | None]] = {}

    @property
    def size(self) -> int:
        """Frames in the book."""
        return len(self._state)

    @property
    def num_bytes(self) -> int:
        """Memory that the book takes, about."""
        chunks = sum(8 * len(each) for each in self._due_s if each is not None)
        return 2 * len(self._state) + chunks + 200 * (len(self._entries) + len(self._early))

    def due(self, at_s: float, kind: Kind, copy_of: int | None = None) -> int:
        """Enter a frame that is due `at_s` after the start; returns its number.

        Args:
            at_s: when it is due.
            kind: what it is.
            copy_of: number of the frame whose bytes it has.
        """
        number = len(self._state)
        self._state.append(0 if kind.is_good else _BY_ENTRY)
        if copy_of is not None:
            self._original[number] = copy_of
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
        if status != Status.UNDER_WAY:
            self._settle(number)
        if is_verdict:
            self._judge(number, kind, said)
        if due_s is None:
            return None
        if is_verdict and kind.is_good and at_s - due_s <= self._deadline_s:
            counts.in_time[phase] += 1
        return at_s - due_s

    def lost(self) -> list[int]:
        """Return the frames that were acknowledged and have no decision, once nothing moves."""
        wanted = {Status.ACKNOWLEDGED, Status.ACKNOWLEDGED | _BY_ENTRY}
        return [number for number, state in enumerate(self._state) if state in wanted]

    def close(self) -> None:
        """Settle what is left over: decisions on frames whose entry nobody was told."""
        left = {
            number: None
            for number, state in enumerate(self._state)
            if state & (_STATUS | _DECIDED) == Status.UNKNOWN
        }
        for said, at_s, seq_number in self._early.values():
            number = seq_number if seq_number in left else next(iter(left), None)
            if number is None:
                self.counts.strangers += 1
            else:
                del left[number]
                self.decide(number, said, at_s)
        self._early.clear()

    def _judge(self, number: int, kind: Kind, said: str) -> None:
        if kind in (Kind.COPIED, Kind.DUPLICATE, Kind.REPLAY):
            original = self._original.get(number, number)
            self.counts.breaches += original in self._judged
            self._judged.add(original)
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
        """Let go of the times of a chunk all of whose frames are settled."""
        index = number >> _CHUNK_BITS
        self._unsettled[index] -= 1
        chunk = self._due_s[index]
        if not self._unsettled[index] and chunk is not None and len(chunk) == _CHUNK:
            self._due_s[index] = None
