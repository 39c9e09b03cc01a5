"""The ledger: what counts as lost, as twice, as right, as late."""

from dataclasses import replace

import pytest

from loadtest.ledger import Ledger, Published, percentile
from tests.workers.wire.test_wire import DECISION
from workers.wire.decision import Decision, Outcome, Reason


def decision(seq: int, outcome: Outcome = Outcome.BONA_FIDE) -> Decision:
    reason = Reason.EXPIRED if outcome is Outcome.NO_DECISION else None
    return replace(DECISION, seq=seq, entry_id=f"{seq}-0", outcome=outcome, reason=reason)


def ledger_of(*truths: bool) -> Ledger:
    ledger = Ledger()
    for seq, is_bona_fide in enumerate(truths):
        ledger.publish("gate-1", seq, Published(10.0, is_bona_fide, is_surge=seq % 2 == 1))
        ledger.acknowledge("gate-1", seq, f"{seq}-0")
    return ledger


def test_a_frame_without_a_decision_is_open() -> None:
    ledger = ledger_of(True, True)
    ledger.decide(decision(0), 10.5)
    assert ledger.num_open == 1
    ledger.decide(decision(1), 10.5)
    assert ledger.num_open == 0


def test_a_second_decision_is_a_duplicate() -> None:
    ledger = ledger_of(True)
    ledger.decide(decision(0), 10.5)
    ledger.decide(decision(0, Outcome.ATTACK), 10.6)
    assert len(ledger.duplicates) == 1
    assert ledger.outcomes() == {"bona_fide": 1}


def test_no_decision_is_not_right() -> None:
    ledger = ledger_of(True, False, True, False)
    outcomes = (Outcome.BONA_FIDE, Outcome.ATTACK, Outcome.NO_DECISION, Outcome.BONA_FIDE)
    for seq, outcome in enumerate(outcomes):
        ledger.decide(decision(seq, outcome), 10.5)
    assert ledger.correct_ratio() == 0.5


def test_latency_counts_from_the_intended_send() -> None:
    ledger = ledger_of(True, True)
    ledger.decide(decision(0), 10.25)
    ledger.decide(decision(1), 11.0)
    assert ledger.latencies_ms(is_surge=False) == pytest.approx([250])
    assert ledger.latencies_ms(is_surge=True) == pytest.approx([1000])
    assert percentile([], 99) is None
    assert percentile([1, 2, 3], 50) == 2
