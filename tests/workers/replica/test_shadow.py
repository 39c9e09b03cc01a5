"""A shadow sees what was decided, takes nothing from it, and counts what it had no time for."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.local.processes import descendants
from tests.workers import frames
from tests.workers.replica.bench import Bench, running
from workers.replica import shadow as shadowing
from workers.replica.models import is_in_share
from workers.replica.pipeline import Pipeline
from workers.replica.shadow import Shadow
from workers.replica.shadow_process import judge
from workers.replica.shadow_tally import ShadowTally, read_tally
from workers.replica.telemetry import NoMetrics
from workers.settings import StreamSettings
from workers.stream.connection import connect
from workers.stream.failure import FAILURES
from workers.testing import ConstantPredictor
from workers.wire.decision import Outcome, Reason
from workers.wire.frame import pack_frame

SHIPPED = "rendered-small"
# At normal priority: beside other tests, a process that gives way would never begin.
COMMAND = (
    sys.executable,
    "-c",
    "from workers.replica import shadow_process as s\n"
    "from workers.testing import ConstantPredictor\n"
    "s.give_way = lambda: None\n"
    "s.open_engine = lambda *_, **__: ConstantPredictor(score=0.1)\n"
    "s.main()",
)


class Tally(ShadowTally):
    """Shows what is counted."""

    def __init__(self) -> None:
        super().__init__(NoMetrics())

    @property
    def counts(self) -> dict[str, int]:
        return {
            name: count
            for counts in self._kept.values()
            for name, count in counts.items()
            if name.startswith(("outcomes", "dropped"))
        }


@asynccontextmanager
async def shadowed(
    bench: Bench,
    bundle: str = SHIPPED,
    share: float = 1.0,
    is_idle: Callable[[], bool] = lambda: True,
) -> AsyncIterator[tuple[Pipeline, Tally]]:
    replica, tally = bench.replica(predictor=ConstantPredictor(max_batch=4)), Tally()
    made = Shadow(bundle, "random@0", share, tally, is_idle, patience_s=60)
    replica.on_judged = made.show
    try:
        async with running(replica):
            yield replica, tally
    finally:
        await made.aclose()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(180):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadowing, "_COMMAND", COMMAND)
    monkeypatch.setattr(shadowing, "_RESTART_S", 0.01)


async def test_it_judges_what_is_in_its_share_and_could_differ(bench: Bench) -> None:
    num_frames, share = 24, 0.5
    async with shadowed(bench, share=share) as (_, tally):
        for seq in range(num_frames):
            bench.add(seq=seq)
        bench.add(frames.fields(pack_frame(frames.frame("gate-1", 99, 0)), key=b"x" * 32))
        bench.add(seq=98, captured_at_ms=1)  # expired
        shown = [seq for seq in range(num_frames) if is_in_share(f"gate-1/{seq}", share)]
        await until(lambda: sum(tally.counts.values()) == len(shown))
        assert tally.counts == {"outcomes:bona_fide:attack": len(shown)}
        assert len(bench.decisions) == num_frames + 2
        assert {each.model for each in bench.decisions if not each.reason} == {
            "constant@000000000000"
        }


async def test_a_busy_replica_shows_it_nothing_and_counts_what_it_drops(
    bench: Bench,
) -> None:
    is_idle = False
    async with shadowed(bench, is_idle=lambda: is_idle) as (_, tally):
        num_frames = shadowing._MAX_WAITING + 8
        for seq in range(num_frames):
            bench.add(camera_id=f"gate-{1 + seq % 2}", seq=seq)
        await until(lambda: len(bench.decisions) == num_frames)
        assert tally.counts == {"dropped:busy": 8}
        is_idle = True
        await until(lambda: sum(tally.counts.values()) == num_frames)
        assert tally.counts["dropped:busy"] == 8


async def test_one_that_dies_on_a_frame_is_counted_and_begins_anew(
    bench: Bench,
) -> None:
    async with shadowed(bench) as (_, tally):
        bench.add()
        await until(lambda: tally.counts)
        (process,) = [each for each in descendants(os.getpid()) if "shadow_process" in each.title]
        os.kill(process.pid, signal.SIGSTOP)
        bench.add()
        await until(lambda: len(bench.decisions) == 2)  # its frame's decision does not wait for it
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: "dropped:failed" in tally.counts)
        bench.add()
        await until(lambda: sum(tally.counts.values()) == 3)
        assert len(bench.decisions) == 3
    assert not [each for each in descendants(os.getpid()) if "shadow_process" in each.title]


async def test_one_that_is_ended_has_not_failed_on_its_frame(bench: Bench) -> None:
    async with shadowed(bench) as (replica, tally):
        bench.add()
        await until(lambda: tally.counts)
        (process,) = [each for each in descendants(os.getpid()) if "shadow_process" in each.title]
        os.kill(process.pid, signal.SIGSTOP)
        bench.add()
        shadow: Any = replica.on_judged
        await until(lambda: len(bench.decisions) == 2 and not shadow.__self__._waiting)
    assert "dropped:failed" not in tally.counts


async def test_a_candidate_that_can_not_be_used_is_tried_again_and_hurts_nobody(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with shadowed(bench, str(tmp_path)) as (_, tally):
        bench.add()
        await until(lambda: caplog.text.count("no bundle folder") > 1)
        assert len(bench.decisions) == 1
        assert tally.counts == {}


def test_it_judges_as_a_replica_does() -> None:
    frame = frames.frame("gate-1", 1, 0)
    packed = pack_frame(frame)
    for score, outcome in ((0.5, Outcome.BONA_FIDE), (0.4999, Outcome.ATTACK)):
        found = judge(ConstantPredictor(score=score, threshold=0.5), packed)
        assert (found["outcome"], found["score"]) == (outcome, np.float32(score))
    found = judge(ConstantPredictor(score=float("nan")), packed)
    assert found["outcome"] == Outcome.ATTACK

    class Strict(ConstantPredictor):
        def threshold_for(self, modalities: Any) -> float | None:
            return None

    found = judge(Strict(), packed)
    assert (found["outcome"], found["reason"]) == ("no_decision", Reason.MODALITY_MISSING)


async def test_counts_of_all_replicas_are_added_up(stream_settings: StreamSettings) -> None:
    servers = connect(stream_settings.url)
    one, two, away = Tally(), Tally(), connect("redis://127.0.0.1:1")
    for tally, reasons in ((one, ("busy", "busy")), (two, ("busy", "failed"))):
        for reason in reasons:
            tally.dropped("m@1", "c@2", reason)
    with pytest.raises(FAILURES):
        await one.keep(away)
    for tally in (one, two, one):
        await tally.keep(servers)
    found = await read_tally(servers, "m@1", "c@2")
    assert found == {"dropped:busy": 3, "dropped:failed": 1}
    assert await read_tally(servers, "m@1", "c@3") == {}
    await servers.aclose()
    await away.aclose()
