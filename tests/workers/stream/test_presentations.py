"""The verdict on a presentation, in memory and on real servers: once, and what the test says."""

import uuid
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies

from tests.workers.stream.bench import (
    PRESENTATION,
    Bench,
    camera_in,
    commit_of,
    commit_one,
    read_all,
)
from tests.workers.stream.test_stream import joined
from tests.workers.wire.told import VERDICT
from workers.settings import StreamSettings
from workers.stream.delivery import CommitResult, FrameStream, PresentationStep
from workers.wire import keys
from workers.wire.decision import Outcome
from workers.wire.presentation import PresentationVerdict, Undecided, pack_verdict

CAMERA = camera_in(0)
FOR, AGAINST = 3.0, -3.0
# A clock that is ahead of its server's runs slower.
SILENCE_MS, REFUSED_MS = 2 * PRESENTATION.silence_ms, round(2000 * PRESENTATION.refused_s)


def step_of(evidence: float, presentation_id: str = "someone", seq: int = 1) -> PresentationStep:
    verdict = replace(
        VERDICT,
        camera_id=CAMERA,
        presentation_id=presentation_id,
        seq=seq,
        outcome=Outcome.BONA_FIDE if evidence > 0 else Outcome.ATTACK,
        reason=None,
    )
    told = [verdict] + [
        replace(verdict, outcome=Outcome.NO_DECISION, reason=reason) for reason in Undecided
    ]
    verdicts = [(pack_verdict(each), b"signature") for each in told]
    return PresentationStep("key", presentation_id, evidence, verdicts)


async def weigh(bench: Bench, stream: FrameStream, *steps: PresentationStep) -> None:
    for step in steps:
        await bench.add()
        (entry,) = await read_all(stream)
        commit = commit_of(entry, camera_id=CAMERA, presentation=step)
        assert await commit_one(stream, commit) is CommitResult.COMMITTED


def told(verdicts: list[PresentationVerdict]) -> list[str]:
    return [each.reason or each.outcome for each in verdicts]


async def test_evidence_adds_up_to_one_verdict(bench: Bench) -> None:
    stream = await bench.join("one")
    await weigh(bench, stream, step_of(FOR), step_of(FOR, seq=2))
    assert await bench.verdicts(CAMERA) == []
    await weigh(bench, stream, *(step_of(FOR, seq=seq) for seq in range(3, 9)))
    (verdict,) = await bench.verdicts(CAMERA)
    assert verdict.outcome is Outcome.BONA_FIDE
    assert verdict.seq == 4
    assert len(await bench.decisions()) == 8


async def test_one_that_was_refused_stays_refused_until_it_is_over(bench: Bench) -> None:
    stream = await bench.join("one")
    await weigh(bench, stream, *[step_of(AGAINST)] * 3, *[step_of(FOR)] * 9)
    assert told(await bench.verdicts(CAMERA)) == ["attack"]
    await bench.let_time_pass(SILENCE_MS)
    await weigh(bench, stream, *[step_of(FOR)] * 4)
    assert told(await bench.verdicts(CAMERA)) == ["attack", "bona_fide"]


async def test_presentations_do_not_mix(bench: Bench) -> None:
    stream = await bench.join("one")
    await weigh(bench, stream, *(step_of(FOR, f"person {number}") for number in range(6)))
    assert await bench.verdicts(CAMERA) == []


async def test_one_that_goes_on_without_end_is_undecided(bench: Bench) -> None:
    stream = await bench.join("one")
    for_and_against = [step_of(FOR), step_of(AGAINST)] * PRESENTATION.max_frames
    await weigh(bench, stream, *for_and_against)
    assert told(await bench.verdicts(CAMERA)) == ["undecided"]


async def test_who_tries_too_often_is_let_in_no_more_for_a_while(bench: Bench) -> None:
    stream = await bench.join("one")
    for number in range(PRESENTATION.max_refused):
        await weigh(bench, stream, *[step_of(AGAINST, f"attack {number}")] * 3)
    await weigh(bench, stream, *[step_of(FOR, "at last")] * 9)
    assert told(await bench.verdicts(CAMERA)) == ["attack", "attack", "too_many_attempts"]
    await bench.let_time_pass(REFUSED_MS)
    await weigh(bench, stream, *[step_of(FOR, "somebody else")] * 4)
    assert told(await bench.verdicts(CAMERA))[-1] == "bona_fide"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(evidence=strategies.lists(strategies.floats(-4, 4), min_size=1, max_size=8))
async def test_it_is_what_the_sequential_test_says(bench: Bench, evidence: list[float]) -> None:
    stream = await bench.join("one")
    name = uuid.uuid4().hex
    before = len(await bench.verdicts(CAMERA))
    # A new key has no refused attempts.
    steps = (replace(step_of(each, name), key_id=name) for each in evidence)
    await weigh(bench, stream, *steps)
    totals = [sum(evidence[: count + 1]) for count in range(len(evidence))]
    expected = [PRESENTATION.test.verdict(total, at + 1) for at, total in enumerate(totals)]
    first = next((each for each in expected if each is not None), None)
    assert told(await bench.verdicts(CAMERA))[before:] == ([] if first is None else [first])


@pytest.mark.parametrize("which", [keys.presentation, keys.attempts])
async def test_what_can_not_be_kept_costs_the_verdict_and_no_decision(
    stream_settings: StreamSettings, which: Any
) -> None:
    parts = (0, CAMERA, "key", "someone")
    name = which(*parts[: 4 if which is keys.presentation else 3])
    with redis.Redis.from_url(stream_settings.url) as client:
        client.lpush(name, "of another type")
        async with joined(stream_settings, "one") as (stream,):
            for _ in range(9):
                client.xadd(keys.frames(0), {"f": b"frame"})
                (entry,) = await read_all(stream)
                commit = commit_of(entry, camera_id=CAMERA, presentation=step_of(FOR))
                assert await commit_one(stream, commit) is CommitResult.COMMITTED
        rows: Any = client.xrange(keys.camera_decisions(0, CAMERA))
    assert [sorted(fields) for _, fields in rows] == [[b"d"]] * 9
