"""What elastic replicas are given and what they tell, for processes without a replica's code."""

from dataclasses import dataclass

from workers.settings import Settings, WorkerSettings


class ElasticSettings(Settings):
    """What is run.

    Attributes:
        settings: of the replicas, and of their scaling.
        batch_ms: how long the network takes for a micro-batch, by size, from 1.
        cold_s: how long a replica takes from when it is wanted until it reads.
        start: replicas to begin with.
    """

    settings: WorkerSettings
    batch_ms: tuple[float, ...]
    cold_s: float
    start: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What the policy knew, and what it said.

    Attributes:
        at_s: monotonic.
        ready: replicas that have decided something.
        wanted: replicas that there are to be.
        arrival_fps: as the policy sees it.
        backlog: entries in the streams.
        service_fps: of a replica, as they report it.
        cold_s: from when a replica was wanted until it decided, mean of all so far; None: of none.
    """

    at_s: float
    ready: int
    wanted: int
    arrival_fps: float
    backlog: int
    service_fps: float
    cold_s: float | None
