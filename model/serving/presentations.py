"""The verdict on a presentation: a sequential test over the decisions on its frames.

A frame that is accepted, or refused, is evidence as strong as the error rates that its threshold
was calibrated to allow. Evidence adds up until it reaches one of two limits, which follow from the
error rates that a presentation may have. The frames of one presentation are alike, so each further
one counts for less.

Source: A. Wald, Sequential Tests of Statistical Hypotheses, Annals of Mathematical Statistics 16
(1945), sections 3.2 and 3.3; the effective size of a correlated sample: L. Kish, Survey Sampling
(1965), section 5.4.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

# No sample is large enough to say that a frame proves something.
_LEAST_RATE, _LARGEST_RATE = 1e-4, 0.5

Verdict = Literal["bona_fide", "attack", "undecided"]


class ErrorRates(NamedTuple):
    """How often a threshold is wrong, as the upper ends of calibrated intervals.

    Attributes:
        apcer: of the worst species, [0, 1].
        bpcer: [0, 1].
    """

    apcer: float
    bpcer: float


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """How a presentation is judged by its frames.

    Attributes:
        max_apcer: part of the attack presentations that may get `bona_fide`, (0, 0.5).
        max_bpcer: part of the bona fide presentations that may get `attack`, (0, 0.5).
        frame_correlation: of the decisions on two frames of one presentation, [0, 1]. At 1 the
            first frame is all that counts, at 0 each one is news.
        max_frames: a presentation with no verdict by then is `undecided`.
    """

    max_apcer: float
    max_bpcer: float
    frame_correlation: float
    max_frames: int

    @property
    def upper(self) -> float:
        """From this evidence on, nats, a presentation is bona fide."""
        return math.log((1 - self.max_bpcer) / self.max_apcer)

    @property
    def lower(self) -> float:
        """Down from this evidence, nats, a presentation is an attack."""
        return math.log(self.max_bpcer / (1 - self.max_apcer))

    def verdict(self, total: float, num_frames: int) -> Verdict | None:
        """Return the verdict; None: it takes more frames.

        Args:
            total: sum of the frames' evidence, nats.
            num_frames: how many there were, at least 1.
        """
        combined = total / (1 + (num_frames - 1) * self.frame_correlation)
        if combined >= self.upper:
            return "bona_fide"
        if combined <= self.lower:
            return "attack"
        return "undecided" if num_frames >= self.max_frames else None


DEFAULT_TEST = SequentialTest(max_apcer=0.001, max_bpcer=0.01, frame_correlation=0.2, max_frames=30)


def frame_evidence(rates: ErrorRates, *, is_accepted: bool) -> float:
    """Return what the decision on one frame says: log likelihood ratio, nats, above 0: bona fide.

    Args:
        rates: of the threshold that the frame was compared with.
        is_accepted: its score reached that threshold.
    """
    apcer, bpcer = (min(max(rate, _LEAST_RATE), _LARGEST_RATE) for rate in rates)
    if is_accepted:
        return math.log((1 - bpcer) / apcer)
    return math.log(bpcer / (1 - apcer))
