"""What one frame, camera or step does to the others of its replica: as little as can be."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from model.serving.predictor import Prediction
from tests.workers import frames
from tests.workers.replica.bench import Bench, decide_all, running
from workers.replica.committing import NotCommitted
from workers.testing import ConstantPredictor, MemoryStream
from workers.wire.decision import Reason
from workers.wire.frame import pack_frame


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, max_camera_fps=5)


class TestQuota:
    async def test_frames_over_the_quota_are_refused_and_no_neighbour_s(self, bench: Bench) -> None:
        for _ in range(20):
            bench.add(camera_id="gate-1")
        calm = [bench.add(camera_id="gate-2") for _ in range(5)]
        decisions = await decide_all(bench)
        by_reason = [each.reason for each in decisions if each.camera_id == "gate-1"]
        assert by_reason.count(Reason.OVER_QUOTA) == 15
        assert {each.reason for each in decisions if each.entry_id in calm} == {None}
        assert bench.server.dead == []

    async def test_frames_that_nobody_signed_use_no_quota_up(self, bench: Bench) -> None:
        forged = frames.frame("gate-1", 1, bench.server.clock.now_ms)
        for _ in range(20):
            bench.add({b"f": pack_frame(forged), b"s": bytes(32)})
        good = [bench.add(seq=100 + number) for number in range(5)]
        decisions = {each.entry_id: each for each in await decide_all(bench)}
        assert {decisions[each].reason for each in good} == {None}

    async def test_a_frame_that_was_not_judged_may_be_sent_again(self, bench: Bench) -> None:
        for _ in range(6):
            bench.add()
        decisions = await decide_all(bench)
        (refused,) = [each for each in decisions if each.reason is Reason.OVER_QUOTA]
        bench.server.clock.advance(1000)
        again = bench.add(seq=refused.seq)
        decisions = await decide_all(bench)
        assert {each.entry_id: each.reason for each in decisions}[again] is None


class TestReclaimed:
    async def test_what_may_have_ended_a_replica_meets_nothing_that_was_reclaimed_before(
        self, bench: Bench
    ) -> None:
        for name in ("first", "second"):
            stream = MemoryStream(bench.server, name)
            if name == "first":
                for _ in range(4):
                    bench.add()
                assert await stream.read(stream.groups[0], 4)
            else:
                while await stream.reclaim(stream.groups[0], 4):
                    pass
            bench.server.clock.advance(bench.settings.stream.lease_ms + 1)
        in_flight: list[int] = []

        class Watching(MemoryStream):
            async def reclaim(self, group: Any, slots: int) -> Any:
                in_flight.append(replica.num_in_flight)
                return await super().reclaim(group, slots)

        replica = bench.replica()
        replica._stream = replica._committer._stream = Watching(bench.server, "replica")
        assert len(await decide_all(bench, replica)) == 4
        assert set(in_flight) == {0}


class TestStandstill:
    async def test_a_replica_that_makes_no_headway_lets_others_take_over(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench(tmp_path, stall_s=0.05)
        go_on = threading.Event()
        num_beats = 0

        class Hung(ConstantPredictor):
            def predict(self, planes: Any) -> Prediction:
                go_on.wait(30)
                return super().predict(planes)

        class Watching(MemoryStream):
            async def beat(self) -> None:
                nonlocal num_beats
                num_beats += 1
                await super().beat()

        replica = bench.replica(predictor=Hung())
        replica._stream = replica._committer._stream = Watching(bench.server, "replica")
        bench.add()
        async with asyncio.timeout(30), running(replica):
            while "no headway in infer" not in caplog.text:
                await asyncio.sleep(0)
            before, num_skipped = num_beats, caplog.text.count("no beat")
            while caplog.text.count("no beat") < num_skipped + 2:
                await asyncio.sleep(0)
            assert num_beats == before
            go_on.set()

    async def test_a_frame_by_http_is_refused_until_the_server_is_there(self, bench: Bench) -> None:
        replica = bench.replica()
        replica._stream.groups = ()
        with pytest.raises(NotCommitted, match="has not been reached yet"):
            await replica.answer({}, 0.0)
