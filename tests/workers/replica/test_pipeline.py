"""The path of a frame on a stream in memory: what becomes of each kind, and nothing is lost."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.planes import Planes
from model.data.quality import QualityLimits
from model.serving.predictor import Prediction
from tests.workers import frames
from workers.replica.committing import NotCommitted
from workers.replica.pipeline import Pipeline
from workers.replica.progress import PipelineStalled, Progress
from workers.replica.telemetry import Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.delivery import CommitResult
from workers.testing import ConstantPredictor, MemoryServer, MemoryStream
from workers.wire.decision import Decision, Outcome, Reason, pack_decision, unpack_decision
from workers.wire.frame import EncodedPlane, pack_frame
from workers.wire.keyring import Keyring
from workers.wire.keys import partition_of
from workers.wire.refusal import GIVEN_UP
from workers.wire.signing import AcceptUnsigned, door_key, sign


class NoMetrics:
    """A metrics backend that keeps nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *_, **__: self

    def __call__(self, *_: Any, **__: Any) -> None:
        return None


class Bench:
    """A server in memory, two cameras with keys, and any number of replicas."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        key_file = folder / "keys.json"
        key_file.write_text(json.dumps({"gate-1": frames.KEY.hex(), "gate-2": frames.KEY.hex()}))
        stream = StreamSettings(partitions=2, lease_ms=200, block_ms=10)
        if not settings.get("allow_unsigned"):
            settings["camera_keys"] = key_file
        self.settings = WorkerSettings(stream=stream, max_batch=4, **settings)
        self.server = MemoryServer(stream)
        self.verifier = (
            Keyring(key_file) if self.settings.camera_keys is not None else AcceptUnsigned()
        )
        self.telemetry = Telemetry(NoMetrics(), 1)

    def replica(self, name: str = "replica", predictor: Any = None) -> Pipeline:
        return Pipeline(
            stream=MemoryStream(self.server, name),
            predictor=predictor or ConstantPredictor(max_batch=4),
            verifier=self.verifier,
            telemetry=self.telemetry,
            settings=self.settings,
            replica=name,
        )

    def add(self, frame: Any = None, *, camera_id: str = "gate-1", **changes: Any) -> str:
        if frame is None:
            seq = changes.pop("seq", len(self.all_ids) + 1)
            changes = {"captured_at_ms": self.server.clock.now_ms, **changes}
            frame = frames.frame(camera_id, seq, **changes)
        fields = frame if isinstance(frame, dict) else frames.fields(frame)
        entry_id = self.server.add(partition_of(camera_id, 2), fields)
        self.all_ids.append(entry_id)
        return entry_id

    @property
    def all_ids(self) -> list[str]:
        if not hasattr(self, "_ids"):
            self._ids: list[str] = []
        return self._ids

    @property
    def decisions(self) -> list[Decision]:
        return [decision for each in self.server.decisions.values() for decision in each]

    @property
    def num_waiting(self) -> int:
        return sum(map(len, self.server.entries.values()))


@asynccontextmanager
async def running(*replicas: Pipeline) -> AsyncIterator[None]:
    """Let replicas work; leave once all they were given is committed."""
    tasks = [asyncio.create_task(replica.run()) for replica in replicas]
    try:
        yield
    finally:
        for replica in replicas:
            replica.drain()
        await asyncio.gather(*tasks)


async def decide_all(bench: Bench, *replicas: Pipeline) -> list[Decision]:
    """Run replicas until nothing waits any more."""
    async with asyncio.timeout(20), running(*(replicas or (bench.replica(),))):
        while bench.num_waiting:
            await asyncio.sleep(0)
    return bench.decisions


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


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


def without(frame: Any, key: str) -> dict[bytes, bytes]:
    import msgpack  # noqa: PLC0415

    body = msgpack.unpackb(pack_frame(frame))
    del body[key]
    return frames.fields(msgpack.packb(body))


BAD: dict[Reason, Callable[[Any], Any]] = {
    Reason.BAD_SIGNATURE: lambda good: {b"f": pack_frame(good), b"s": bytes(32)},
    Reason.UNKNOWN_CAMERA: lambda good: frames.fields(
        frames.frame(
            next(
                c
                for c in ("no-1", "no-2", "no-3", "no-4")
                if partition_of(c, 2) == partition_of("gate-1", 2)
            ),
            1,
            good.captured_at_ms,
        )
    ),
    Reason.MALFORMED: lambda good: without(good, "planes"),
    Reason.TOO_LARGE: lambda good: {**frames.fields(good), b"x": bytes(2 << 20)},
    Reason.UNDECODABLE: lambda good: frames.frame(
        "gate-1", 1, good.captured_at_ms, planes={"rgb": EncodedPlane("jpeg", frames.bomb())}
    ),
    Reason.EXPIRED: lambda good: frames.frame("gate-1", 1, good.captured_at_ms - 60_000),
}


class TestNoDecision:
    @pytest.mark.parametrize("reason", BAD, ids=str)
    async def test_a_bad_frame_costs_itself_only(self, bench: Bench, reason: Reason) -> None:
        good = frames.frame("gate-1", 1, bench.server.clock.now_ms)
        bad_id = bench.add(BAD[reason](good))
        for _ in range(6):
            bench.add()
        decisions = {each.entry_id: each for each in await decide_all(bench)}
        assert decisions.keys() == set(bench.all_ids)
        bad = decisions.pop(bad_id)
        assert (bad.outcome, bad.reason, bad.score) == (Outcome.NO_DECISION, reason, None)
        assert {each.outcome for each in decisions.values()} == {Outcome.BONA_FIDE}
        assert bench.telemetry.tally["dead_letters"] == (reason in GIVEN_UP)

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {b"s": bytes(32)},
            {b"f": b""},
            {b"f": b"\x80"},
            {b"f": b"\xc1" * 40, b"s": bytes(32)},
            {b"f": b"\xdf\xff\xff\xff\xff"},
            {b"f": b"\x81\xa9camera_id\xa6gate-1"},
        ],
    )
    async def test_hostile_bytes_are_refused(self, bench: Bench, fields: Any) -> None:
        bench.add(fields)
        (decision,) = await decide_all(bench)
        assert decision.outcome is Outcome.NO_DECISION
        assert decision.reason in (Reason.MALFORMED, Reason.BAD_SIGNATURE)

    async def test_a_seq_counts_once(self, bench: Bench) -> None:
        frame = frames.frame("gate-1", 5, bench.server.clock.now_ms)
        for _ in range(3):
            bench.add(frame)
        decisions = await decide_all(bench)
        assert sorted(str(each.reason) for each in decisions) == ["None", "replayed", "replayed"]

    async def test_a_frame_from_the_future_can_not_be_replayed_when_its_time_comes(
        self, bench: Bench
    ) -> None:
        ahead = frames.frame("gate-1", 5, bench.server.clock.now_ms + 60_000)
        bench.add(ahead)
        await decide_all(bench)
        bench.server.clock.advance(60_000)
        bench.add(ahead)
        bench.add(seq=6)
        decisions = await decide_all(bench)
        reasons = {each.entry_id: each.reason for each in decisions}
        assert [reasons[entry_id] for entry_id in bench.all_ids] == [
            Reason.MALFORMED,
            Reason.REPLAYED,
            None,
        ]

    async def test_an_expired_frame_needs_no_memory(self, bench: Bench) -> None:
        old = frames.frame("gate-1", 5, bench.server.clock.now_ms - 60_000)
        for _ in range(2):
            bench.add(old)
        decisions = await decide_all(bench)
        assert [each.reason for each in decisions] == [Reason.EXPIRED] * 2
        assert not any(bench.server.seqs.values())

    async def test_a_decision_is_signed_for_the_door(self, bench: Bench) -> None:
        bench.add()
        bench.add({b"f": pack_frame(frames.frame("gate-1", 9, 1)), b"s": bytes(32)})
        by_id = {each.entry_id: each for each in await decide_all(bench)}
        proven, unproven = (by_id[entry_id] for entry_id in bench.all_ids)
        packed = pack_decision(proven)
        assert bench.server.signatures[proven.entry_id] == sign(packed, door_key(frames.KEY))
        assert bench.server.signatures[unproven.entry_id] == b""

    async def test_modalities_without_a_threshold_are_missing(self, bench: Bench) -> None:
        class DepthOnly(ConstantPredictor):
            def threshold_for(self, modalities: Any) -> float | None:
                return self.threshold if "depth" in modalities else None

        bench.add(planes={"rgb": frames.planes()["rgb"]})
        (decision,) = await decide_all(bench, bench.replica(predictor=DepthOnly()))
        assert decision.reason is Reason.MODALITY_MISSING

    async def test_depth_of_another_kind_than_the_bundle_s_is_refused_by_name(
        self, bench: Bench
    ) -> None:
        bench.add()
        predictor = ConstantPredictor(depth_kind="8-bit")
        (decision,) = await decide_all(bench, bench.replica(predictor=predictor))
        assert decision.reason is Reason.UNDECODABLE
        assert "depth is millimetres, the model was trained on 8-bit" in bench.server.dead[0][1]

    async def test_a_face_that_can_not_be_judged_is_told_with_its_figures(
        self, bench: Bench
    ) -> None:
        bench.add()
        dark = QualityLimits(min_ir_brightness=200)
        (decision,) = await decide_all(
            bench, bench.replica(predictor=ConstantPredictor(quality=dark))
        )
        assert (decision.outcome, decision.reason) == (Outcome.NO_DECISION, Reason.LOW_QUALITY)
        assert decision.quality["ir_brightness"] < 200
        assert unpack_decision(pack_decision(decision)) == decision

    async def test_a_frame_from_the_future_is_refused(self, bench: Bench) -> None:
        bench.add(captured_at_ms=bench.server.clock.now_ms + 60_000)
        (decision,) = await decide_all(bench)
        assert decision.reason is Reason.MALFORMED
        assert "clock" in bench.server.dead[0][1]

    async def test_a_frame_in_the_wrong_partition_is_refused(self, bench: Bench) -> None:
        frame = frames.frame("gate-1", 1, bench.server.clock.now_ms)
        bench.server.add(1 - partition_of("gate-1", 2), frames.fields(frame))
        (decision,) = await decide_all(bench)
        assert decision.reason is Reason.MALFORMED

    async def test_unsigned_frames_pass_where_a_deployment_allows_it(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, allow_unsigned=True)
        frame = frames.frame("gate-1", 1, bench.server.clock.now_ms)
        bench.add({b"f": pack_frame(frame)})
        (decision,) = await decide_all(bench)
        assert decision.outcome is Outcome.BONA_FIDE


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


def test_planes_reach_the_network_in_its_size() -> None:
    assert Planes(rgb=np.zeros((4, 4, 3), np.uint8)).present == ("rgb",)
