"""The path of a frame on a stream in memory: one decision each, and no more held than allowed."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from model.data.planes import Planes
from model.serving.predictor import Prediction, Predictor
from tests.workers.replica.bench import Bench, decide_all, running
from workers.testing import ConstantPredictor
from workers.wire.decision import Outcome, Reason


class TestVerdict:
    async def test_a_score_at_the_threshold_is_bona_fide(self, bench: Bench) -> None:
        bench.add(presentation_id="someone")
        predictor = ConstantPredictor(score=0.5, threshold=0.5)
        (decision,) = await decide_all(bench, bench.replica(predictor=predictor))
        assert decision.outcome is Outcome.BONA_FIDE
        assert (decision.score, decision.threshold, decision.reason) == (0.5, 0.5, None)
        assert (decision.camera_id, decision.presentation_id) == ("gate-1", "someone")
        assert decision.modalities == ("rgb", "depth", "ir")
        assert decision.model == predictor.model_id
        assert set(decision.timing_ms) == {"queue", "decode", "batch", "infer", "commit", "total"}

    @pytest.mark.parametrize("score", [0.4999, 0.0, float("nan")])
    async def test_a_score_below_it_or_no_number_is_an_attack(
        self, bench: Bench, score: float
    ) -> None:
        bench.add()
        (decision,) = await decide_all(
            bench, bench.replica(predictor=ConstantPredictor(score=score))
        )
        assert decision.outcome is Outcome.ATTACK

    async def test_each_frame_gets_exactly_one_decision_from_two_replicas(
        self, bench: Bench
    ) -> None:
        for number in range(60):
            bench.add(camera_id=f"gate-{1 + number % 2}")
        decisions = await decide_all(bench, bench.replica("one"), bench.replica("two"))
        assert sorted(each.entry_id for each in decisions) == sorted(bench.all_ids)
        assert {each.replica for each in decisions} == {"one", "two"}


class TestSlots:
    async def test_a_replica_holds_at_most_two_batches(self, bench: Bench) -> None:
        for _ in range(40):
            bench.add()
        held: list[int] = []

        class Watching(ConstantPredictor):
            def predict(self, planes: list[Planes]) -> Prediction:
                held.append(sum(map(len, bench.server.pending.values())))
                return super().predict(planes)

        predictor = Watching(max_batch=4)
        await decide_all(bench, bench.replica(predictor=predictor))
        assert max(held) <= 8
        assert max(predictor.batches) <= 4

    async def test_a_replica_that_drains_reads_nothing_for_slots_that_get_free(
        self, bench: Bench
    ) -> None:
        for _ in range(40):
            bench.add()
        go_on = threading.Event()

        class Waiting(ConstantPredictor):
            def predict(self, planes: Any) -> Prediction:
                go_on.wait(30)
                return super().predict(planes)

        replica = bench.replica(predictor=Waiting(max_batch=4))
        async with asyncio.timeout(30), running(replica):
            while not replica._slots._num_free < 1:
                await asyncio.sleep(0)
            held = sum(map(len, bench.server.pending.values()))
            replica.drain()
            go_on.set()
        assert len(bench.decisions) == held < 40
        assert not any(bench.server.pending.values())


class TestChunks:
    """What was read at once is opened in few jobs, in which each frame stands for itself."""

    async def test_a_job_opens_several_frames(self, bench: Bench) -> None:
        for _ in range(6):
            bench.add()
        replica, sizes = bench.replica(), []
        open_some = replica._opener.open

        def counting(frames: Any, *args: Any) -> Any:
            sizes.append(len(frames))
            return open_some(frames, *args)

        replica._opener.open = counting  # type: ignore[method-assign]
        assert len(await decide_all(bench, replica)) == 6
        assert sum(sizes) == 6
        assert len(sizes) <= 4

    async def test_a_frame_that_is_refused_takes_no_neighbour_along(self, bench: Bench) -> None:
        bad = [bench.add({b"f": b"\xc1", b"s": bytes(32)}) for _ in range(2)]
        good = [bench.add() for _ in range(2)]
        decisions = {each.entry_id: each.reason for each in await decide_all(bench)}
        assert {decisions[each] for each in bad} == {Reason.MALFORMED}
        assert {decisions[each] for each in good} == {None}

    async def test_nor_does_one_that_meets_a_defect(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bad = [bench.add(camera_id="gate-1") for _ in range(2)]
        good = [bench.add(camera_id="gate-2") for _ in range(2)]
        replica = bench.replica()

        def predictor_for(camera_id: str) -> Predictor:
            if camera_id == "gate-1":
                raise ZeroDivisionError
            return replica.predictor

        replica.predictor_for = predictor_for
        decisions = {each.entry_id: each.reason for each in await decide_all(bench, replica)}
        assert {decisions[each] for each in bad} == {Reason.WORKER_FAILED}
        assert {decisions[each] for each in good} == {None}
        assert "a frame could not be opened" in caplog.text


class TestSwap:
    async def test_a_new_model_takes_over_between_two_batches(self, bench: Bench) -> None:
        replica = bench.replica(predictor=ConstantPredictor(score=0.9, model_id="old@0"))
        async with asyncio.timeout(20), running(replica):
            for number in range(40):
                bench.add()
                if number == 20:
                    replica.predictor = ConstantPredictor(score=0.1, size=64, model_id="new@0")
            while bench.num_waiting:
                await asyncio.sleep(0)
        assert sorted(each.entry_id for each in bench.decisions) == sorted(bench.all_ids)
        wrong = [
            each
            for each in bench.decisions
            if (each.model == "new@0") != (each.outcome is Outcome.ATTACK)
        ]
        assert wrong == []


class TestCanary:
    async def test_a_camera_is_judged_by_whom_it_is_chosen_for_and_the_decision_says_so(
        self, bench: Bench
    ) -> None:
        replica = bench.replica(predictor=ConstantPredictor(score=0.9, model_id="old@0"))
        new = ConstantPredictor(score=0.1, size=64, model_id="new@0")
        replica.predictor_for = lambda camera: new if camera == "gate-2" else replica.predictor
        for number in range(20):
            bench.add(camera_id=f"gate-{1 + number % 2}")
        decisions = await decide_all(bench, replica)
        assert {(each.camera_id, each.model, each.outcome) for each in decisions} == {
            ("gate-1", "old@0", Outcome.BONA_FIDE),
            ("gate-2", "new@0", Outcome.ATTACK),
        }


def test_planes_reach_the_network_in_its_size() -> None:
    assert Planes(rgb=np.zeros((4, 4, 3), np.uint8)).present == ("rgb",)
