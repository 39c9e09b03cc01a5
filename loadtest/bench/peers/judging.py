"""What every peer does with frames: the product's own opening, engine and decision.

So what differs between them is how frames reach the engine in batches and decisions get back. A
body is the 32 bytes of a frame's signature and the frame; an answer those of the decision's, and
the decision.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from model.data.planes import Planes
from model.serving.engine import open_engine
from model.serving.folder import find_bundle
from model.serving.predictor import Predictor
from workers.replica.in_flight import Decided, InFlight, Judge
from workers.replica.opening import Opener
from workers.settings import WorkerSettings
from workers.wire.decision import pack_decision
from workers.wire.frame import Frame
from workers.wire.keyring import Keyring
from workers.wire.signing import SIGNATURE_BYTES, AcceptUnsigned, Proof

SETTINGS = "LIVEGATE_BENCH_SETTINGS"
WAIT_S = 0.005
"""How long a peer's batch waits for company."""


class Opened(NamedTuple):
    """A frame that was opened, in a form that goes from one process to another."""

    frame: Frame
    proof: Proof
    planes: Planes


def settings() -> WorkerSettings:
    """Return the settings that a peer's process was started with."""
    return WorkerSettings.model_validate_json(os.environ[SETTINGS])


class FrameJudge:
    """Opens frames, and judges batches of what was opened."""

    def __init__(self, given: WorkerSettings) -> None:
        """Load the engine."""
        self._settings = given
        self._predictor: Predictor = open_engine(
            find_bundle(given.bundle), given.max_batch, given.infer_threads
        )
        self._opener = Opener(
            Keyring(given.camera_keys) if given.camera_keys else AcceptUnsigned(), given
        )
        self._judge = Judge("peer")

    def open(self, body: bytes) -> Opened:
        """Return a frame's planes.

        Raises:
            FrameRefused: it would get no decision; here every frame is a good one.
        """
        now_ms = _now_ms()
        fields = {b"f": body[SIGNATURE_BYTES:], b"s": body[:SIGNATURE_BYTES]}
        frame = InFlight(fields, now_ms, _nobody, read_at_ms=now_ms)
        (refused,) = self._opener.open([frame], lambda _: self._predictor)
        if refused is not None:
            raise refused
        assert frame.frame is not None  # noqa: S101 - opened
        assert frame.proof is not None  # noqa: S101
        assert frame.planes is not None  # noqa: S101
        return Opened(replace(frame.frame, planes={}), frame.proof, frame.planes)

    def judge(self, batch: Sequence[Opened]) -> list[bytes]:
        """Return the answers to a batch."""
        prediction = self._predictor.predict([each.planes for each in batch])
        now_ms = _now_ms()
        answers = []
        for row, (content, proof, planes) in enumerate(batch):
            frame = InFlight({}, now_ms, _nobody, read_at_ms=now_ms)
            frame.frame, frame.proof, frame.planes = content, proof, planes
            frame.camera_id, frame.predictor = content.camera_id, self._predictor
            score, evidence = float(prediction.scores[row]), prediction.evidence_of(row)
            decided = self._judge.verdict(frame, score, evidence, len(batch), now_ms)
            told = pack_decision(decided.decision)
            answers.append(decided.signature(told) + told)
        return answers


def _nobody(_: Decided) -> None:
    return


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
