"""A day of a fleet under each policy: what it costs over the clairvoyant's, and what it misses.

Every policy has a knob that trades replica-hours for misses. It is turned all the way, so that
policies are compared at equal misses, and at equal replica-hours, rather than at a lucky setting.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loadtest.scenario.arrivals import arrival_times, shape_of
from loadtest.simulation.exact import simulate_exactly
from loadtest.simulation.fluid import Simulated, fluid_start, simulate
from loadtest.simulation.model import Fleet, noisy
from loadtest.simulation.policies import (
    Fixed,
    HpaCpu,
    Keda,
    Livegate,
    Policy,
    RayQueue,
    Stabilised,
    clairvoyant,
)
from workers.settings import ScalingSettings

DAY_S = 86_400.0
WORKLOADS = ("diurnal", "spike", "morning-rush")
POLICIES = ("livegate", "clairvoyant", "hpa", "keda", "ray", "fixed")
OURS, ORACLE = "livegate", "clairvoyant"
_FEWEST = 1e-6  # a share of missed frames below it counts as none

# Frames a second of one camera: nobody there at night, somebody at most cameras at the peak.
_NIGHT_FPS, _DAY_FPS, _PEAK_FPS = 0.02, 0.1, 0.4

_KNOBS: dict[str, tuple[float, ...]] = {
    "livegate": (0.3, 0.45, 0.6, 0.75, 0.9),
    "clairvoyant": (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
    "hpa": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    "keda": (0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    "ray": (0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    "fixed": (0.6, 0.8, 0.9, 1.0, 1.1),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One policy with one knob on one workload.

    Attributes:
        workload: one of `WORKLOADS`.
        policy: one of `POLICIES`.
        knob: where it stood.
        missed: share of the frames that missed the promise.
        expired: share that was never inferred.
        replica_hours: paid for.
        cold_starts: replicas started.
        actions_an_hour: changes of mind.
        most_replicas: at once.
        p99_ms: of the latency of all frames.
    """

    workload: str
    policy: str
    knob: float
    missed: float
    expired: float
    replica_hours: float
    cold_starts: int
    actions_an_hour: float
    most_replicas: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the fluid model and the simulation of each frame of one partition agree.

    Attributes:
        num_frames: that were simulated.
        replicas_off: mean difference of the replicas, over their mean.
        hours_off: difference of the replica-hours, over the exact ones.
        missed: share of frames that missed, exactly, and as the fluid model has it.
    """

    num_frames: int
    replicas_off: float
    hours_off: float
    missed: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How the product's policy stands on one workload.

    Attributes:
        workload: it is of.
        point: the product's as it ships.
        hours_over_oracle: its replica-hours over the clairvoyant's at equal misses.
        misses_of: each baseline's misses over ours, at our replica-hours; None: it needs more of
            them however its knob stands.
    """

    workload: str
    point: Point
    hours_over_oracle: float
    misses_of: dict[str, float | None]

    @property
    def is_good(self) -> bool:
        """Within 15 % of the clairvoyant, and half the misses of each baseline at most."""
        misses = [each for each in self.misses_of.values() if each is not None]
        return self.hours_over_oracle <= 1.15 and all(each >= 2 for each in misses)


def workload(name: str, num_cameras: int, step_s: float) -> NDArray[np.float64]:
    """Return a day's rate, frames a second, step by step."""
    at_s = np.arange(0, DAY_S, step_s)
    night, day, peak = (num_cameras * each for each in (_NIGHT_FPS, _DAY_FPS, _PEAK_FPS))
    shapes = {
        "diurnal": shape_of("diurnal", fps=night, peak_fps=peak),
        "spike": shape_of("spike", fps=day, peak_fps=peak, at="12 h", lasts="10 min"),
        "morning-rush": shape_of("morning-rush", fps=night, peak_fps=peak, at="8 h", rise="1 h"),
    }
    return shapes[name].rate(at_s)


def run_point(
    name: str, policy: str, knob: float, num_cameras: int, fleet: Fleet, scaling: ScalingSettings
) -> Point:
    """Simulate one policy with one knob on one workload."""
    rate_fps = workload(name, num_cameras, fleet.step_s)
    frames = noisy(rate_fps, fleet, np.random.default_rng(1))
    start = fluid_start(rate_fps[0], fleet)
    found = simulate(frames, _policy(policy, knob, rate_fps, fleet, scaling), fleet, start, seed=2)
    return _point(name, policy, knob, found)


def study(
    num_cameras: int,
    fleet: Fleet,
    scaling: ScalingSettings,
    *,
    workloads: Sequence[str] = WORKLOADS,
    processes: int = 2,
    tell: Callable[[Point], None] = lambda _: None,
) -> list[Point]:
    """Simulate every policy with every knob on each workload.

    Args:
        num_cameras: of the fleet.
        fleet: its replicas and its promise.
        scaling: settings of the product's policy; its `target_utilisation` is the knob.
        workloads: to simulate.
        processes: that simulate side by side.
        tell: called with each point.
    """
    jobs = [
        (name, policy, knob, num_cameras, fleet, scaling)
        for name in workloads
        for policy in POLICIES
        for knob in _knobs(policy, scaling)
    ]
    points = []
    with ProcessPoolExecutor(processes) as pool:
        for point in pool.map(_run_job, jobs):
            points.append(point)
            tell(point)
    return points


def judge(points: Iterable[Point], scaling: ScalingSettings) -> list[Judgement]:
    """Compare the product's policy, as it is set, with all others."""
    by: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        by.setdefault((point.workload, point.policy), []).append(point)
    judgements = []
    for name in dict.fromkeys(point.workload for point in points):
        own = next(e for e in by[name, OURS] if e.knob == scaling.target_utilisation)
        hours = _hours_at(by[name, ORACLE], own.missed)
        others = [each for each in POLICIES if each not in (OURS, ORACLE)]
        misses = {each: _times_ours(by[name, each], own) for each in others}
        judgements.append(Judgement(name, own, own.replica_hours / hours, misses))
    return judgements


def check(fleet: Fleet, scaling: ScalingSettings, minutes: float = 20.0) -> Agreement:
    """Simulate one partition under a spike both ways, with the product's policy."""
    fleet = replace(fleet, noise=0.0, step_s=1.0)
    fps = fleet.service.service_fps
    until_s = minutes * 60
    shape = shape_of(
        "spike", fps=1.5 * fps, peak_fps=5 * fps, at=f"{until_s / 3:g} s", lasts="120 s"
    )
    arrivals_s = arrival_times(shape, until_s, 1.0, np.random.default_rng(3))
    frames = np.bincount(arrivals_s.astype(int), minlength=int(until_s)).astype(float)
    start = fluid_start(shape.fps, fleet)
    exact = simulate_exactly(arrivals_s, until_s, Livegate(scaling), fleet, start, seed=4)
    fluid = simulate(frames, Livegate(scaling), fleet, start, seed=4)
    return Agreement(
        num_frames=exact.num_frames,
        replicas_off=float(np.abs(fluid.ready - exact.ready).mean() / exact.ready.mean()),
        hours_off=fluid.paid_s / exact.paid_s - 1,
        missed=(exact.missed_share(fleet.within_s), fluid.missed_share),
    )


def settings_for(num_cameras: int, fleet: Fleet, target_utilisation: float) -> ScalingSettings:
    """Return settings of the product's policy for a large fleet: half as many again as needed."""
    peak = num_cameras * _PEAK_FPS / fleet.service.service_fps
    return ScalingSettings(
        min_replicas=1,
        max_replicas=min(10_000, math.ceil(1.5 * peak) + 1),
        target_utilisation=target_utilisation,
        upscale_s=2.0,
        downscale_s=120.0,
    )


def _run_job(job: tuple[str, str, float, int, Fleet, ScalingSettings]) -> Point:
    return run_point(*job)


def _knobs(policy: str, scaling: ScalingSettings) -> tuple[float, ...]:
    if policy == OURS:
        return tuple(sorted({*_KNOBS[policy], scaling.target_utilisation}))
    return _KNOBS[policy]


def _policy(
    name: str, knob: float, rate_fps: NDArray[np.float64], fleet: Fleet, scaling: ScalingSettings
) -> Policy:
    fps = fleet.service.service_fps
    match name:
        case "livegate":
            return Livegate(scaling.model_copy(update={"target_utilisation": knob}))
        case "clairvoyant":
            return clairvoyant(rate_fps, fps, fleet.cold_s, fleet.step_s, knob)
        case "hpa":
            return HpaCpu(knob, Stabilised(scaling.max_replicas))
        case "keda":
            return Keda(knob, Stabilised(scaling.max_replicas))
        case "ray":
            return RayQueue(knob, scaling.max_replicas)
        case _:
            return Fixed(max(1, round(knob * float(rate_fps.max()) / fps)))


def _point(name: str, policy: str, knob: float, found: Simulated) -> Point:
    return Point(
        workload=name,
        policy=policy,
        knob=knob,
        missed=found.missed_share,
        expired=float(found.expired.sum() / max(found.frames.sum(), 1)),
        replica_hours=found.replica_hours,
        cold_starts=found.cold_starts,
        actions_an_hour=found.actions_an_hour,
        most_replicas=int(found.ready.max()),
        p99_ms=found.percentile_ms(99),
    )


def _hours_at(points: Sequence[Point], missed: float) -> float:
    """Return the replica-hours that a policy needs for a share of misses: on its own curve."""
    order = sorted(points, key=lambda each: each.replica_hours)
    misses = np.minimum.accumulate([max(each.missed, _FEWEST) for each in order])
    hours = np.array([each.replica_hours for each in order])
    wanted = np.log(max(missed, _FEWEST))
    reached = np.flatnonzero(np.log(misses) <= wanted + 1e-9)
    if not reached.size:
        return float(hours[-1])
    last = int(reached[0])
    if last == 0:
        return float(hours[0])
    share = (np.log(misses[last - 1]) - wanted) / (np.log(misses[last - 1]) - np.log(misses[last]))
    return float(hours[last - 1] + share * (hours[last] - hours[last - 1]))


def _times_ours(points: Sequence[Point], own: Point) -> float | None:
    """Return what a policy misses over ours, for as many replica-hours: on its own curve."""
    order = sorted(points, key=lambda each: each.replica_hours)
    hours = [each.replica_hours for each in order]
    misses = np.minimum.accumulate([max(each.missed, _FEWEST) for each in order])
    if own.replica_hours < hours[0]:
        return None
    missed = float(np.exp(np.interp(own.replica_hours, hours, np.log(misses))))
    return missed / max(own.missed, _FEWEST)
