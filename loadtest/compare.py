"""Two runs of one scenario against each other: is the second one slower, and is that certain?

Latencies that follow each other are alike, so frames are no sample of their own. What is drawn
anew are blocks of seconds, whole: the interval is as wide as the run's own ups and downs make it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loadtest.blocks import BLOCK_S, FIRST_MS, RATIO, Block
from loadtest.errors import LoadtestError
from loadtest.result import Result

_NUM_DRAWS = 4000
_FEWEST_BLOCKS = 6

Outcome = Literal["same", "improved", "regressed", "unclear"]


class CompareError(LoadtestError):
    """Two runs can't be compared; the message says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two runs come to.

    Attributes:
        outcome: of the promised percentile.
        percentile: that was compared.
        before_ms: of the first run.
        after_ms: of the second.
        ratio: second to first.
        interval: of the ratio, at 95 % confidence.
        notes: in what else the runs differ, and whether they can be believed.
    """

    outcome: Outcome
    percentile: float
    before_ms: float
    after_ms: float
    ratio: float
    interval: tuple[float, float]
    notes: tuple[str, ...]


def compare(before: Result, after: Result, tolerance: float = 0.05, seed: int = 1) -> Comparison:
    """Compare the promised percentile of two runs.

    Args:
        before: the run that counts as good.
        after: the one that is judged.
        tolerance: a change within it is none, [0, 1].
        seed: of the draws.

    Raises:
        CompareError: they are runs of different scenarios, or too short.

    Source: bootstrap of blocks, for series whose values depend on each other; Kunsch, The jackknife
    and the bootstrap for general stationary observations, Annals of Statistics 17 (1989).
    """
    if before.name != after.name:
        raise CompareError(f"runs of two scenarios, {before.name} and {after.name}")
    for which, run in (("first", before), ("second", after)):
        if len(run.blocks) < _FEWEST_BLOCKS:
            raise CompareError(
                f"the {which} run has {len(run.blocks)} blocks of {BLOCK_S:g} s in its steady "
                f"window, {_FEWEST_BLOCKS} are needed: run it for longer"
            )
    percentile = float(after.scenario["slo"]["percentile"])
    random = np.random.default_rng(seed)
    first, second = (
        _drawn(before.blocks, percentile, random),
        _drawn(after.blocks, percentile, random),
    )
    ratios = second[1:] / first[1:]
    low, high = np.quantile(ratios, [0.025, 0.975])
    outcome: Outcome = "unclear"
    if low > 1 + tolerance:
        outcome = "regressed"
    elif high < 1 - tolerance:
        outcome = "improved"
    elif low >= 1 - 2 * tolerance and high <= 1 + 2 * tolerance:
        outcome = "same"
    return Comparison(
        outcome=outcome,
        percentile=percentile,
        before_ms=round(float(first[0]), 3),
        after_ms=round(float(second[0]), 3),
        ratio=round(float(second[0] / first[0]), 4),
        interval=(round(float(low), 4), round(float(high), 4)),
        notes=tuple(_notes(before, after)),
    )


def _drawn(
    blocks: Sequence[Block], percentile: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return the percentile, ms, of all blocks, then of each draw of them."""
    bins = sorted({int(name) for block in blocks for name in block})
    place = {each: number for number, each in enumerate(bins)}
    counts = np.zeros((len(blocks), len(bins)))
    for row, block in enumerate(blocks):
        for name, count in block.items():
            counts[row, place[int(name)]] = count
    weights = random.multinomial(len(blocks), [1 / len(blocks)] * len(blocks), size=_NUM_DRAWS)
    sums = np.vstack([np.ones(len(blocks)), weights]) @ counts
    reached = np.cumsum(sums, axis=1) >= sums.sum(axis=1, keepdims=True) * percentile / 100
    found: NDArray[np.float64] = FIRST_MS * RATIO ** np.array(bins, float)[reached.argmax(axis=1)]
    return found


def _notes(before: Result, after: Result) -> list[str]:
    notes = []
    for which, run in (("first", before), ("second", after)):
        if not run.is_valid:
            broken = next(each for each in run.checks if not each.holds)
            notes.append(f"the {which} run is invalid: {broken.name}? {broken.detail}")
    for name in ("cpu", "cores", "target", "models"):
        mine, others = before.environment.get(name), after.environment.get(name)
        if mine != others:
            notes.append(f"{name} differs: {mine} and {others}")
    mine, others = (_without_seed(each.scenario) for each in (before, after))
    notes += [f"scenario.{name} differs" for name in mine if mine[name] != others.get(name)]
    for name in ("goodput_fps", "lost", "doubled", "wrong_share"):
        if before.account[name] != after.account[name]:
            notes.append(f"{name}: {before.account[name]}, then {after.account[name]}")
    return notes


def _without_seed(scenario: dict[str, Any]) -> dict[str, Any]:
    run = {name: value for name, value in scenario["run"].items() if name != "seed"}
    return {**scenario, "run": run}
