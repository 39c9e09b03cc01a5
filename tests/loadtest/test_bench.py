"""The benchmarks, on a real server and with few frames: what they count, not how fast it was."""

from typing import Any

import pytest
import redis

from loadtest.bench.pipeline import BARE, FULL, NULL, BenchError, bench_pipeline
from loadtest.bench.stages import STAGES
from model.data.quality import QualityLimits
from workers.settings import StreamSettings
from workers.testing import ConstantPredictor


def _measure(url: str, predictor: ConstantPredictor, **changes: Any) -> dict[str, Any]:
    settings = {"batch": 4, "num_frames": 80, "rounds": 2, **changes}
    return bench_pipeline(url, predictor, **settings, tell=lambda _: None)


def test_all_cases_and_stages_are_measured(stream_settings: StreamSettings) -> None:
    figures = _measure(stream_settings.url, ConstantPredictor(max_batch=4))
    assert {row["case"] for row in figures["rows"]} == {BARE, FULL, NULL}
    for row in figures["rows"]:
        assert row["fps"] > 0
        assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
        assert 1 <= row["batch"] <= 4
    assert [(row["stage"], row["batch"]) for row in figures["stages"]] == [
        (stage, size) for size in (1, 4) for stage in STAGES
    ]
    assert all(row["cpu_us"] > 0 for row in figures["stages"])


def test_the_server_is_left_empty(stream_settings: StreamSettings) -> None:
    _measure(stream_settings.url, ConstantPredictor(max_batch=4), rounds=1)
    with redis.Redis.from_url(stream_settings.url) as client:
        assert [client.xlen(f"livegate:{{{each}}}:frames") for each in range(4)] == [0] * 4


def test_frames_that_are_refused_are_no_figures(stream_settings: StreamSettings) -> None:
    strict = ConstantPredictor(max_batch=4, quality=QualityLimits(min_face_px=1000))
    with pytest.raises(BenchError, match="0 were judged"):
        _measure(stream_settings.url, strict)
