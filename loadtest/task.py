"""What a sender is given, what it tells, and how the cameras are shared out among senders."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.counts import Counts
from loadtest.faults.proxy import Proxy
from loadtest.scenario.scenario import Scenario
from loadtest.target import Target
from workers.wire import keys

STAGES = ("queue", "decode", "batch", "infer", "commit", "total")

Values = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """What a sender is to do.

    Attributes:
        number: which of the senders it is.
        scenario: of the run.
        url: of the server, for frames; through a proxy, say.
        read_url: of the server, for decisions.
        cluster: it is a cluster.
        partitions: of the deployment.
        http_url: of the ingress, where frames are posted; empty: through Redis.
        camera_keys: this sender's cameras, and their keys.
        hot: which of them are hot.
        share: of all frames that are its.
    """

    number: int
    scenario: Scenario
    url: str
    read_url: str
    cluster: bool
    partitions: int
    http_url: str
    camera_keys: Mapping[str, bytes | None]
    hot: tuple[bool, ...]
    share: float


@dataclass(slots=True)
class Tick:
    """What a sender saw in a second.

    Attributes:
        at_s: since the start of the load.
        is_last: it has ended.
        counts: of the run so far.
        latency_ms: from due to the decision read, of good frames that were decided.
        steady_ms: the same, of those of the steady window.
        lateness_ms: from due to handed over, of all frames.
        ack_ms: from due to the entry id.
        added_ms: of the latency, what was before the server had the frame and after it had the
            decision, to a millisecond: the driver's own, and the line's.
        stages_ms: by stage, as the replicas say, of frames of the steady window.
        replicas: who decided.
        models: with what.
        errors: what went wrong, and how often.
        waiting: frames in outboxes.
        open: frames acknowledged and not decided.
        lost: frames acknowledged and never decided: only in the last one.
        cpu_s: processor time of this process since the start of the load.
        rss_mb: its memory.
        book_bytes: of that, the account's.
    """

    at_s: float
    is_last: bool
    counts: Counts
    latency_ms: Values
    steady_ms: Values
    lateness_ms: Values
    ack_ms: Values
    added_ms: Values
    stages_ms: dict[str, Values]
    replicas: set[str]
    models: set[str]
    errors: Counter[str]
    waiting: int
    open: int
    lost: int
    cpu_s: float
    rss_mb: float
    book_bytes: int


def seed_of(scenario: Scenario, number: int) -> int:
    """Return the seed of all that one of a scenario's senders draws."""
    return scenario.run.seed * 1009 + number


def tasks_of(scenario: Scenario, target: Target, proxy: Proxy | None) -> list[Task]:
    """Share the cameras out: each sender has partitions of its own, and so reads its own alone."""
    camera_keys = target.camera_keys(scenario.fleet)
    num_hot = scenario.fleet.hot_cameras
    hot = {camera_id: number < num_hot for number, camera_id in enumerate(camera_keys)}
    by_partition: dict[int, list[str]] = {}
    for camera_id in camera_keys:
        partition = keys.partition_of(camera_id, target.partitions)
        by_partition.setdefault(partition, []).append(camera_id)
    wanted = scenario.run.senders or len(os.sched_getaffinity(0))
    num_senders = min(wanted, len(by_partition))
    shares: list[list[str]] = [[] for _ in range(num_senders)]
    for ids in sorted(by_partition.values(), key=len, reverse=True):
        min(shares, key=len).extend(ids)
    url = target.url if proxy is None else f"redis://127.0.0.1:{proxy.port}/0"
    weight = {
        each: scenario.fleet.hot_share / num_hot
        if hot[each]
        else (1 - scenario.fleet.hot_share) / (len(hot) - num_hot)
        for each in hot
    }
    return [
        Task(
            number=number,
            scenario=scenario,
            url=url,
            read_url=target.url,
            cluster=target.cluster,
            partitions=target.partitions,
            http_url=target.http_url if scenario.fleet.through == "ingress" else "",
            camera_keys={each: camera_keys[each] for each in ids},
            hot=tuple(hot[each] for each in ids),
            share=sum(weight[each] for each in ids),
        )
        for number, ids in enumerate(shares)
    ]


def lone_task(target: Target, num_cameras: int, deadline_s: float, stay_s: float = 3.0) -> Task:
    """Return the task of a fleet in this process, that is told when to send.

    Args:
        target: the deployment.
        num_cameras: that send; half of those who come before them are attacks.
        deadline_s: frames are dropped when they have waited so long.
        stay_s: how long a person stays, more or less.
    """
    scenario = Scenario.model_validate(
        {
            "about": "Cameras of one process, on a schedule of its own.",
            "fleet": {"cameras": num_cameras, "attacks": "50 %", "stay": f"{stay_s} s"},
            "arrivals": {"shape": "constant", "fps": 1},
            "run": {"warm_up": "0 s", "steady": "1 s", "senders": 1},
            "slo": {"within": f"{deadline_s} s", "deadline": f"{deadline_s} s"},
        }
    )
    return tasks_of(scenario, target, None)[0]
