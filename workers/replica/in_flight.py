"""A frame in flight in a replica, from when it is read until its decision is committed."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from model.data.planes import Planes
from model.serving.predictor import Predictor, is_bona_fide
from model.serving.presentations import frame_evidence
from workers.replica.batching import Slots
from workers.settings import WorkerSettings
from workers.stream.delivery import Commit, Entry, PresentationStep, SeqUse
from workers.wire.decision import Decision, Outcome, Reason, pack_decision
from workers.wire.frame import Frame
from workers.wire.presentation import PresentationVerdict, Undecided, pack_verdict
from workers.wire.refusal import GIVEN_UP, FrameRefused
from workers.wire.signing import Proof, sign

# These have no verdict to protect: a second copy of the frame would get the same answer.
_NOT_REMEMBERED = frozenset(
    {Reason.EXPIRED, Reason.REPLAYED, Reason.SEQ_MEMORY_FULL, Reason.OVER_QUOTA}
)
_NO_FIGURES: Mapping[str, float] = {}


@dataclass(slots=True, eq=False)
class InFlight:
    """What is known so far of a frame that this replica works on.

    Attributes:
        fields: `f` and `s`, as they came.
        arrived_at_ms: when it reached the server, or this replica by HTTP; Unix ms by the server's
            clock.
        on_decided: called on the event loop with its decision, once.
        entry: its stream entry; None by HTTP.
        slots: where it takes a slot; None if it takes none.
        read_at_ms: when this replica got it, Unix ms by the server's clock.
        camera_id: the camera it claims to be of.
        proof: of its origin, once its signature was checked.
        frame: its content, once it could be read.
        planes: the network's input, once decoded.
        quality: figures of the face, once decoded.
        predictor: the one that `planes` were cut for; the frames of a batch share it.
        decode_s: what verifying and decoding took, without the wait for a thread.
        timing_ms: how long each stage took, ms.
    """

    fields: Mapping[bytes, bytes]
    arrived_at_ms: int
    on_decided: "Callable[[Decided], None]"
    entry: Entry | None = None
    slots: Slots | None = None
    read_at_ms: int = 0
    camera_id: str | None = None
    proof: Proof | None = None
    frame: Frame | None = None
    planes: Planes | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    predictor: Predictor | None = None
    decode_s: float = 0.0
    timing_ms: dict[str, float] = field(default_factory=dict)
    _stage_at_s: float = field(default_factory=time.monotonic)

    @property
    def partition(self) -> int:
        """Whose server's clock its age counts by."""
        return self.entry.partition if self.entry else 0

    @property
    def born_at_ms(self) -> int:
        """Unix ms from which the frame's age counts.

        The camera's stamp or the arrival at the server, whichever is older: neither a clock that
        is ahead nor a long queue makes a frame look fresh.
        """
        captured_at_ms = self.frame.captured_at_ms if self.frame else self.arrived_at_ms
        return min(captured_at_ms, self.arrived_at_ms)

    @property
    def named(self) -> dict[str, object]:
        """Which frame it is, as far as that is known: fields of a log line."""
        return {"camera": self.camera_id, "seq": self.frame.seq if self.frame else None}

    def finish_stage(self, stage: str) -> None:
        """Note that `stage` is over; the next one begins now."""
        now_s = time.monotonic()
        self.timing_ms[stage] = (now_s - self._stage_at_s) * 1000
        self._stage_at_s = now_s

    def free_slot(self) -> None:
        """Give its slot back, if it still takes one."""
        if self.slots is not None:
            self.slots.give_back(1)
            self.slots = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A frame in flight and what became of it.

    Attributes:
        frame: the frame.
        decision: its decision, not yet visible.
        error: what is wrong with the frame; empty unless it is given up on.
        is_shown: to its camera, if its origin is proven.
        weight_nats: what a verdict says of the frame's presentation, nats; 0 where it is none.
    """

    frame: InFlight
    decision: Decision
    error: str = ""
    is_shown: bool = True
    weight_nats: float = 0.0

    def deadline_ms(self, settings: WorkerSettings) -> int | None:
        """Return when a verdict is too old to become visible, Unix ms; None if it is none."""
        if self.decision.outcome is Outcome.NO_DECISION:
            return None
        return self.frame.born_at_ms + settings.deadline_ms

    def seq_use(self, settings: WorkerSettings) -> SeqUse | None:
        """Return the use of a seq that goes with it; None where none must be remembered.

        It is remembered until a frame with its stamp would be expired anyway.
        """
        frame, proof, content = self.frame, self.frame.proof, self.frame.frame
        if proof is None or content is None or not self.is_shown:
            return None
        if self.decision.reason in _NOT_REMEMBERED:
            return None
        newest_ms = max(content.captured_at_ms, frame.arrived_at_ms)
        until_ms = newest_ms + settings.deadline_ms + settings.max_clock_skew_ms
        return SeqUse(content.camera_id, proof.key_id, content.seq, until_ms)

    def signature(self, told: bytes) -> bytes:
        """Return the signature, for the door, of the bytes that tell this decision.

        It is empty where the frame's origin is not proven.
        """
        proof = self.frame.proof
        return sign(told, proof.door_key) if proof and proof.door_key else b""

    def to_commit(self, settings: WorkerSettings) -> Commit:
        """Return what the stream needs to make the decision visible."""
        assert self.frame.entry is not None  # noqa: S101 - a frame by HTTP is admitted
        packed = pack_decision(self.decision)
        return Commit(
            entry=self.frame.entry,
            decision=packed,
            signature=self.signature(packed),
            # A frame of unproven origin must not crowd a camera's own decisions out.
            camera_id=self.frame.camera_id if self.frame.proof and self.is_shown else None,
            seq=self.seq_use(settings),
            deadline_ms=self.deadline_ms(settings),
            error=self.error,
            presentation=self._presentation_step(),
        )

    def _presentation_step(self) -> PresentationStep | None:
        proof, decision = self.frame.proof, self.decision
        if proof is None or decision.presentation_id is None or self.weight_nats == 0:
            return None
        # Who commits must not have to ask again for a signature: all that may come is signed now.
        told = [self._verdict(decision.outcome, None)]
        reasons = Undecided if self.weight_nats > 0 else (Undecided.UNDECIDED,)
        told += [self._verdict(Outcome.NO_DECISION, reason) for reason in reasons]
        packed = [pack_verdict(verdict) for verdict in told]
        verdicts = [(each, self.signature(each)) for each in packed]
        return PresentationStep(proof.key_id, decision.presentation_id, self.weight_nats, verdicts)

    def _verdict(self, outcome: Outcome, reason: Undecided | None) -> PresentationVerdict:
        decision = self.decision
        assert decision.camera_id is not None  # noqa: S101 - its origin is proven
        assert decision.presentation_id is not None  # noqa: S101
        assert decision.seq is not None  # noqa: S101
        assert decision.captured_at_ms is not None  # noqa: S101
        return PresentationVerdict(
            camera_id=decision.camera_id,
            presentation_id=decision.presentation_id,
            seq=decision.seq,
            captured_at_ms=decision.captured_at_ms,
            decided_at_ms=decision.decided_at_ms,
            outcome=outcome,
            reason=reason,
            model=decision.model,
            replica=decision.replica,
        )


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes decisions in the name of one replica."""

    replica: str

    def verdict(
        self, frame: InFlight, score: float, evidence: Mapping[str, float], size: int, now_ms: int
    ) -> Decided:
        """Decide by the score: `bona_fide` at or above the threshold of the frame's modalities.

        Args:
            frame: with planes.
            score: bona fide score in [0, 1].
            evidence: log odds by modalities, which sum to the score's.
            size: frames in its batch.
            now_ms: the server's clock, Unix ms.
        """
        assert frame.planes is not None  # noqa: S101 - only decoded frames are scored
        assert frame.predictor is not None  # noqa: S101
        modalities = frame.planes.present
        threshold = frame.predictor.threshold_for(modalities)
        is_accepted = is_bona_fide(score, threshold)
        decision = self._decision(
            frame,
            now_ms,
            Outcome.BONA_FIDE if is_accepted else Outcome.ATTACK,
            score=score,
            threshold=threshold,
            evidence=evidence,
            batch_size=size,
        )
        rates = frame.predictor.error_rates(modalities)
        return Decided(frame, decision, weight_nats=frame_evidence(rates, is_accepted=is_accepted))

    def refusal(
        self, frame: InFlight, refused: FrameRefused, now_ms: int, *, is_shown: bool = True
    ) -> Decided:
        """Decide `no_decision` with the reason of `refused`."""
        decision = self._decision(
            frame,
            now_ms,
            Outcome.NO_DECISION,
            reason=refused.reason,
            quality=frame.quality if refused.reason is Reason.LOW_QUALITY else {},
        )
        error = str(refused) if refused.reason in GIVEN_UP else ""
        return Decided(frame, decision, error, is_shown)

    def _decision(  # noqa: PLR0913 - what decisions differ in
        self,
        frame: InFlight,
        now_ms: int,
        outcome: Outcome,
        *,
        reason: Reason | None = None,
        score: float | None = None,
        threshold: float | None = None,
        evidence: Mapping[str, float] = _NO_FIGURES,
        batch_size: int = 0,
        quality: Mapping[str, float] = _NO_FIGURES,
    ) -> Decision:
        frame.finish_stage("commit")
        timing_ms = {stage: round(value, 2) for stage, value in frame.timing_ms.items()}
        timing_ms["total"] = round(sum(frame.timing_ms.values()), 2)
        content, predictor = frame.frame, frame.predictor
        return Decision(
            camera_id=frame.camera_id,
            seq=content.seq if content else None,
            presentation_id=content.presentation_id if content else None,
            entry_id=frame.entry.id if frame.entry else "",
            captured_at_ms=content.captured_at_ms if content else None,
            decided_at_ms=now_ms,
            outcome=outcome,
            reason=reason,
            score=score,
            threshold=threshold,
            modalities=frame.planes.present if frame.planes else (),
            evidence=evidence,
            model=predictor.model_id if predictor else "",
            replica=self.replica,
            batch_size=batch_size,
            timing_ms=timing_ms,
            quality=quality,
        )
