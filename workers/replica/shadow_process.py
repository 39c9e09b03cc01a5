"""The process of a shadow: a candidate judges frames that are decided already, unseen by doors.

    python -m workers.replica.shadow_process BUNDLE

Frames come on its input and verdicts go to its output, each with its length before it. It takes the
processor only while nobody else wants it, has no CUDA device, and whatever becomes of it, no
decision is touched by it: that is why it is a process.
"""

import json
import os
import sys
import time
from typing import Any, BinaryIO

from model.data.quality import measure
from model.errors import ModelError
from model.serving.engine import open_engine
from model.serving.predictor import Predictor, is_bona_fide
from workers.replica.bundles import resolve_bundle
from workers.replica.decode import decode
from workers.replica.models import runs_on
from workers.replica.opening import check_planes
from workers.replica.process import end_with_parent, leave_no_core
from workers.wire.decision import Outcome
from workers.wire.frame import unpack_frame
from workers.wire.refusal import FrameRefused

LENGTH_BYTES = 4


def judge(predictor: Predictor, packed: bytes) -> dict[str, Any]:
    """Return what a candidate would have decided on a frame, in a form that JSON can hold.

    Args:
        predictor: of the candidate.
        packed: the frame's field `f`, whose signature held.
    """
    started_s = time.perf_counter()
    score, reason = None, ""
    try:
        frame = unpack_frame(packed)
        planes = decode(frame, predictor.size, predictor.crop_margin, predictor.depth_kind)
        check_planes(planes, measure(planes), predictor)
        score = float(predictor.predict([planes]).scores[0])
        is_accepted = is_bona_fide(score, predictor.threshold_for(planes.present))
        outcome = Outcome.BONA_FIDE if is_accepted else Outcome.ATTACK
    except (FrameRefused, ModelError) as refused:
        outcome, reason = Outcome.NO_DECISION, str(getattr(refused, "reason", "worker_failed"))
    took_ms = (time.perf_counter() - started_s) * 1000
    return {"outcome": outcome, "reason": reason, "score": score, "ms": round(took_ms, 3)}


def give_way() -> None:
    """Run only while no other process wants the processor."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):  # of Linux
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main() -> None:
    """Judge until the input ends."""
    end_with_parent()
    leave_no_core()
    give_way()
    told = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no verdict
    try:
        predictor = open_engine(resolve_bundle(sys.argv[1]), max_batch=1)
    except ModelError as error:
        _tell(told, {"error": str(error)[:300]})
        return
    _tell(told, {"model": predictor.model_id, "runs_on": runs_on(predictor)})
    while packed := _next(sys.stdin.buffer):
        _tell(told, judge(predictor, packed))


def _next(frames: BinaryIO) -> bytes:
    length = int.from_bytes(frames.read(LENGTH_BYTES))
    return frames.read(length)


def _tell(verdicts: BinaryIO, verdict: dict[str, Any]) -> None:
    content = json.dumps(verdict).encode()
    verdicts.write(len(content).to_bytes(LENGTH_BYTES) + content)
    verdicts.flush()


if __name__ == "__main__":
    main()
