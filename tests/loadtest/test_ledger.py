"""The ledger: what counts as lost, as twice, as right, as late."""

import asyncio
import json
from dataclasses import replace

import pytest

from loadtest.account import account_of, wait_until_decided
from loadtest.ledger import Ledger, Published, percentile
from tests.workers.wire.told import DECISION
from workers.client.outbox import SendResult
from workers.wire.decision import Decision, Outcome, Reason


def decision(seq: int, outcome: Outcome = Outcome.BONA_FIDE) -> Decision:
    reason = Reason.EXPIRED if outcome is Outcome.NO_DECISION else None
    return replace(DECISION, seq=seq, entry_id=f"{seq}-0", outcome=outcome, reason=reason)


def ledger_of(*truths: bool) -> Ledger:
    ledger = Ledger()
    for seq, is_bona_fide in enumerate(truths):
        ledger.publish("gate-1", seq, Published(10.0, is_bona_fide, seq % 2 == 1, late_ms=seq))
        ledger.sent("gate-1", SendResult(seq, "acknowledged", f"{seq}-0"))
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


def test_what_was_late_is_neither_right_nor_wrong() -> None:
    ledger = ledger_of(True, False, True, False)
    assert ledger.correct_ratio() is None
    ledger.decide(decision(2, Outcome.NO_DECISION), 10.5)
    assert ledger.correct_ratio() is None
    for seq, outcome in ((0, Outcome.BONA_FIDE), (1, Outcome.ATTACK), (3, Outcome.BONA_FIDE)):
        ledger.decide(decision(seq, outcome), 10.5)
    assert ledger.correct_ratio() == pytest.approx(2 / 3)
    assert ledger.outcomes() == {"bona_fide": 2, "attack": 1, "no_decision": 1}
    assert ledger.reasons() == {"expired": 1}


def test_latency_counts_from_the_intended_send() -> None:
    ledger = ledger_of(True, True)
    ledger.decide(decision(0), 10.25)
    ledger.decide(decision(1), 11.0)
    assert ledger.latencies_ms(is_surge=False) == pytest.approx([250])
    assert ledger.latencies_ms(is_surge=True) == pytest.approx([1000])
    assert percentile([], 99) is None
    assert percentile([1, 2, 3], 50) == 2


def test_every_frame_appears_in_the_account() -> None:
    ledger = ledger_of(True, True, True)
    for seq, status in ((7, "dropped"), (8, "unknown"), (9, "unknown"), (10, "refused")):
        ledger.publish("gate-1", seq, Published(10.0, is_bona_fide=True, late_ms=float(seq)))
        ledger.sent("gate-1", SendResult(seq, status))  # type: ignore[arg-type]
    ledger.num_unsent = 2
    for seq in (0, 1, 9):  # the reply to 9 got lost, the frame did not
        ledger.decide(decision(seq), 10.25)
    account = account_of(ledger)
    parts = ("acknowledged", "dropped", "unknown", "refused")
    assert [account[part] for part in parts] == [3, 3, 2, 1]
    assert account["published"] == sum(account[part] for part in parts)
    assert (account["decided"], account["unknown_decided"], account["lost"]) == (3, 1, 1)
    assert account["acknowledged"] + account["unknown_decided"] == 3 + account["lost"]
    assert account["correct_ratio"] == 1.0
    assert (account["send_late_p50_ms"], account["send_late_max_ms"]) == (7.0, 10.0)
    assert json.loads(json.dumps(account)) == account


async def test_a_lost_frame_is_waited_for_within_bounds() -> None:
    ledger = ledger_of(True, True)
    ledger.decide(decision(0), 10.5)
    assert not await wait_until_decided(ledger, patience_s=0.01)
    waiting = asyncio.create_task(wait_until_decided(ledger, patience_s=60))
    await asyncio.sleep(0)
    ledger.decide(decision(1), 10.5)
    assert await waiting
