"""The fault schedule, shortened: each kind of trouble once, and the account at the end."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.faults import CLOCK, SERVER
from tests.faults.run import play, report, running, settle
from tests.faults.servers import FAKETIME, faked, single

SHORT = (
    *("kill_replica", "kill_server", "lose_replies", "cut_lines", "hand_over", "poison"),
    *("wrong_type", "last_id", "full_server", "forbid_command"),
)


def test_no_frame_is_lost_or_decided_twice(tmp_path: Path) -> None:
    faults = {name: SERVER[name] for name in SHORT}
    with (
        single(tmp_path / "servers") as servers,
        running(servers, tmp_path, seed=1, fps=5) as run,
    ):
        played: Counter[str] = Counter()
        play(run, faults, len(SHORT), played, print)
        account = settle(run)
    assert played.total() >= len(SHORT)
    assert account["acknowledged"] > 0
    assert account["wrong"] == [], report(account)


@pytest.mark.skipif(not FAKETIME.exists(), reason="no libfaketime here: apt-get install faketime")
def test_a_clock_that_is_set_back_makes_no_frame_younger(tmp_path: Path) -> None:
    faults = {"back_ten_seconds": CLOCK["back_ten_seconds"]}
    with faked(tmp_path) as servers, running(servers, tmp_path, seed=1, fps=5) as run:
        play(run, faults, 1, Counter(), print)
        account = settle(run)
    assert account["said"]["bona_fide"] > 0
    assert account["wrong"] == [], report(account)
