"""Double-entry book-keeping of a run: each frame published against each decision read.

It answers what the product promises: nothing lost, nothing decided twice, and how fast.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from workers.wire.decision import Decision, Outcome


@dataclass(frozen=True, slots=True)
class Published:
    """A frame that a simulated camera was meant to send.

    Attributes:
        intended_at_s: when its schedule meant it to be sent, monotonic clock. Latency counts from
            here, so that a late sender can't hide a slow server (coordinated omission).
        is_bona_fide: the ground truth.
        is_surge: sent while the load was meant to be more than one replica carries.
    """

    intended_at_s: float
    is_bona_fide: bool
    is_surge: bool = False


@dataclass
class Ledger:
    """What was published and what was decided; frames are named by camera and seq."""

    published: dict[tuple[str, int], Published] = field(default_factory=dict)
    acknowledged: dict[str, tuple[str, int]] = field(default_factory=dict)
    decided: dict[str, Decision] = field(default_factory=dict)
    decided_at_s: dict[str, float] = field(default_factory=dict)
    duplicates: list[Decision] = field(default_factory=list)

    def publish(self, camera_id: str, seq: int, published: Published) -> None:
        """Note a frame that a camera queued."""
        self.published[camera_id, seq] = published

    def acknowledge(self, camera_id: str, seq: int, entry_id: str) -> None:
        """Note that the server has a frame: from now on it must get its one decision."""
        self.acknowledged[f"{camera_id} {entry_id}"] = (camera_id, seq)

    def decide(self, decision: Decision, at_s: float) -> None:
        """Note a decision that was read."""
        name = f"{decision.camera_id} {decision.entry_id}"
        if name in self.decided:
            self.duplicates.append(decision)
        else:
            self.decided[name] = decision
            self.decided_at_s[name] = at_s

    @property
    def num_open(self) -> int:
        """Frames acknowledged and not decided: lost, once nothing is under way any more."""
        return len(self.acknowledged.keys() - self.decided.keys())

    def outcomes(self) -> Counter[str]:
        """Count decisions by outcome."""
        return Counter(str(decision.outcome) for decision in self.decided.values())

    def correct_ratio(self) -> float:
        """Return the part of all decided frames whose outcome is the ground truth, [0, 1].

        A `no_decision` is not correct.
        """
        known = [
            (self.published[self.acknowledged[name]].is_bona_fide, decision.outcome)
            for name, decision in self.decided.items()
            if name in self.acknowledged
        ]
        right = {(True, Outcome.BONA_FIDE), (False, Outcome.ATTACK)}
        return sum(pair in right for pair in known) / len(known) if known else 0.0

    def latencies_ms(self, *, is_surge: bool) -> list[float]:
        """Return intended send to decision read, ms, of the frames in or outside the surge."""
        latencies = []
        for name, at_s in self.decided_at_s.items():
            frame = self.published.get(self.acknowledged.get(name, ("", 0)))
            if frame is not None and frame.is_surge == is_surge:
                latencies.append((at_s - frame.intended_at_s) * 1000)
        return latencies


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return a percentile, or None of no values."""
    listed = list(values)
    return round(float(np.percentile(listed, percent)), 1) if listed else None
