"""Early stopping, searching and comparing: against published values, and curves that are known."""

import numpy as np
import pytest

from loadtest.compare import CompareError, compare
from loadtest.early_stopping import at_most, early_verdict, frames_needed
from loadtest.histograms import Distribution
from loadtest.result import Check, Result
from loadtest.scenario.scenario import Scenario, load_scenario
from loadtest.search import SearchError, Step, search
from tests.loadtest.results import result_of


@pytest.mark.parametrize(
    ("num_late", "percentile", "needed"),
    # MLPerf Inference's rules: 64 queries at least for the 90th percentile of SingleStream, 662
    # for the 99th of MultiStream; LoadGen's own tests: 459 without a late one at the 99th.
    [(1, 90, 64), (1, 99, 662), (0, 99, 459), (0, 90, 44)],
)
def test_early_stopping_needs_as_many_frames_as_loadgen(
    num_late: int, percentile: float, needed: int
) -> None:
    assert frames_needed(num_late, percentile) == needed


def test_the_binomial_is_that_of_scipy() -> None:
    binom = pytest.importorskip("scipy.stats").binom
    for count, trials, chance in ((0, 10, 0.1), (30, 4000, 0.01), (999, 1000, 0.99), (5, 5, 0.5)):
        assert at_most(count, trials, chance) == pytest.approx(binom.cdf(count, trials, chance))
    assert at_most(-1, 10, 0.5) == 0


def test_what_is_near_the_limit_stays_open() -> None:
    assert early_verdict(10_000, 50, 99) == "holds"
    assert early_verdict(10_000, 100, 99) == "open"
    assert early_verdict(10_000, 150, 99) == "fails"
    assert early_verdict(0, 0, 99) == "open"


class Deployment:
    """Answers in 20 ms until it is full, and then later and later."""

    def __init__(self, most_fps: float, *, checks: list[Check] | None = None) -> None:
        self.most_fps = most_fps
        self.checks = checks
        self.num_runs = 0

    async def run(self, scenario: Scenario) -> Result:
        self.num_runs += 1
        fps = scenario.arrivals.fps
        draw = np.random.default_rng(self.num_runs)
        latencies = draw.lognormal(3, 0.2, int(fps * scenario.run.steady))
        if fps > self.most_fps:
            latencies += draw.uniform(0, 30_000 * (fps / self.most_fps - 1), len(latencies))
        return result_of(latencies, scenario, checks=self.checks)


def scenario(fps: float = 40.0) -> Scenario:
    steady = load_scenario("steady")
    arrivals = steady.arrivals.model_copy(update={"fps": fps})
    run = steady.run.model_copy(update={"steady": 30.0})
    return steady.model_copy(update={"arrivals": arrivals, "run": run})


@pytest.mark.parametrize("most_fps", [10.0, 333.0, 1400.0])
async def test_a_search_finds_the_knee(most_fps: float) -> None:
    deployment = Deployment(most_fps)
    told: list[Step] = []
    found = await search(scenario(), deployment.run, precision=0.03, tell=told.append)
    assert found.best_fps is not None
    assert found.next_fps is not None
    assert most_fps * 0.96 <= found.best_fps <= most_fps * 1.04
    assert found.next_fps / found.best_fps <= 1.03
    assert found.steps == told
    assert found.stopped == ""


async def test_a_search_stops_where_the_load_itself_is_the_bottleneck() -> None:
    broken = [Check("frames were sent when they were due", False, "p99 is 80 ms")]
    found = await search(scenario(), Deployment(1e6, checks=broken).run)
    assert found.best_fps is None
    assert "p99 is 80 ms" in found.stopped


async def test_a_promise_that_nothing_can_keep_is_said_to_be_one() -> None:
    with pytest.raises(SearchError, match="nothing can"):
        await search(scenario(), Deployment(0.001).run)


def test_a_run_is_as_fast_as_itself_and_a_slower_one_regressed() -> None:
    draw = np.random.default_rng(1)
    first, again = (result_of(draw.lognormal(3, 0.2, 24_000)) for _ in range(2))
    slower = result_of(draw.lognormal(3, 0.2, 24_000) * 1.3)
    assert compare(first, again).outcome == "same"
    worse = compare(first, slower)
    assert worse.outcome == "regressed"
    assert worse.interval[0] <= 1.3 <= worse.interval[1]
    assert compare(slower, first).outcome == "improved"


def test_runs_that_go_up_and_down_by_themselves_can_not_be_told_apart() -> None:
    draw = np.random.default_rng(1)
    blocks = [draw.lognormal(3 + draw.normal(0, 0.8), 0.2, 500) for _ in range(48)]
    first, second = (result_of(np.concatenate(each)) for each in (blocks[:24], blocks[24:]))
    assert compare(first, second).outcome == "unclear"


def test_what_can_not_be_compared_says_why() -> None:
    one = result_of(np.full(100, 20.0))
    other = result_of(np.full(100, 20.0), load_scenario("spike"))
    with pytest.raises(CompareError, match="two scenarios"):
        compare(one, other)
    one.blocks = one.blocks[:3]
    with pytest.raises(CompareError, match="run it for longer"):
        compare(one, one)


def test_a_distribution_is_that_of_the_values_and_can_be_read_by_others() -> None:
    values = np.random.default_rng(1).lognormal(3, 1, 20_000)
    of = Distribution()
    for part in np.array_split(values, 7):
        of.add(part)
    for percent in (50, 90, 99, 99.9):
        assert of.at(percent) == pytest.approx(np.percentile(values, percent), rel=0.01)
    assert of.above(100) == pytest.approx((values > 100).sum(), rel=0.01)
    again = Distribution(of.encode())
    again.merge(of)
    assert again.count == 40_000
    assert again.at(99) == of.at(99)
    assert Distribution().at(99) is None
    of.add([-5.0])  # a clock that was set
    assert of.count == 20_001
