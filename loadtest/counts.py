"""What is counted of a run: kinds of frames, what becomes of them, and what is said of them."""

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

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
