"""What is said of a run when it is over: each frame that was due appears once."""

from collections import Counter
from typing import Any

from loadtest.book import Book
from loadtest.counts import Counts, Kind
from loadtest.histograms import Distribution

_GOOD = {kind.name.lower() for kind in Kind if kind.is_good}
_VERDICTS = {"bona_fide", "attack"}


def account_of_counts(counts: Counts, lost: int, load_s: float, warm_up_s: float) -> dict[str, Any]:
    """Return the account, in which every frame appears once.

    `due` = `acknowledged` + `dropped` + `unknown` + `refused`, and `acknowledged` +
    `unknown_arrived` = `decided` + `lost`.
    """
    statuses: Counter[str] = Counter()
    by_phase: dict[str, Counter[str]] = {}
    for (phase, status), count in counts.statuses.items():
        statuses[status] += count
        by_phase.setdefault(phase, Counter())[status] += count
    said: Counter[str] = Counter()
    by_kind: dict[str, Counter[str]] = {}
    good: Counter[str] = Counter()
    for (phase, kind, what), count in counts.said.items():
        said[what] += count
        by_kind.setdefault(kind, Counter())[what] += count
        by_phase.setdefault(phase, Counter())[what] += count
        if phase == "steady" and kind in _GOOD:
            good["verdict" if what in _VERDICTS else "no_decision"] += count
    steady_s = load_s - warm_up_s
    judged = counts.right + counts.wrong
    return {
        **{
            name: statuses[name]
            for name in ("due", "acknowledged", "dropped", "unknown", "refused")
        },
        "unknown_arrived": statuses["unknown_arrived"],
        "decided": said.total(),
        "lost": lost,
        "doubled": counts.doubled,
        "breaches": counts.breaches,
        "unsigned": counts.unsigned,
        "strangers": counts.strangers,
        "said": dict(sorted(said.items())),
        "presentations": dict(sorted(counts.presentations.items())),
        "by_kind": {kind: dict(sorted(each.items())) for kind, each in sorted(by_kind.items())},
        "by_phase": {phase: dict(sorted(each.items())) for phase, each in by_phase.items()},
        "good_steady": {name: good[name] for name in ("verdict", "no_decision")},
        "goodput_fps": round(counts.in_time["steady"] / steady_s, 2) if steady_s else None,
        "in_time": counts.in_time["steady"],
        "wrong_share": round(counts.wrong / judged, 5) if judged else None,
    }


def account_in_brief(
    book: Book, steady: Distribution, surge: Distribution, lateness: Distribution
) -> dict[str, Any]:
    """Return the one line that a demo ends with, for JSON.

    Two sums hold: `published` = `acknowledged` + `dropped` + `unknown` + `refused`, and
    `acknowledged` + `unknown_decided` = `decided` + `lost`.

    Args:
        book: closed.
        steady: latencies, from when a frame was due to when its decision was read.
        surge: the same, of the frames that were due while the load was meant to be too much.
        lateness: of the frames themselves, when they were handed over.
    """
    whole = account_of_counts(book.counts, len(book.lost()), 0.0, 0.0)
    said, wrong = Counter(whole["said"]), whole["wrong_share"]
    return {
        "published": whole["due"],
        **{name: whole[name] for name in ("acknowledged", "dropped", "unknown", "refused")},
        "decided": whole["decided"],
        "unknown_decided": whole["unknown_arrived"],
        "lost": whole["lost"],
        "duplicates": whole["doubled"],
        "bona_fide": said["bona_fide"],
        "attack": said["attack"],
        "no_decision": said.total() - said["bona_fide"] - said["attack"],
        "expired": said["expired"],
        "correct_ratio": None if wrong is None else round(1 - wrong, 4),
        "p50_ms": _at(steady, 50),
        "p99_ms": _at(steady, 99),
        "p99_surge_ms": _at(surge, 99),
        "send_late_p50_ms": _at(lateness, 50),
        "send_late_p99_ms": _at(lateness, 99),
        "send_late_max_ms": _at(lateness, 100),
    }


def _at(of: Distribution, percent: float) -> float | None:
    value_ms = of.at(percent)
    return None if value_ms is None else round(value_ms, 1)
