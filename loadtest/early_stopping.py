"""When enough frames were seen to say that a percentile holds, or that it doesn't.

Of frames that each take longer than a limit with probability 1 - p, so few late ones among so many
would be seen with at most 1 % chance: then p of all frames keep the limit, with 99 % confidence.
The same is asked the other way round, so that a search need not go on until it is sure of nothing.

Source: MLPerf Inference, LoadGen's early stopping criterion (mlcommons/inference, loadgen/
early_stopping.cc and mlperf inference_rules, appendix "Early stopping criterion"), without its
tolerance. With it, one late query asks for 64 in all at the 90th percentile, 662 at the 99th.
"""

import math
from typing import Literal

import numpy as np

CONFIDENCE = 0.99
Verdict = Literal["holds", "fails", "open"]


def early_verdict(
    num_frames: int, num_late: int, percentile: float, confidence: float = CONFIDENCE
) -> Verdict:
    """Say whether a percentile keeps a limit; `open`: there are too few frames to tell.

    Args:
        num_frames: that were seen.
        num_late: of them, beyond the limit.
        percentile: that is promised, above 0 and below 100.
        confidence: above 0.5 and below 1.
    """
    late = 1 - percentile / 100
    if at_most(num_late, num_frames, late) <= 1 - confidence:
        return "holds"
    if num_late and 1 - at_most(num_late - 1, num_frames, late) <= 1 - confidence:
        return "fails"
    return "open"


def frames_needed(num_late: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest frames among which so many late ones still let a percentile hold."""
    low, high = num_late, max(64, 2 * num_late)
    while early_verdict(high, num_late, percentile, confidence) != "holds":
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if early_verdict(middle, num_late, percentile, confidence) == "holds":
            high = middle
        else:
            low = middle
    return high


def at_most(count: int, trials: int, chance: float) -> float:
    """Return the probability of at most `count` of `trials`, each with `chance`: a binomial's."""
    if count < 0:
        return 0.0
    if count >= trials:
        return 1.0
    k = np.arange(count + 1, dtype=np.float64)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
    falling = np.concatenate([[0.0], np.cumsum(np.log(trials - np.arange(count)))])
    terms = falling - log_factorials + k * math.log(chance) + (trials - k) * math.log1p(-chance)
    most = float(terms.max())
    return min(1.0, math.exp(most) * float(np.exp(terms - most).sum()))
