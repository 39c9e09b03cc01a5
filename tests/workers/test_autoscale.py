"""Scaling: the pure function, and the policy around it against a real server."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig
from ray.serve.deployment import deployment_to_schema

from workers.app import deployment
from workers.autoscale import (
    SERVICE_RATE,
    ArrivalRate,
    BacklogPolicy,
    Load,
    replicas_needed,
    scale,
)
from workers.settings import ScalingSettings, StreamSettings, WorkerSettings
from workers.wire import keys

SCALING = ScalingSettings(min_replicas=1, max_replicas=8, drain_s=2.0, target_utilisation=0.5)


class TestReplicasNeeded:
    @pytest.mark.parametrize(
        ("arrival_fps", "backlog", "service_fps", "needed"),
        [
            (0, 0, 100, 1),
            (10, 0, 100, 1),
            (50, 0, 100, 1),
            (51, 0, 100, 2),
            (100, 0, 100, 2),
            (0, 200, 100, 2),
            (50, 100, 100, 2),
            (50, 101, 100, 2),
            (125, 0, 100, 3),
            (10_000, 0, 100, 8),
            (0, 1, 100, 1),
        ],
    )
    def test_demand_over_what_a_replica_is_meant_to_carry(
        self, arrival_fps: float, backlog: int, service_fps: float, needed: int
    ) -> None:
        assert replicas_needed(Load(arrival_fps, backlog, service_fps), SCALING) == needed

    def test_many_replicas_need_less_headroom_each_than_one(self) -> None:
        scaling = ScalingSettings(max_replicas=10_000, target_utilisation=0.6)
        for replicas_of_work, used in ((0.6, 0.6), (10, 0.83), (100, 0.94), (1000, 0.98)):
            needed = replicas_needed(Load(100 * replicas_of_work, 0, 100), scaling)
            assert replicas_of_work / needed == pytest.approx(used, abs=0.02)

    def test_an_idle_application_may_sleep_and_wakes_for_one_frame(self) -> None:
        scaling = ScalingSettings(min_replicas=0, max_replicas=8)
        assert replicas_needed(Load(0, 0, 100), scaling) == 0
        assert replicas_needed(Load(0, 1, 100), scaling) == 1


class TestScale:
    scaling = ScalingSettings(max_replicas=8, upscale_s=1.0, downscale_s=10.0)

    @pytest.mark.parametrize(
        ("current", "needs", "wanted"),
        [
            (1, {0.0: 1}, 1),
            (1, {-1.0: 1, 0.0: 4}, 1),
            (1, {-1.0: 3, -0.5: 4, 0.0: 3}, 3),
            (1, {-1.5: 1, -0.9: 3, 0.0: 4}, 1),
            (4, {-10.0: 4, -5.0: 1, 0.0: 1}, 4),
            (4, {-11.0: 4, -9.0: 2, 0.0: 1}, 4),
            (4, {-11.0: 2, -9.0: 2, 0.0: 1}, 2),
            (4, {-9.0: 2, 0.0: 5}, 4),
            (3, {-0.5: 3, 0.0: 3}, 3),
        ],
    )
    def test_a_short_peak_or_dip_changes_nothing(
        self, current: int, needs: dict[float, int], wanted: int
    ) -> None:
        assert scale(current, needs, self.scaling, 0.0) == wanted


@pytest.mark.parametrize(
    "fields",
    [
        {"target_utilisation": 0},
        {"target_utilisation": 1.1},
        {"drain_s": 0},
        {"drain_s": float("nan")},
        {"min_replicas": 5, "max_replicas": 3},
        {"max_replicas": 0},
        {"first_service_fps": 0},
    ],
)
def test_scaling_that_can_not_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        ScalingSettings(**fields)


def test_the_application_takes_policy_and_bounds_from_its_own_settings() -> None:
    settings = WorkerSettings.model_validate(
        {
            "allow_unsigned": True,
            "stream": {"url": "redis://elsewhere:7000/1", "partitions": 9},
            "scaling": {"min_replicas": 2, "max_replicas": 5, "drain_s": 7},
        }
    )
    config = deployment_to_schema(deployment(settings)).autoscaling_config
    assert isinstance(config, AutoscalingConfig)
    assert (config.min_replicas, config.max_replicas) == (2, 5)
    assert (config.upscale_delay_s, config.downscale_delay_s) == (0, 0)
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy._stream == settings.stream
    assert policy._scaling == settings.scaling


def test_the_arrival_rate_is_that_of_the_last_seconds() -> None:
    rate = ArrivalRate(window_s=2.0)
    assert rate.saw(1000, 0.0) == 0
    assert rate.saw(1010, 1.0) == 10
    assert rate.saw(1020, 2.0) == 10
    assert rate.saw(1120, 3.0) == 55
    assert rate.saw(0, 4.0) == 0
    assert rate.saw(5, 5.0) == 5


def context(current: int, **metrics: Any) -> Any:
    return SimpleNamespace(
        target_num_replicas=current,
        capacity_adjusted_min_replicas=0,
        capacity_adjusted_max_replicas=3,
        aggregated_metrics={SERVICE_RATE: metrics} if metrics else None,
    )


async def settle(policy: BacklogPolicy) -> None:
    assert policy._asking is not None
    await policy._asking


def policy_for(url: str) -> BacklogPolicy:
    return BacklogPolicy(
        stream={"url": url, "partitions": 2},
        scaling={
            "drain_s": 1.0,
            "target_utilisation": 0.5,
            "upscale_s": 0.0,
            "downscale_s": 0.0,
            "first_service_fps": 10.0,
            "poll_s": 0.0,
        },
    )


class TestPolicy:
    async def test_it_wakes_a_sleeping_application(self, stream_settings: StreamSettings) -> None:
        policy = policy_for(stream_settings.url)
        assert policy(context(0))[0] == 0
        await settle(policy)
        assert policy(context(0))[0] == 0
        with redis.Redis.from_url(stream_settings.url) as client:
            client.xadd(keys.frames(1), {"f": b"x"})
        await settle(policy)
        policy(context(0))
        await settle(policy)
        assert policy(context(0))[0] >= 1
        await settle(policy)
        await policy._client.aclose()

    async def test_the_replicas_own_rate_counts(self, stream_settings: StreamSettings) -> None:
        policy = policy_for(stream_settings.url)
        with redis.Redis.from_url(stream_settings.url) as client:
            for _ in range(10):
                client.xadd(keys.frames(0), {"f": b"x"})
        policy(context(1))
        await settle(policy)
        assert policy(context(1))[0] == 2
        await asyncio.sleep(0)
        assert policy(context(1, a=1000.0, b=0.0))[0] <= 2
        await settle(policy)
        assert policy._service_fps == 1000.0
        await policy._client.aclose()

    async def test_an_unreachable_server_changes_nothing(self) -> None:
        policy = policy_for("redis://127.0.0.1:1")
        for _ in range(3):
            assert policy(context(2)) == (2, {})
            await settle(policy)
        await policy._client.aclose()
