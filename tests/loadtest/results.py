"""Results of runs that never were, for tests of what is made of them."""

from typing import Any

import numpy as np

from loadtest.blocks import block_of
from loadtest.histograms import Distribution
from loadtest.judge import slo_checks
from loadtest.result import Check, FaultLog, Result, Second
from loadtest.scenario.scenario import Scenario, load_scenario


def result_of(
    latencies_ms: np.ndarray[Any, Any],
    scenario: Scenario | None = None,
    *,
    checks: list[Check] | None = None,
    **account: Any,
) -> Result:
    scenario = scenario or load_scenario("steady")
    steady = Distribution()
    steady.add(latencies_ms)
    told = {
        **dict.fromkeys(("due", "acknowledged", "decided"), len(latencies_ms)),
        **dict.fromkeys(("dropped", "refused", "unknown", "unknown_arrived", "lost"), 0),
        **dict.fromkeys(("doubled", "breaches", "unsigned", "strangers"), 0),
        "said": {"bona_fide": len(latencies_ms)},
        "by_kind": {"bona_fide": {"bona_fide": len(latencies_ms)}},
        "good_steady": {"verdict": len(latencies_ms), "no_decision": 0},
        "goodput_fps": 1.0,
        "in_time": len(latencies_ms),
        "wrong_share": 0.0,
        "errors": {},
        **account,
    }
    second = Second(1.0, 100, 100, 0, 5.0, 9.0, 3, 2, 0, 1, 2.0, 80.0, 60.0, 1.5, 0.2)
    names = ("all", "lateness", "ack", "queue", "decode", "batch", "infer", "commit", "total")
    return Result(
        scenario=scenario.model_dump(mode="json", exclude={"name"}),
        name=scenario.name,
        environment={"cpu": "a processor", "cores": 2, "target": "none", "models": ["m@1"]},
        account=told,
        latency={"steady": steady.encode(), **{name: steady.encode() for name in names}},
        blocks=[block_of(each) for each in np.array_split(latencies_ms.astype(np.float32), 24)],
        timeline=[second],
        faults=[FaultLog(0.5, "kill a replica", "began"), FaultLog(0.6, "kill a replica", "ended")],
        checks=[Check("it was", True, "so")] if checks is None else checks,
        slo=slo_checks(scenario, told, steady),
    )
