"""What plans and simulations are compared with: a real run, of replicas that come and go."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from loadtest.report.terminal import tell_comparison
from loadtest.scenario.scenario import Scenario
from loadtest.validation.check import Compared
from loadtest.validation.real import Bench, kept_on, real_run
from workers.settings import ScalingSettings, StreamSettings
from workers.wire.keyring import write_keys


async def test_replicas_come_as_the_policy_says_and_every_frame_is_decided(
    stream_settings: StreamSettings, tmp_path: Path
) -> None:
    write_keys(tmp_path / "keys.json", {})
    url, partitions = stream_settings.url, stream_settings.partitions
    bench = Bench(url, tmp_path / "keys.json", (100.0, 150.0), cold_s=0.2, partitions=partitions)
    assert bench.service_fps == pytest.approx(2000 / 150)
    scenario = Scenario.model_validate(
        {
            "about": "More than one such replica can do.",
            "fleet": {"cameras": 4},
            "arrivals": {"shape": "constant", "fps": 40},
            "run": {"warm_up": "0 s", "steady": "2 s", "senders": 1},
            "slo": {"within": "30 s", "deadline": "30 s"},
        }
    )
    run = await real_run(bench, scenario, ScalingSettings(max_replicas=4), start=1)
    account = run.result.account
    assert account["due"] == account["decided"] == account["said"]["bona_fide"] > 40
    assert max(each.wanted for each in run.asked) == 4
    assert max(each.ready for each in run.asked) >= 2
    assert run.asked[-1].service_fps == pytest.approx(bench.service_fps, rel=0.5)
    cold_s = run.asked[-1].cold_s
    assert cold_s is not None
    assert cold_s >= 0.2
    counts = kept_on(url).counts
    told = account["decided"] + sum(account["presentations"].values())
    assert counts["decisions of the cameras"] == counts["decisions of the partitions"] == told


def test_a_comparison_holds_within_what_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    told = [
        Compared("plan: replicas", "", 6, 6.5, 6 / 6.5 - 1, 0.15),
        Compared("a flow: p99", "ms", 100, 200, -0.5, 0.20),
        Compared("plan: p99", "ms", 100, 200, -0.5, None),
    ]
    assert [each.holds for each in told] == [True, False, True]
    for each in told:
        tell_comparison(Console(width=200))(each)
    lines = capsys.readouterr().out.splitlines()
    assert Counter(line.split()[-1] for line in lines) == Counter(["yes", "no", "-50.0%"])
    assert np.char.find(lines[1], "20% allowed") > 0
