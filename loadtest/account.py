"""What is said of a run when it is over: one line in which every frame appears."""

import asyncio
import time
from typing import Any

from loadtest.ledger import Ledger, percentile

_POLL_S = 0.05


async def wait_until_decided(ledger: Ledger, patience_s: float = 60.0) -> bool:
    """Wait until each acknowledged frame has its decision, as long as more of them get one.

    Args:
        ledger: that somebody goes on to tell of decisions.
        patience_s: gives up when no frame was decided for this long.

    Returns:
        Whether all have theirs; those that have not are lost.
    """
    fewest = ledger.num_open
    give_up_s = time.monotonic() + patience_s
    while ledger.num_open:
        if ledger.num_open < fewest:
            fewest = ledger.num_open
            give_up_s = time.monotonic() + patience_s
        if time.monotonic() >= give_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


def account_of(ledger: Ledger) -> dict[str, Any]:
    """Return the account of a run, for JSON.

    Two sums hold: `published` = `acknowledged` + `dropped` + `unknown` + `refused`, and
    `acknowledged` + `unknown_decided` = `decided` + `lost`.
    """
    statuses, outcomes = ledger.statuses(), ledger.outcomes()
    steady_ms, lateness_ms = ledger.latencies_ms(is_surge=False), ledger.lateness_ms()
    correct = ledger.correct_ratio()
    return {
        "published": len(ledger.published) + ledger.num_unsent,
        "acknowledged": statuses["acknowledged"],
        "dropped": statuses["dropped"],
        "unknown": statuses["unknown"],
        "refused": statuses["refused"],
        "decided": len(ledger.decided),
        "unknown_decided": len(ledger.decided.keys() - ledger.acknowledged.keys()),
        "lost": ledger.num_open,
        "duplicates": len(ledger.duplicates),
        "bona_fide": outcomes["bona_fide"],
        "attack": outcomes["attack"],
        "no_decision": outcomes["no_decision"],
        "expired": ledger.reasons()["expired"],
        "correct_ratio": None if correct is None else round(correct, 4),
        "p50_ms": percentile(steady_ms, 50),
        "p99_ms": percentile(steady_ms, 99),
        "p99_surge_ms": percentile(ledger.latencies_ms(is_surge=True), 99),
        "send_late_p50_ms": percentile(lateness_ms, 50),
        "send_late_p99_ms": percentile(lateness_ms, 99),
        "send_late_max_ms": percentile(lateness_ms, 100),
    }
