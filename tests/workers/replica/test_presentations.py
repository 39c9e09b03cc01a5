"""A presentation from its frames to its verdict: by several replicas, and only by judged frames."""

from pathlib import Path
from typing import Any

import pytest

from tests.workers import frames
from tests.workers.replica.bench import Bench, decide_all
from workers.testing import ConstantPredictor
from workers.wire.decision import Outcome, Reason
from workers.wire.frame import EncodedPlane
from workers.wire.presentation import PresentationVerdict, Undecided
from workers.wire.signing import door_key, sign


async def verdicts(
    folder: Path, score: float, changes: list[dict[str, Any]], **settings: Any
) -> list[PresentationVerdict]:
    bench = Bench(folder, **settings)
    for each in changes:
        bench.add(presentation_id="someone", **each)
    replicas = [bench.replica(name, ConstantPredictor(score, max_batch=4)) for name in "ab"]
    assert len(await decide_all(bench, *replicas)) == len(changes)
    return bench.server.verdicts


@pytest.mark.parametrize(
    ("score", "outcome"),
    [(0.9, Outcome.BONA_FIDE), (0.1, Outcome.ATTACK), (0.5, Outcome.BONA_FIDE)],
)
async def test_frames_that_agree_give_one_verdict(
    tmp_path: Path, score: float, outcome: Outcome
) -> None:
    (verdict,) = await verdicts(tmp_path, score, [{}] * 20)
    assert (verdict.camera_id, verdict.presentation_id) == ("gate-1", "someone")
    assert (verdict.outcome, verdict.reason) == (outcome, None)
    assert verdict.model == "constant@000000000000"


async def test_what_is_not_judged_says_nothing(tmp_path: Path) -> None:
    refused = [{"captured_at_ms": 1}, {"planes": {"rgb": EncodedPlane("jpeg", b"broken")}}] * 10
    bench = Bench(tmp_path)
    for each in refused:
        bench.add(presentation_id="someone", **each)
    forged = frames.fields(frames.frame("gate-1", 999, bench.server.clock.now_ms))
    bench.add({**forged, b"s": bytes(32)})
    bench.add(presentation_id=None)
    reasons = {each.reason for each in await decide_all(bench)}
    assert reasons == {Reason.EXPIRED, Reason.UNDECODABLE, Reason.BAD_SIGNATURE, None}
    assert bench.server.presentations == {}


async def test_a_door_can_check_every_verdict(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add(presentation_id="someone")
    replica = bench.replica()
    seen: list[Any] = []
    commit = replica._stream.commit

    async def noted(commits: Any, on_wait: Any = None) -> Any:
        seen.extend(commits)
        return await commit(commits, on_wait)

    replica._stream.commit = noted  # type: ignore[method-assign]
    await decide_all(bench, replica)
    step = seen[0].presentation
    assert len(step.verdicts) == 1 + len(Undecided)
    for packed, signature in step.verdicts:
        assert signature == sign(packed, door_key(frames.KEY))
