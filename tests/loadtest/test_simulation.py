"""The simulator: two models that agree, the product's own policy, and baselines as documented."""

import numpy as np
import pytest

from loadtest.scenario.arrivals import arrival_times, shape_of
from loadtest.simulation.exact import simulate_exactly
from loadtest.simulation.fluid import fluid_start, simulate
from loadtest.simulation.model import CPU_REPLICA, Fleet, ServiceTimes, noisy
from loadtest.simulation.policies import (
    Fixed,
    HpaCpu,
    Livegate,
    RayQueue,
    Seen,
    Stabilised,
    clairvoyant,
)
from loadtest.simulation.study import Point, check, judge, run_point, settings_for, study, workload
from workers.autoscale import Load, replicas_needed, scale
from workers.settings import ScalingSettings

FLEET = Fleet(step_s=10.0)


def seen(now_s: float, **changes: float) -> Seen:
    values = {
        "arrival_fps": 1000.0, "backlog": 0.0, "waiting": 0.0, "ready": 4, "wanted": 4,
        "busy": 0.5, "service_fps": 285.0, **changes,
    }  # fmt: skip
    return Seen(now_s=now_s, **values)  # type: ignore[arg-type]


def test_the_policy_is_the_one_that_serve_runs_however_little_it_remembers() -> None:
    scaling = ScalingSettings(max_replicas=10_000, upscale_s=2, downscale_s=60)
    policy, draw = Livegate(scaling), np.random.default_rng(1)
    needs: dict[float, int] = {}
    current, rate = 10, 1000.0
    for step in range(3000):
        rate = max(10.0, rate * draw.uniform(0.97, 1.03))
        backlog = int(max(0, draw.normal(0, 200)))
        needs[float(step)] = replicas_needed(Load(rate, backlog, 100.0), scaling)
        wanted = scale(current, needs, scaling, float(step))
        said = policy(
            seen(step, arrival_fps=rate, backlog=backlog, wanted=current, service_fps=100.0)
        )
        assert said == wanted
        current = wanted


def test_a_load_that_fits_misses_nothing_and_one_that_does_not_misses_all() -> None:
    frames = np.full(600, 1000.0)
    enough = simulate(frames, Fixed(8), Fleet(), 8, seed=1)
    assert enough.missed_share < 0.001
    assert enough.replica_hours == pytest.approx(8 * 600 / 3600, rel=0.01)
    assert enough.actions == 0
    short = simulate(frames, Fixed(2), Fleet(), 2, seed=1)
    assert short.missed_share > 0.95
    assert short.expired.sum() == pytest.approx(600 * (1000 - 2 * 285.7), rel=0.05)


def test_a_replica_costs_from_when_it_is_asked_for_and_works_from_when_it_is_warm() -> None:
    found = simulate(np.full(100, 10.0), Fixed(5), Fleet(cold_s=30.0, mean_life_s=1e12), 1, seed=1)
    assert found.cold_starts == 4
    assert (found.ready[:30] == 1).all()
    assert (found.ready[31:] == 5).all()
    assert found.paid_s == pytest.approx(5 * 100)


def test_replicas_that_fail_are_started_again() -> None:
    found = simulate(np.full(2000, 100.0), Fixed(50), Fleet(mean_life_s=2000.0), 50, seed=1)
    assert 30 <= found.cold_starts <= 70
    assert found.ready.mean() == pytest.approx(50, rel=0.05)


def test_the_fluid_model_and_each_frame_by_itself_agree() -> None:
    agreement = check(FLEET, settings_for(1_000_000, FLEET, 0.6), minutes=6)
    assert agreement.num_frames > 200_000
    assert agreement.replicas_off < 0.05
    assert abs(agreement.hours_off) < 0.05
    exact, fluid = agreement.missed
    assert fluid == pytest.approx(exact, rel=0.2)


def test_a_network_that_gains_by_batches_is_simulated_alike_both_ways() -> None:
    """Such replicas report less than they could do until they have seen a large batch."""
    gpu = ServiceTimes(tuple(60.0 + 30.0 * size for size in range(1, 9)), 0.0, 15.0, "waits")
    assert gpu.service_fps == pytest.approx(8000 / 300)
    assert [gpu.size_at(fps) for fps in (1, 12, 20, 99)] == [1, 2, 3, 8]
    fleet = Fleet(gpu, cold_s=5.0, mean_life_s=1e12, deadline_s=30.0, step_s=0.5, noise=0.0)
    scaling = ScalingSettings(min_replicas=4, max_replicas=40, downscale_s=10)
    shape = shape_of("spike", fps=30, peak_fps=160, at="30 s", lasts="40 s")
    arrivals_s = arrival_times(shape, 110.0, 1.0, np.random.default_rng(1009))
    exact = simulate_exactly(arrivals_s, 110.0, Livegate(scaling), fleet, 4, seed=1)
    frames = np.bincount((arrivals_s / 0.5).astype(int), minlength=220).astype(float)
    flow = simulate(frames, Livegate(scaling), fleet, 4, seed=1)
    assert np.abs(flow.ready - exact.ready).mean() < 0.15 * exact.ready.mean()
    assert flow.percentile_ms(99) == pytest.approx(np.percentile(exact.latency_ms, 99), rel=0.15)
    assert len(exact.latency_ms) == exact.num_frames - exact.num_expired


def test_the_clairvoyant_misses_nothing_and_is_the_cheapest_that_does() -> None:
    rate = workload("morning-rush", 1_000_000, FLEET.step_s)
    frames = noisy(rate, FLEET, np.random.default_rng(1))
    start = fluid_start(float(rate[0]), FLEET)
    fps = CPU_REPLICA.service_fps
    oracle = simulate(
        frames, clairvoyant(rate, fps, FLEET.cold_s, FLEET.step_s, 2.0), FLEET, start, seed=1
    )
    assert oracle.missed_share < 1e-4
    least = frames.sum() / fps / 3600
    assert least < oracle.replica_hours < 1.15 * least


def test_hpa_doubles_at_most_and_takes_minutes_to_go_down() -> None:
    hpa = HpaCpu(0.5, Stabilised(1000))
    assert hpa(seen(0, ready=100, wanted=100, busy=1.0)) == 200
    assert hpa(seen(5, ready=100, wanted=200, busy=1.0)) == 200  # not before 15 s are over
    assert hpa(seen(20, ready=200, wanted=200, busy=0.1)) == 200
    assert hpa(seen(400, ready=200, wanted=200, busy=0.1)) == 40
    assert HpaCpu(0.5, Stabilised(1000))(seen(0, ready=10, wanted=10, busy=0.52)) == 10


def test_ray_waits_half_a_minute_to_go_up() -> None:
    ray = RayQueue(2.0, 1000)
    sayings = [ray(seen(now_s, backlog=100.0, wanted=10)) for now_s in range(40)]
    assert sayings[:30] == [10] * 30
    assert sayings[30] == 50


def test_a_study_judges_the_policy_at_equal_misses_and_at_equal_hours() -> None:
    scaling = settings_for(100_000, FLEET, 0.6)
    points = study(100_000, FLEET, scaling, workloads=("morning-rush",), processes=1)
    (judgement,) = judge(points, scaling)
    assert judgement.point == run_point("morning-rush", "livegate", 0.6, 100_000, FLEET, scaling)
    assert 1.0 < judgement.hours_over_oracle < 1.5
    assert set(judgement.misses_of) == {"hpa", "keda", "ray", "fixed"}


def test_hours_and_misses_are_read_off_each_policys_own_curve() -> None:
    scaling = ScalingSettings(target_utilisation=0.9)

    def point(policy: str, knob: float, missed: float, hours: float) -> Point:
        return Point("spike", policy, knob, missed, 0.0, hours, 0, 0.0, 1, 0.0)

    points = [
        point("livegate", 0.9, 0.001, 110.0),
        point("clairvoyant", 0, 0.01, 90.0),
        point("clairvoyant", 1, 0.0001, 110.0),
        *(point(name, 1, 0.004, 110.0) for name in ("hpa", "keda", "fixed")),
        point("ray", 1, 0.004, 500.0),
    ]
    (judgement,) = judge(points, scaling)
    assert judgement.hours_over_oracle == pytest.approx(1.1)
    assert judgement.misses_of["hpa"] == pytest.approx(4.0)
    assert judgement.misses_of["ray"] is None  # it can't be had so cheaply
    assert judgement.is_good
