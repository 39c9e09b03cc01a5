"""One frame in a replica's hands, from the moment it is read until its decision is committed."""

import time
from asyncio import Future
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from model.data.planes import Planes
from model.serving.predictor import Predictor
from workers.stream.delivery import Commit, Entry
from workers.wire.decision import Decision, Outcome, Reason, pack_decision
from workers.wire.frame import Frame
from workers.wire.refusal import GIVEN_UP, FrameRefused


@dataclass(slots=True, eq=False)
class HeldFrame:
    """What is known so far of a frame that this replica owns.

    Attributes:
        entry: its stream entry; one that came by HTTP is of no partition and has the id "".
        arrived_at_ms: when it reached the server, Unix ms by the server's clock.
        done: set to the decision once it is committed, or found to be another replica's.
        camera_id: the camera it claims to be of.
        is_proven: its signature was checked: what it says of itself can be relied on.
        frame: its content, once verified.
        planes: the network's input, once decoded.
        quality: figures of the face, once decoded.
        predictor: the one that `planes` were cut for; the frames of a batch share it.
        decode_s: what verifying and decoding took, without the wait for a thread.
        timing_ms: how long each stage took, ms.
    """

    entry: Entry
    arrived_at_ms: int
    done: "Future[Decision]" = field(default_factory=Future)
    camera_id: str | None = None
    is_proven: bool = False
    frame: Frame | None = None
    planes: Planes | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    predictor: Predictor | None = None
    decode_s: float = 0.0
    timing_ms: dict[str, float] = field(default_factory=dict)
    _stage_at_s: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> tuple[int, str]:
        """What names this frame among those held."""
        # Frames that came by HTTP have no id: there can be several of them.
        return (self.entry.partition, self.entry.id or f"http-{id(self)}")

    def finish_stage(self, stage: str) -> None:
        """Note that `stage` is over; the next one begins now."""
        now_s = time.monotonic()
        self.timing_ms[stage] = (now_s - self._stage_at_s) * 1000
        self._stage_at_s = now_s

    @property
    def born_at_ms(self) -> int:
        """Unix ms from which the frame's age counts.

        The camera's stamp or the arrival at the server, whichever is older: neither a clock that
        is ahead nor a long queue makes a frame look fresh.
        """
        captured_at_ms = self.frame.captured_at_ms if self.frame else self.arrived_at_ms
        return min(captured_at_ms, self.arrived_at_ms)


@dataclass(frozen=True, slots=True)
class Decided:
    """A held frame and what became of it.

    Attributes:
        held: the frame.
        decision: its decision, not yet visible.
        error: what is wrong with the frame; empty unless it is given up on.
    """

    held: HeldFrame
    decision: Decision
    error: str = ""

    def to_commit(self, deadline_ms: int) -> Commit:
        """Return the commit; a verdict must not become visible once it is `deadline_ms` old."""
        held, decision = self.held, self.decision
        is_verdict = decision.outcome is not Outcome.NO_DECISION
        is_first_of_seq = held.frame is not None and decision.reason is not Reason.REPLAYED
        return Commit(
            entry=held.entry,
            decision=pack_decision(decision),
            # A frame of unproven origin must not crowd a camera's own decisions out.
            camera_id=held.camera_id if held.is_proven else None,
            seq=held.frame.seq if held.frame and is_first_of_seq else None,
            deadline_ms=held.born_at_ms + deadline_ms if is_verdict else None,
            error=self.error,
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes decisions in the name of one replica."""

    replica: str

    def verdict(
        self, held: HeldFrame, score: float, weights: Mapping[str, float], size: int, now_ms: int
    ) -> Decided:
        """Decide by the score: `bona_fide` at or above the threshold of the frame's modalities.

        Args:
            held: a frame with planes.
            score: bona fide score in [0, 1].
            weights: share of each modality, [0, 1].
            size: frames in its batch.
            now_ms: the server's clock, Unix ms.
        """
        assert held.planes is not None  # noqa: S101 - only decoded frames are scored
        assert held.predictor is not None  # noqa: S101
        threshold = held.predictor.threshold_for(held.planes.present)
        # A NaN compares false and so never opens a door.
        is_bona_fide = threshold is not None and score >= threshold
        decision = replace(
            self._no_decision(held, now_ms),
            outcome=Outcome.BONA_FIDE if is_bona_fide else Outcome.ATTACK,
            score=score,
            threshold=threshold,
            weights=weights,
            batch_size=size,
        )
        return Decided(held, decision)

    def refusal(self, held: HeldFrame, refused: FrameRefused, now_ms: int) -> Decided:
        """Decide `no_decision` with the reason of `refused`."""
        decision = replace(
            self._no_decision(held, now_ms),
            reason=refused.reason,
            quality=held.quality if refused.reason is Reason.LOW_QUALITY else {},
        )
        return Decided(held, decision, str(refused) if refused.reason in GIVEN_UP else "")

    def _no_decision(self, held: HeldFrame, now_ms: int) -> Decision:
        held.finish_stage("commit")
        timing_ms = {stage: round(value, 2) for stage, value in held.timing_ms.items()}
        timing_ms["total"] = round(sum(held.timing_ms.values()), 2)
        frame, predictor = held.frame, held.predictor
        return Decision(
            camera_id=held.camera_id,
            seq=frame.seq if frame else None,
            presentation_id=frame.presentation_id if frame else None,
            entry_id=held.entry.id,
            captured_at_ms=frame.captured_at_ms if frame else None,
            decided_at_ms=now_ms,
            outcome=Outcome.NO_DECISION,
            reason=None,
            score=None,
            threshold=None,
            modalities=held.planes.present if held.planes else (),
            weights={},
            model=predictor.model_id if predictor else "",
            replica=self.replica,
            batch_size=0,
            timing_ms=timing_ms,
        )
