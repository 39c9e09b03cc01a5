"""What fails in a replica: no frame is lost by it, and none is decided twice."""

import asyncio
import time
from typing import Any

import pytest

from model.serving.predictor import Prediction
from tests.workers.replica.bench import Bench, decide_all, running
from workers.replica.progress import PipelineStalled, Progress
from workers.stream.delivery import CommitResult
from workers.testing import ConstantPredictor, MemoryStream
from workers.wire.decision import Outcome, Reason


class TestFailure:
    async def test_a_failed_batch_is_tried_frame_by_frame(self, bench: Bench) -> None:
        for _ in range(4):
            bench.add()
        predictor = ConstantPredictor(max_batch=4, failures=1)
        decisions = await decide_all(bench, bench.replica(predictor=predictor))
        assert len(decisions) == 4
        failed = [each for each in decisions if each.reason is Reason.WORKER_FAILED]
        assert len(failed) == (1 if predictor.batches[0] == 1 else 0)

    async def test_a_frame_that_fails_alone_is_given_up_on(self, bench: Bench) -> None:
        bench.add()
        predictor = ConstantPredictor(failures=1)
        (decision,) = await decide_all(bench, bench.replica(predictor=predictor))
        assert decision.reason is Reason.WORKER_FAILED
        assert "made to fail" in bench.server.dead[0][1]

    async def test_a_frame_that_was_handed_out_too_often_is_given_up_on(self, bench: Bench) -> None:
        bench.add()
        for number in range(bench.settings.stream.max_deliveries):
            stream = MemoryStream(bench.server, f"dead-{number}")
            assert await (stream.reclaim if number else stream.read)(stream.groups[0], 4)
            bench.server.clock.advance(201)
        (decision,) = await decide_all(bench)
        assert decision.reason is Reason.WORKER_FAILED

    async def test_a_replica_that_lost_its_frame_commits_nothing(self, bench: Bench) -> None:
        bench.add()
        gate = asyncio.Event()
        loop = asyncio.get_running_loop()

        class Slow(ConstantPredictor):
            def predict(self, planes: Any) -> Prediction:
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result()
                return super().predict(planes)

        zombie = bench.replica("zombie", Slow(score=0.9))
        async with asyncio.timeout(20), running(zombie):
            while not zombie.num_in_flight:
                await asyncio.sleep(0)
            heir = MemoryStream(bench.server, "heir")
            bench.server.clock.advance(201)
            await heir.beat()  # or the zombie would take it back
            (taken,) = await heir.reclaim(heir.groups[0], 4)
            gate.set()
            while zombie.num_in_flight:
                await asyncio.sleep(0)
            assert bench.decisions == []
            assert bench.telemetry.tally["commits_refused"] == 1
            assert bench.server.pending[taken.partition][taken.id].consumer == "heir"

    async def test_a_verdict_that_waited_too_long_expires(self, bench: Bench) -> None:
        class Dawdling(ConstantPredictor):
            def predict(self, planes: Any) -> Prediction:
                bench.server.clock.advance(bench.settings.deadline_ms + 1)
                return super().predict(planes)

        bench.add()
        (decision,) = await decide_all(bench, bench.replica(predictor=Dawdling()))
        assert (decision.outcome, decision.reason) == (Outcome.NO_DECISION, Reason.EXPIRED)

    def test_a_step_that_stands_still_is_noticed(self) -> None:
        is_up = True
        progress = Progress(0.0, lambda _: is_up)
        progress.check()
        with progress.at("infer"), pytest.raises(PipelineStalled, match="no headway in infer"):
            progress.check()
        with progress.at("commit", [0]):
            with pytest.raises(PipelineStalled, match="no headway in commit"):
                progress.check()
            is_up = False  # who waits for a server that is away does what it should
            progress.check()
        progress.check()

    async def test_an_outage_that_has_ended_is_no_standstill(self, bench: Bench) -> None:
        """The server is there again, and the commit that waited for it has yet to try."""
        replica = bench.replica()
        working = replica._progress._working

        class Away(MemoryStream):
            async def commit(self, commits: Any, on_wait: Any = None) -> list[CommitResult]:
                (token,) = (each for each, (step, *_) in working.items() if step == "commit")
                working[token] = ("commit", self.groups[0], time.monotonic() - 3600)
                with pytest.raises(PipelineStalled, match="no headway in commit"):
                    replica.check()
                on_wait()
                replica.check()
                return await super().commit(commits)

        replica._stream = replica._committer._stream = Away(bench.server, "replica")
        bench.add()
        (decision,) = await decide_all(bench, replica)
        assert decision.reason is None

    async def test_a_step_that_fails_ends_the_replica_and_decides_nothing(
        self, bench: Bench
    ) -> None:
        class Broken(MemoryStream):
            async def reclaim(self, group: Any, slots: int) -> list[Any]:
                raise ZeroDivisionError("a defect")

        replica = bench.replica(predictor=ConstantPredictor(max_batch=4))
        replica._stream = Broken(bench.server, "replica")
        for _ in range(20):
            bench.add()
        async with asyncio.timeout(20):
            await replica.run()
        with pytest.raises(PipelineStalled, match="a defect"):
            replica.check()
        assert {each.reason for each in bench.decisions} <= {None}
        assert len(bench.decisions) + bench.num_waiting == 20

    async def test_a_decision_that_can_not_be_written_is_told_by_a_dead_letter(
        self, bench: Bench
    ) -> None:
        class Unwritable(MemoryStream):
            async def commit(self, commits: Any, on_wait: Any = None) -> list[CommitResult]:
                return [
                    CommitResult.BLOCKED if each.camera_id else self._commit(each)
                    for each in commits
                ]

        replica = bench.replica()
        replica._stream = replica._committer._stream = Unwritable(bench.server, "replica")
        bench.add()
        (decision,) = await decide_all(bench, replica)
        assert decision.reason is Reason.WORKER_FAILED
        assert "can't be written" in bench.server.dead[0][1]

    async def test_one_that_expired_does_not_keep_its_neighbours_waiting(
        self, bench: Bench
    ) -> None:
        passes: list[list[CommitResult]] = []
        in_flight: list[int] = []

        class Watching(MemoryStream):
            async def commit(self, commits: Any, on_wait: Any = None) -> list[CommitResult]:
                in_flight.append(replica.num_in_flight)
                results = await super().commit(commits)
                passes.append(results)
                return results

        class Dawdling(ConstantPredictor):
            def predict(self, planes: Any) -> Prediction:
                bench.server.clock.advance(bench.settings.deadline_ms - 100)
                return super().predict(planes)

        replica = bench.replica(predictor=Dawdling(max_batch=4))
        replica._stream = replica._committer._stream = Watching(bench.server, "replica")
        bench.add(captured_at_ms=bench.server.clock.now_ms - 200)
        for _ in range(3):
            bench.add()
        decisions = await decide_all(bench, replica)
        assert [str(each.reason) for each in decisions].count("expired") >= 1
        first = passes.index(next(each for each in passes if CommitResult.EXPIRED in each))
        assert in_flight[first + 1] == passes[first].count(CommitResult.EXPIRED) + (
            in_flight[first] - len(passes[first])
        )
