"""Double-entry book-keeping of a run: each frame meant to be sent against each decision read.

It answers what the product promises: nothing lost, nothing decided twice, how right and how fast;
and what a load must show of itself: that every frame was sent, and when it was meant to be.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from workers.client.outbox import SendResult
from workers.wire.decision import Decision, Outcome

_RIGHT = {(True, Outcome.BONA_FIDE), (False, Outcome.ATTACK)}
_Frame = tuple[str, int]  # camera id, seq


@dataclass(frozen=True, slots=True)
class Published:
    """A frame that a simulated camera was meant to send, and handed to its outbox.

    Attributes:
        intended_at_s: when its schedule meant it to be sent, monotonic clock. Latency counts from
            here, so that a late sender can't hide a slow server (coordinated omission).
        is_bona_fide: the ground truth.
        is_surge: sent while the load was meant to be more than one replica carries.
        late_ms: how long after that it was handed over: the lateness of the load itself.
    """

    intended_at_s: float
    is_bona_fide: bool
    is_surge: bool = False
    late_ms: float = 0.0


@dataclass
class Ledger:
    """What was published and what was decided; frames are named by camera and seq.

    Attributes:
        published: frames handed to an outbox.
        num_unsent: frames whose time had come and that nobody sent, because the run was ended.
        results: what has become of each published frame on its way to the server.
        acknowledged: entry to frame; each of them must get its one decision.
        decided: entry to its first decision.
        decided_at_s: entry to when that was read, monotonic clock.
        duplicates: decisions on entries that had one.
    """

    published: dict[_Frame, Published] = field(default_factory=dict)
    num_unsent: int = 0
    results: dict[_Frame, SendResult] = field(default_factory=dict)
    acknowledged: dict[str, _Frame] = field(default_factory=dict)
    decided: dict[str, Decision] = field(default_factory=dict)
    decided_at_s: dict[str, float] = field(default_factory=dict)
    duplicates: list[Decision] = field(default_factory=list)

    def publish(self, camera_id: str, seq: int, published: Published) -> None:
        """Note a frame that a camera queued."""
        self.published[camera_id, seq] = published

    def sent(self, camera_id: str, result: SendResult) -> None:
        """Note what has become of a frame on its way to the server."""
        self.results[camera_id, result.seq] = result
        if result.status == "acknowledged":
            self.acknowledged[f"{camera_id} {result.entry_id}"] = (camera_id, result.seq)

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

    def statuses(self) -> Counter[str]:
        """Count the frames meant to be sent by what has become of them; all of them, at the end."""
        counted = Counter(str(result.status) for result in self.results.values())
        counted["dropped"] += self.num_unsent
        return counted

    def outcomes(self) -> Counter[str]:
        """Count decisions by outcome."""
        return Counter(str(decision.outcome) for decision in self.decided.values())

    def reasons(self) -> Counter[str]:
        """Count the frames without a verdict by the reason: expired, low_quality, ..."""
        return Counter(
            str(decision.reason) for decision in self.decided.values() if decision.reason
        )

    def correct_ratio(self) -> float | None:
        """Return the fraction of verdicts that are the ground truth, [0, 1]; None of no verdicts.

        A frame without a verdict, say one that came too late, is neither right nor wrong: it is
        counted by `outcomes` and `reasons`.
        """
        verdicts = [
            (self.published[frame].is_bona_fide, decision.outcome)
            for decision in self.decided.values()
            if (frame := _frame_of(decision)) in self.published
            and decision.outcome is not Outcome.NO_DECISION
        ]
        return sum(pair in _RIGHT for pair in verdicts) / len(verdicts) if verdicts else None

    def latencies_ms(self, *, is_surge: bool) -> list[float]:
        """Return intended send to decision read, ms, of the frames in or outside the surge."""
        return [
            (self.decided_at_s[name] - frame.intended_at_s) * 1000
            for name, decision in self.decided.items()
            if (frame := self.published.get(_frame_of(decision))) is not None
            and frame.is_surge == is_surge
        ]

    def lateness_ms(self) -> list[float]:
        """Return how late each frame was handed over, ms: how well the load kept its schedule."""
        return [frame.late_ms for frame in self.published.values()]


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Return a percentile, or None of no values."""
    listed = list(values)
    return round(float(np.percentile(listed, percent)), 1) if listed else None


def _frame_of(decision: Decision) -> _Frame:
    # A frame too broken to say who sent it has no camera and no seq: no fleet published it.
    return decision.camera_id or "", -1 if decision.seq is None else decision.seq
