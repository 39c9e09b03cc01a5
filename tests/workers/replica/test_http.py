"""Frames that came by HTTP: decided in time, or said not to be."""

import asyncio
import threading
import time
from typing import Any

import pytest

from model.data.planes import Planes
from model.serving.predictor import Prediction
from tests.workers import frames
from tests.workers.replica.bench import Bench, running
from workers.replica.committing import NotCommitted
from workers.stream.delivery import CommitResult
from workers.testing import ConstantPredictor, MemoryStream
from workers.wire.decision import Outcome, Reason


class TestDirect:
    async def test_a_frame_that_came_by_http_is_decided(self, bench: Bench) -> None:
        replica = bench.replica()
        fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
        async with asyncio.timeout(20), running(replica):
            first, again = (
                await replica.decide(fields, time.monotonic()),
                await replica.decide(fields, time.monotonic()),
            )
        assert first.outcome is Outcome.BONA_FIDE
        assert again.reason is Reason.REPLAYED
        assert bench.decisions == []

    async def test_its_age_counts_from_when_the_request_began(self, bench: Bench) -> None:
        replica = bench.replica()
        fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
        began_s = time.monotonic() - bench.settings.deadline_ms / 1000 - 0.001
        async with asyncio.timeout(20), running(replica):
            decision = await replica.decide(fields, began_s)
        assert decision.reason is Reason.EXPIRED

    async def test_no_verdict_comes_out_after_the_deadline(self, bench: Bench) -> None:
        class Slow(MemoryStream):
            async def admit(self, use: Any) -> CommitResult:
                self.server.clock.advance(bench.settings.deadline_ms + 1)
                return await super().admit(use)

        replica = bench.replica()
        replica._committer._stream = Slow(bench.server, "replica")
        fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
        async with asyncio.timeout(20), running(replica):
            decision = await replica.decide(fields, time.monotonic())
        assert (decision.outcome, decision.reason) == (Outcome.NO_DECISION, Reason.EXPIRED)

    async def test_a_drain_finishes_it(self, bench: Bench) -> None:
        is_inferring, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        class Slow(ConstantPredictor):
            def predict(self, planes: list[Planes]) -> Prediction:
                loop.call_soon_threadsafe(is_inferring.set)
                go_on.wait(10)
                return super().predict(planes)

        replica = bench.replica(predictor=Slow(max_batch=4))
        async with asyncio.timeout(20):
            running = asyncio.create_task(replica.run())
            fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
            asked = asyncio.create_task(replica.decide(fields, time.monotonic()))
            await is_inferring.wait()
            replica.drain()
            go_on.set()
            await running
            assert replica.num_in_flight == 0
            assert (await asked).outcome is Outcome.BONA_FIDE

    async def test_whoever_asked_may_leave(self, bench: Bench) -> None:
        is_inferring, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        class Slow(ConstantPredictor):
            def predict(self, planes: list[Planes]) -> Prediction:
                loop.call_soon_threadsafe(is_inferring.set)
                go_on.wait(10)
                return super().predict(planes)

        replica = bench.replica(predictor=Slow(max_batch=4))
        async with asyncio.timeout(20), running(replica):
            fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
            asked = asyncio.create_task(replica.decide(fields, time.monotonic()))
            await is_inferring.wait()
            asked.cancel()
            await asyncio.wait([asked])
            go_on.set()
            fields = frames.fields(frames.frame("gate-1", 2, bench.server.clock.now_ms))
            decision = await replica.decide(fields, time.monotonic())
            assert decision.outcome is Outcome.BONA_FIDE
        replica.check()

    async def test_it_says_so_if_it_could_not_be_committed(self, bench: Bench) -> None:
        class Blocked(MemoryStream):
            async def admit(self, use: Any) -> CommitResult:
                return CommitResult.BLOCKED

        replica = bench.replica()
        replica._committer._stream = Blocked(bench.server, "replica")
        fields = frames.fields(frames.frame("gate-1", 1, bench.server.clock.now_ms))
        async with asyncio.timeout(20), running(replica):
            with pytest.raises(NotCommitted):
                await replica.decide(fields, time.monotonic())
