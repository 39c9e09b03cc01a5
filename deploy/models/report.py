"""A report on a shadow: whether its candidate may take over.

Nobody knows here who stood before the camera: the report tells where two bundles differ, and leaves
who is right to an evaluation. A new version of the same model should differ little.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deploy.errors import DeployError
from model.evaluation.metrics import Rate
from workers.replica.shadow_tally import LATENCY_S, SCORE_BINS
from workers.wire.decision import Outcome

Verdict = Literal["swap", "do not swap", "not yet"]

ENOUGH = 1000
"""Frames that both must have judged: about as many as the limits below need to be shown at all."""
MAX_OPENS = 0.005
"""Share of frames on which the candidate alone opens, at most, with 95 % confidence."""
MAX_REFUSES = 0.02
"""Share of frames on which the candidate alone does not open, at most, with 95 % confidence."""

_OPENS = Outcome.BONA_FIDE


class NoShadow(DeployError):
    """There is nothing to report on; the message says how to begin."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a shadow shows.

    Attributes:
        verdict: whether to swap.
        why: what speaks against it, in words; empty for `swap`.
        figures: all of it, in a form that JSON can hold.
    """

    verdict: Verdict
    why: tuple[str, ...]
    figures: dict[str, Any]

    def text(self) -> str:
        """Return it for people."""
        f = self.figures
        score, latency = f["score"], f["latency_s"]
        lines = [
            f"{f['candidate']} beside {f['model']}: {f['frames']} frames judged by both, "
            f"{f['dropped']['busy']} dropped for want of time, {f['dropped']['failed']} failed",
            f"agrees on {f['agreement']:.2%}",
            _rate("opens where the other does not", f["opens"], MAX_OPENS),
            _rate("does not open where the other does", f["refuses"], MAX_REFUSES),
            f"mean score {score['decided']:.3f} -> {score['candidate']:.3f}, distance of the "
            f"distributions {score['distance']:.3f} (each has thresholds of its own)",
            f"decodes and judges one frame within {latency['p50']} s (median), {latency['p99']} s "
            "(99 %), at the lowest priority",
            f"{self.verdict}" + (f": {'; '.join(self.why)}" if self.why else ""),
        ]
        return "\n".join(lines)


def report_on(shadow: Mapping[str, Any]) -> Report:
    """Return the report on a deployment's counts.

    Args:
        shadow: `shadow` of `/v1/status`: names of both bundles, and counts by field.

    Raises:
        NoShadow: no frame was judged by both.
    """
    counts: Mapping[str, int] = shadow.get("counts") or {}
    outcomes = {
        (decided, candidate): counts.get(f"outcomes:{decided}:{candidate}", 0)
        for decided in Outcome
        for candidate in Outcome
    }
    num_frames = sum(outcomes.values())
    if not num_frames:
        raise NoShadow(
            "no candidate has judged a frame in the shadow yet: begin with `livegate model shadow "
            "BUNDLE`; it judges only when a replica has nothing else to do"
        )
    opens = _sum(outcomes, decided=False, candidate=True)
    refuses = _sum(outcomes, decided=True, candidate=False)
    dropped = {name: counts.get(f"dropped:{name}", 0) for name in ("busy", "failed")}
    figures = {
        "model": shadow["model"],
        "candidate": shadow["candidate"],
        "frames": num_frames,
        "dropped": dropped,
        "agreement": sum(outcomes[each, each] for each in Outcome) / num_frames,
        "opens": _figures(opens, num_frames),
        "refuses": _figures(refuses, num_frames),
        "score": _scores(counts),
        "latency_s": {"p50": _within(counts, 0.5), "p99": _within(counts, 0.99)},
    }
    verdict, why = _judged(figures)
    return Report(verdict, why, {**figures, "verdict": verdict, "why": why})


def _judged(figures: Mapping[str, Any]) -> tuple[Verdict, tuple[str, ...]]:
    against = []
    for name, most in (("opens", MAX_OPENS), ("refuses", MAX_REFUSES)):
        if figures[name]["lower"] > most:
            against.append(f"{name} alone on more than {most:.1%} of the frames")
    if figures["dropped"]["failed"]:
        against.append("its process ended on a frame: see the replicas' logs")
    if against:
        return "do not swap", tuple(against)
    if figures["frames"] < ENOUGH:
        return "not yet", (f"{figures['frames']} of {ENOUGH} frames",)
    unshown = [
        f"that it {name} alone on at most {most:.1%} is not shown yet"
        for name, most in (("opens", MAX_OPENS), ("refuses", MAX_REFUSES))
        if figures[name]["upper"] > most
    ]
    return ("not yet", tuple(unshown)) if unshown else ("swap", ())


def _sum(outcomes: Mapping[tuple[Outcome, Outcome], int], *, decided: bool, candidate: bool) -> int:
    return sum(
        count
        for (one, other), count in outcomes.items()
        if (one is _OPENS) == decided and (other is _OPENS) == candidate
    )


def _figures(count: int, trials: int) -> dict[str, float]:
    lower, upper = Rate(count, trials).interval()
    return {"count": count, "share": count / trials, "lower": lower, "upper": upper}


def _rate(what: str, figures: Mapping[str, float], most: float) -> str:
    return (
        f"{what}: {figures['count']} frames, {figures['share']:.2%} (95 %: {figures['lower']:.2%} "
        f"to {figures['upper']:.2%}; allowed {most:.1%})"
    )


def _scores(counts: Mapping[str, int]) -> dict[str, float]:
    """Return both mean scores, and Kolmogorov and Smirnov's distance, to the width of a bin."""
    both = {
        who: [counts.get(f"{who}:{each}", 0) for each in range(SCORE_BINS)]
        for who in ("decided", "candidate")
    }
    num_scored = max(sum(both["decided"]), 1)
    means = {
        who: sum((each + 0.5) / SCORE_BINS * count for each, count in enumerate(bins)) / num_scored
        for who, bins in both.items()
    }
    gap = largest = 0
    for one, other in zip(both["decided"], both["candidate"], strict=True):
        gap += one - other
        largest = max(largest, abs(gap))
    return {**means, "distance": largest / num_scored}


def _within(counts: Mapping[str, int], share: float) -> float:
    """Return the limit below which a share of the times lie; the last one: or longer."""
    bins = [counts.get(f"latency:{each}", 0) for each in range(len(LATENCY_S) + 1)]
    total = 0
    for limit_s, count in zip(LATENCY_S, bins, strict=False):
        total += count
        if total >= share * sum(bins):
            return limit_s
    return LATENCY_S[-1]
