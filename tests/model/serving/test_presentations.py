"""The sequential test: Wald's limits hold for independent frames, and like frames count less."""

import math

import numpy as np
import pytest

from model.serving.presentations import ErrorRates, SequentialTest, frame_evidence

RATES = ErrorRates(apcer=0.05, bpcer=0.1)


def test_evidence_is_the_ratio_of_the_likelihoods() -> None:
    assert frame_evidence(RATES, is_accepted=True) == pytest.approx(math.log(0.9 / 0.05))
    assert frame_evidence(RATES, is_accepted=False) == pytest.approx(math.log(0.1 / 0.95))


@pytest.mark.parametrize("rates", [ErrorRates(0, 0), ErrorRates(1, 1), ErrorRates(0, 1)])
def test_no_calibration_makes_a_frame_proof_or_turns_it_round(rates: ErrorRates) -> None:
    accepted = frame_evidence(rates, is_accepted=True)
    assert 0 <= accepted < 10
    assert -10 < frame_evidence(rates, is_accepted=False) <= 0


@pytest.mark.parametrize("is_bona_fide", [True, False])
def test_error_rates_of_presentations_of_independent_frames(is_bona_fide: bool) -> None:
    test = SequentialTest(0.01, 0.02, frame_correlation=0, max_frames=10_000)
    random, num_wrong, num = np.random.default_rng(7), 0, 4000
    rate = 1 - RATES.bpcer if is_bona_fide else RATES.apcer
    for _ in range(num):
        total, frames, verdict = 0.0, 0, None
        while verdict is None:
            frames += 1
            total += frame_evidence(RATES, is_accepted=bool(random.random() < rate))
            verdict = test.verdict(total, frames)
        num_wrong += verdict != ("bona_fide" if is_bona_fide else "attack")
    limit = (
        test.max_bpcer / (1 - test.max_apcer)
        if is_bona_fide
        else (test.max_apcer / (1 - test.max_bpcer))
    )
    # Wald's inequality (3.18), and three standard deviations of the sample.
    assert num_wrong / num <= limit + 3 * math.sqrt(limit * (1 - limit) / num)
    assert num_wrong > 0


def test_like_frames_count_for_less() -> None:
    evidence = frame_evidence(RATES, is_accepted=True)
    needed = []
    for correlation in (0.0, 0.2, 0.35):
        test = SequentialTest(0.001, 0.01, correlation, max_frames=1000)
        needed.append(next(n for n in range(1, 1000) if test.verdict(n * evidence, n)))
    assert needed == sorted(set(needed))
    # What says the same for ever says no more than the first few.
    deaf = SequentialTest(0.001, 0.01, frame_correlation=1, max_frames=50)
    assert [deaf.verdict(n * evidence, n) for n in (1, 49, 50)] == [None, None, "undecided"]
