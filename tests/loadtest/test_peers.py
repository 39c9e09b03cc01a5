"""The comparison with peers: what each is given and asked for, without the peers themselves."""

import asyncio
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from loadtest.bench.material import KEY, encoded, key_file, sample_frames, signed
from loadtest.bench.peers import judging
from loadtest.bench.peers.clients import LivegateClient, NotThere
from loadtest.bench.peers.compare import Figures
from loadtest.bench.peers.runs import at_rate, saturated
from tests.workers.replica.bench import running
from workers.replica.pipeline import Pipeline
from workers.replica.telemetry import NoMetrics, Telemetry
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.redis_stream import RedisStream
from workers.testing import ConstantPredictor
from workers.wire.decision import Decision, Outcome, unpack_decision
from workers.wire.keyring import Keyring
from workers.wire.refusal import BadSignature
from workers.wire.signing import door_key, sign

Frames = Iterator[tuple[str, dict[bytes, bytes]]]


@pytest.fixture
def settings(tmp_path: Path, stream_settings: StreamSettings) -> WorkerSettings:
    (tmp_path / "keys.json").write_text(json.dumps(key_file()))
    stream = stream_settings.model_copy(update={"partitions": 1})
    return WorkerSettings(stream=stream, camera_keys=tmp_path / "keys.json", max_batch=4)


def frames(num_frames: int) -> Frames:
    samples = sample_frames(3)
    return signed(samples, encoded(samples, "jpeg + pco"), num_frames)


def test_a_peer_s_answers_are_signed_decisions_on_what_it_was_sent(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "open_engine", lambda *_: ConstantPredictor(max_batch=4))
    judge = judging.FrameJudge(settings)
    bodies = [fields[b"s"] + fields[b"f"] for _, fields in frames(3)]
    # As Mosec hands them from one stage to the next.
    opened = [pickle.loads(pickle.dumps(judge.open(body))) for body in bodies]  # noqa: S301
    answers = judge.judge(opened)
    for each, answer in zip(opened, answers, strict=True):
        decision = unpack_decision(answer[32:])
        assert (decision.outcome, decision.seq) == (Outcome.BONA_FIDE, each.frame.seq)
        assert decision.modalities == ("rgb", "depth", "ir")
        assert answer[:32] == sign(answer[32:], door_key(KEY))
    with pytest.raises(BadSignature):
        judge.open(bytes(32) + bodies[0][32:])


async def test_ours_is_spoken_to_as_cameras_and_doors_do(settings: WorkerSettings) -> None:
    assert settings.camera_keys is not None
    pipeline = Pipeline(
        stream=RedisStream(settings.stream, "replica"),
        predictor=ConstantPredictor(max_batch=4),
        verifier=Keyring(settings.camera_keys),
        telemetry=Telemetry(NoMetrics(), 1),
        settings=settings,
        replica="replica",
    )
    client = LivegateClient(settings.stream.url)
    async with asyncio.timeout(60), running(pipeline), client:
        sent = [*frames(12)]
        found = await asyncio.gather(*(client.decide(*each) for each in sent))
    assert {each.outcome for each in found} == {Outcome.BONA_FIDE}
    assert len({each.seq for each in found}) == 12


class Answering:
    """A client whose every fifth frame gets no decision."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.num_waiting = self.most_waiting = self.num_sent = 0

    async def __aenter__(self) -> "Answering":
        return self

    async def __aexit__(self, *error: object) -> None:
        return

    async def decide(self, camera_id: str, fields: Mapping[bytes, bytes]) -> Decision:
        self.num_sent += 1
        number = self.num_sent
        self.num_waiting += 1
        self.most_waiting = max(self.most_waiting, self.num_waiting)
        await asyncio.sleep(0.001)
        self.num_waiting -= 1
        if self.fails and number % 5 == 0:
            raise NotThere("no decision")
        decision: Any = None
        return decision


def nothing() -> Frames:
    while True:
        yield "gate-1", {}


async def test_a_closed_loop_keeps_so_many_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.bench.peers.runs._WARM_S", 0.0)
    client = Answering()
    assert await saturated(client, nothing(), 8, 0.1) > 0
    assert client.most_waiting == 8
    with pytest.raises(NotThere):
        await saturated(Answering(fails=True), nothing(), 8, 0.1)


async def test_an_open_loop_sends_whatever_comes_back() -> None:
    client = Answering(fails=True)
    seen = await at_rate(client, nothing(), 400, 0.25)
    assert seen.num_frames == client.num_sent
    assert 70 < seen.num_frames < 130  # a Poisson process, and the same one each time
    assert seen.num_failed == seen.num_frames // 5
    assert 1 <= seen.p50_ms <= seen.p99_ms


def test_ratios_are_of_rounds() -> None:
    ours = Figures("livegate", 1.0, [200.0, 100.0, 300.0], [10.0] * 3, [20.0] * 3)
    other = Figures("other", 1.0, [100.0, 100.0, 100.0], [20.0] * 3, [10.0] * 3, 2)
    row = other.row(ours)
    assert (row["fps_ratio"], row["p50_ratio"], row["p99_ratio"]) == (2.0, 0.5, 2.0)
    assert (row["fps"], row["failed"]) == (100.0, 2)
    assert ours.row(ours)["fps_ratio"] == 1.0
