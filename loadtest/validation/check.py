"""The comparisons: a plan for a few cameras, and a simulated spike, beside what really happens."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtest.histograms import Distribution
from loadtest.planning.inputs import Figures, read_figures, read_machines
from loadtest.planning.plan import Wanted, held_bytes, plan
from loadtest.scenario.arrivals import arrival_times
from loadtest.scenario.scenario import Scenario
from loadtest.simulation.exact import simulate_exactly
from loadtest.simulation.fluid import simulate
from loadtest.simulation.model import Fleet, ServiceTimes
from loadtest.simulation.policies import Livegate
from loadtest.task import seed_of
from loadtest.validation.real import Bench, RealRun, ValidationError, kept_on, real_run
from workers.settings import ScalingSettings

_CAMERAS = 20
_LOW_FPS, _PLAN_FPS, _FULL = 2.0, 53.0, 3
_SPIKE_FPS, _SPIKE_PEAK_FPS = 15.0, 80.0
_STEP_S = 0.5
_PLAN_OFF, _SIMULATION_OFF = 0.15, 0.20
_MOST = 40


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure, as it was foretold and as it was seen.

    Attributes:
        what: it is.
        unit: of it.
        foretold: by the plan or the simulation.
        seen: in the real run.
        off: difference over what was seen; of a course in time, the mean of that.
        allowed: largest difference; None: it is only told.
    """

    what: str
    unit: str
    foretold: float
    seen: float
    off: float
    allowed: float | None

    @property
    def holds(self) -> bool:
        """Whether they agree."""
        return self.allowed is None or abs(self.off) <= self.allowed


Compare = Callable[..., None]


async def validate(
    bench: Bench, by_time: float, tell: Callable[[Compared], None]
) -> list[Compared]:
    """Compare plan and simulation with real runs.

    Args:
        bench: an empty server, and replicas whose network waits.
        by_time: what the length of the runs is multiplied with; 1 takes 5 minutes.
        tell: called with each comparison.

    Raises:
        ValidationError: a real run has failed.
        TargetError: it can't be made here.
    """
    found: list[Compared] = []

    def compare(
        what: str, unit: str, foretold: float, seen: float, allowed: float | None,
        off: float | None = None,
    ) -> None:  # fmt: skip
        if off is None:
            off = foretold / seen - 1
        found.append(Compared(what, unit, foretold, seen, off, allowed))
        tell(found[-1])

    low = await _constant(bench, _LOW_FPS, 20 * by_time, _fixed(1))
    alone = low.result.distribution("steady")
    await _check_plan(bench, by_time, _at(alone, 99), compare)
    await _check_simulation(bench, by_time, _at(alone, 50) - bench.batch_ms[0], compare)
    return found


async def _check_plan(bench: Bench, by_time: float, alone_ms: float, compare: Compare) -> None:
    figures = _figures(bench, alone_ms)
    scaling = ScalingSettings(min_replicas=2, max_replicas=_MOST)
    wanted = Wanted(_CAMERAS, _PLAN_FPS / _CAMERAS, 1.0, 34_000, bench.deadline_ms)
    made = plan(wanted, figures, read_machines())
    before = kept_on(bench.url)
    run = await _constant(bench, _PLAN_FPS, 60 * by_time, scaling, warm_up_s=15 * by_time)
    after = kept_on(bench.url)
    since_s = run.start_s + 15 * by_time
    ready = [each.ready for each in run.asked if since_s <= each.at_s < since_s + 60 * by_time]
    compare("plan: replicas", "", made.replicas, float(np.mean(ready)), _PLAN_OFF)
    compare("plan: p99", "ms", made.p99_ms, _at(run.result.distribution("steady"), 99), None)
    foretold, held = (sum(held_bytes(figures, each.counts).values()) for each in (after, before))
    grown = after.used_bytes - before.used_bytes
    compare("plan: memory", "MB", (foretold - held) / 1e6, grown / 1e6, _PLAN_OFF)
    fps = _FULL * bench.service_fps
    full = await _constant(bench, 1.3 * fps, 20 * by_time, _fixed(_FULL), warm_up_s=5)
    seen = [each for each in full.result.timeline if 5 < each.at_s < 5 + 20 * by_time]
    seen_fps = float(np.mean([each.verdict_fps for each in seen]))
    compare(f"plan: throughput of {_FULL} replicas", "frames/s", fps, seen_fps, _PLAN_OFF)


async def _check_simulation(
    bench: Bench, by_time: float, overhead_ms: float, compare: Compare
) -> None:
    scaling = ScalingSettings(min_replicas=4, max_replicas=_MOST, downscale_s=10)
    at_s, lasts_s, load_s = (each * by_time for each in (30, 40, 110))
    shape = {"shape": "spike", "fps": _SPIKE_FPS, "peak_fps": _SPIKE_PEAK_FPS}
    shape |= {"at": f"{at_s} s", "lasts": f"{lasts_s} s"}
    spike = _scenario(bench, shape, load_s)
    run = await real_run(bench, spike, scaling, scaling.min_replicas)
    random = np.random.default_rng(seed_of(spike, 0))
    arrivals_s = arrival_times(spike.arrivals, load_s, 1.0, random)
    deadline_s = bench.deadline_ms / 1000
    fleet = Fleet(
        service=ServiceTimes(bench.batch_ms, 0.0, overhead_ms, "a network that waits"),
        cold_s=run.asked[-1].cold_s or bench.cold_s,
        stop_s=0.0,
        mean_life_s=1e12,
        within_s=deadline_s,
        deadline_s=deadline_s,
        step_s=_STEP_S,
        noise=0.0,
    )
    start = scaling.min_replicas
    exact = simulate_exactly(arrivals_s, load_s, Livegate(scaling), fleet, start, seed=1)
    num_steps = len(exact.ready)
    frames = np.bincount((arrivals_s / _STEP_S).astype(int), minlength=num_steps)[:num_steps]
    flow = simulate(frames.astype(float), Livegate(scaling), fleet, start, seed=1)
    seen = _course(run, num_steps)
    latency = run.result.distribution("all")
    exactly_ms = np.percentile(exact.latency_ms, [50, 99]).tolist()
    for name, course, (p50_ms, p99_ms) in (
        ("each frame", exact.ready, exactly_ms),
        ("a flow", flow.ready, [flow.percentile_ms(50), flow.percentile_ms(99)]),
    ):
        means, off = (float(course.mean()), float(seen.mean())), np.abs(course - seen).mean()
        compare(f"{name}: replicas over time", "", *means, _SIMULATION_OFF, off / seen.mean())
        compare(f"{name}: p50", "ms", p50_ms, _at(latency, 50), None)
        compare(f"{name}: p99", "ms", p99_ms, _at(latency, 99), _SIMULATION_OFF)


async def _constant(
    bench: Bench, fps: float, seconds: float, scaling: ScalingSettings, *, warm_up_s: float = 3.0
) -> RealRun:
    shape = {"shape": "constant", "fps": fps}
    scenario = _scenario(bench, shape, seconds, warm_up_s)
    return await real_run(bench, scenario, scaling, scaling.min_replicas)


def _scenario(
    bench: Bench, shape: dict[str, Any], seconds: float, warm_up_s: float = 0.0
) -> Scenario:
    deadline = f"{bench.deadline_ms} ms"
    return Scenario.model_validate(
        {
            "about": "A real run, to compare with.",
            "fleet": {"cameras": _CAMERAS},
            "arrivals": shape,
            "run": {"warm_up": f"{warm_up_s} s", "steady": f"{seconds} s", "senders": 1},
            "slo": {"within": deadline, "deadline": deadline},
        }
    )


def _fixed(num: int) -> ScalingSettings:
    return ScalingSettings(min_replicas=num, max_replicas=num)


def _figures(bench: Bench, alone_ms: float) -> Figures:
    """Return the shipped figures, with those of these replicas in their place."""
    changes = {
        "cpu_replica_fps": bench.service_fps,
        "base_ms": alone_ms,
        "batch_ms": bench.batch_ms[-1],
    }
    shipped = read_figures()
    return shipped.model_copy(
        update={
            name: getattr(shipped, name).model_copy(update={"value": value, "how": "of this run"})
            for name, value in changes.items()
        }
    )


def _course(run: RealRun, num_steps: int) -> NDArray[np.float64]:
    """Return the replicas that were ready at each step of a simulation."""
    at_s = np.array([each.at_s - run.start_s for each in run.asked])
    ready = np.array([float(each.ready) for each in run.asked])
    steps = np.arange(num_steps) * _STEP_S
    return ready[np.clip(np.searchsorted(at_s, steps, side="right") - 1, 0, None)]


def _at(of: Distribution, percent: float) -> float:
    value_ms = of.at(percent)
    if value_ms is None:
        raise ValidationError("no frame was decided")
    return value_ms
