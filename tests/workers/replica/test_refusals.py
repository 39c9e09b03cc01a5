"""Frames that get no verdict: which reason, and that they cost nobody else anything."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.data.quality import QualityLimits
from tests.workers import frames
from tests.workers.replica.bench import Bench, decide_all
from workers.testing import ConstantPredictor
from workers.wire.decision import Outcome, Reason, pack_decision, unpack_decision
from workers.wire.frame import EncodedPlane, pack_frame
from workers.wire.keys import partition_of
from workers.wire.refusal import GIVEN_UP
from workers.wire.signing import door_key, sign


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
