"""What a fleet of cameras needs, and what bounds it.

Replicas as the autoscaling policy wants them, and a machine more that may fail; shards of the
server by rate, memory and network, whichever asks for most; partitions by both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.planning.inputs import Figure, Figures, Machine, PlanError
from workers.autoscale import ArrivalRate, Load, replicas_needed
from workers.settings import ScalingSettings, StreamSettings, WorkerSettings

_MAX_PARTITIONS = 256
_SHARD_SHARE = 0.6  # of what one server can do or hold, so that a failover finds room
_COPIES = 1  # replicas of each shard's primary
_MAX_REPLICAS = 10_000
_READERS = 2  # replicas that read a partition, at least
_A_CAMERA = 256  # decisions kept


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be planned for.

    Attributes:
        cameras: of the fleet.
        fps: frames a second of a camera that has somebody before it.
        busy: share of the cameras that have, at the peak.
        frame_bytes: of a frame.
        within_ms: p99 of the latency.
        utilisation: the policy's `target_utilisation`.
    """

    cameras: int
    fps: float
    busy: float
    frame_bytes: int
    within_ms: float
    utilisation: float = 0.6

    @property
    def peak_fps(self) -> float:
        """Frames a second at the peak."""
        return self.cameras * self.fps * self.busy


@dataclass(frozen=True, slots=True)
class Rented:
    """So many machines of a kind."""

    kind: str
    count: int
    each_holds: int
    price_per_hour: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What is needed.

    Attributes:
        wanted: what for.
        replicas: that decide at the peak; of them, `headroom` more than the work alone.
        headroom: see `replicas`.
        on_gpu: replicas run on a GPU each.
        replica_machines: that hold them.
        shards: primaries of the server, each with a replica.
        shards_by: shards that each bound asks for.
        shard_memory_gb: of one shard.
        server_machines: that hold primaries and replicas.
        partitions: of the stream.
        memory_gb: of all primaries, by what it holds.
        network_gbps: at the peak, all frames once; and of one shard, in and out.
        disk_mb_s: that one shard writes.
        p99_ms: that is to be expected at the peak.
        bound_by: what there would have to be less of.
        price_per_hour: of all machines.
        assumptions: in words.
    """

    wanted: Wanted
    replicas: int
    headroom: int
    on_gpu: bool
    replica_machines: Rented
    shards: int
    shards_by: dict[str, int]
    shard_memory_gb: float
    server_machines: Rented
    partitions: int
    memory_gb: dict[str, float]
    network_gbps: dict[str, float]
    disk_mb_s: float
    p99_ms: float
    bound_by: str
    price_per_hour: float
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        return asdict(self)


def plan(wanted: Wanted, figures: Figures, machines: Sequence[Machine]) -> Plan:
    """Return what a fleet needs, as cheaply as the machines allow.

    Raises:
        PlanError: nothing can keep the promise, or no machine can hold what is needed.
    """
    base_ms = figures.of("base_ms") + figures.of("batch_ms")
    if wanted.within_ms < base_ms:
        raise PlanError(
            f"p99 within {wanted.within_ms:g} ms: a frame takes {base_ms:g} ms when nobody else is "
            "there, so nothing can keep that: allow more"
        )
    kinds = [(False, each) for each in machines if not each.gpus]
    if figures.gpu_replica_fps.value is not None:
        kinds += [(True, each) for each in machines if each.gpus]
    choices = [_choice(wanted, figures, each, on_gpu=on_gpu) for on_gpu, each in kinds]
    fitting = [each for each in choices if each is not None]
    if not fitting:
        raise PlanError("no machine can hold a replica: see figures and machines")
    replicas, headroom, on_gpu, rented = min(fitting, key=lambda each: each[3].price_per_hour)
    # Partitions hold decisions, decisions ask for shards, and shards for partitions.
    partitions = _partitions(1, replicas)
    while True:
        memory = _memory_gb(wanted, figures, partitions)
        shards_by, server = _shards(wanted, figures, machines, sum(memory.values()))
        shards = max(shards_by.values())
        if partitions == (partitions := _partitions(shards, replicas)):
            break
    frame_gbps = wanted.peak_fps * wanted.frame_bytes * 8 / 1e9
    return Plan(
        wanted=wanted,
        replicas=replicas,
        headroom=headroom,
        on_gpu=on_gpu,
        replica_machines=rented,
        shards=shards,
        shards_by=shards_by,
        shard_memory_gb=math.ceil(sum(memory.values()) / shards / _SHARD_SHARE * 100) / 100,
        server_machines=server,
        partitions=partitions,
        memory_gb={name: round(each, 3) for name, each in memory.items()},
        network_gbps={
            "frames": round(frame_gbps, 3),
            "a shard": round(frame_gbps * (2 + _COPIES) / shards, 3),
        },
        disk_mb_s=round(wanted.peak_fps * wanted.frame_bytes / shards / 1e6, 2),
        p99_ms=round(_p99_ms(wanted, figures, replicas, on_gpu=on_gpu), 1),
        bound_by=_bound(shards_by, rented, server),
        price_per_hour=round(rented.price_per_hour + server.price_per_hour, 2),
        assumptions=_assumptions(figures),
    )


_Choice = tuple[int, int, bool, Rented]


def _choice(wanted: Wanted, figures: Figures, machine: Machine, *, on_gpu: bool) -> _Choice | None:
    """Return replicas on one kind of machine; None: it can't hold one."""
    kind = "gpu" if on_gpu else "cpu"
    cores, mb = figures.of(f"{kind}_replica_cores"), figures.of(f"{kind}_replica_mb")
    fps = figures.of(f"{kind}_replica_fps")
    holds = min(
        int(machine.cores / cores),
        int(machine.memory_gb * 1000 * 0.9 / mb),
        int(machine.network_gbps * 1e9 * 0.7 / (fps * wanted.frame_bytes * 8)),
        machine.gpus if on_gpu else 10**9,
    )
    if holds < 1:
        return None
    work = wanted.peak_fps / fps
    scaling = ScalingSettings(
        min_replicas=_READERS, max_replicas=_MAX_REPLICAS, target_utilisation=wanted.utilisation
    )
    # As the policy sees it: what is in flight counts as backlog, and of a rate that goes up and
    # down by chance what was highest of late.
    held_ms = figures.of("base_ms") + wanted.utilisation * figures.of("batch_ms") / 2
    by_chance_fps = math.sqrt(wanted.peak_fps / ArrivalRate.window_s)
    in_flight = round(wanted.peak_fps * held_ms / 1000)
    replicas = replicas_needed(Load(wanted.peak_fps + by_chance_fps, in_flight, fps), scaling)
    if replicas == _MAX_REPLICAS:
        raise PlanError(
            f"{work:,.0f} replicas' work is more than one deployment holds: plan several"
        )
    count = math.ceil(replicas / holds) + 1  # one of them may fail
    return (
        replicas,
        replicas - math.ceil(work),
        on_gpu,
        Rented(machine.name, count, holds, count * machine.price_per_hour),
    )


def held_bytes(figures: Figures, counts: Mapping[str, float]) -> dict[str, float]:
    """Return what a server's primaries need for what they hold, bytes.

    Args:
        figures: measured.
        counts: items by what they are: `decisions of the cameras`, `decisions of the partitions`,
            `seqs`.
    """
    of_each = {
        "decisions of the cameras": figures.of("decisions_bytes_a_camera") / _A_CAMERA,
        "decisions of the partitions": figures.of("decision_bytes"),
        "seqs": figures.of("seq_bytes"),
    }
    return {name: count * of_each[name] for name, count in counts.items()}


def _memory_gb(wanted: Wanted, figures: Figures, partitions: int) -> dict[str, float]:
    """Return what the primaries hold at the peak, once they keep as many decisions as they may."""
    worker, stream = WorkerSettings(allow_unsigned=True), StreamSettings()
    remembered_s = (worker.deadline_ms + worker.max_clock_skew_ms) / 1000
    held = held_bytes(
        figures,
        {
            "decisions of the cameras": wanted.cameras * _A_CAMERA,
            "decisions of the partitions": partitions * stream.max_decisions,
            "seqs": wanted.peak_fps * remembered_s,
        },
    )
    a_frame = wanted.frame_bytes + figures.of("entry_overhead_bytes")
    held["frames that wait, at most"] = wanted.peak_fps * worker.deadline_ms / 1000 * a_frame
    return {name: each / 1e9 for name, each in held.items()}


def _shards(
    wanted: Wanted, figures: Figures, machines: Sequence[Machine], memory_gb: float
) -> tuple[dict[str, int], Rented]:
    """Return the shards that each bound asks for, on the kind of machine that is cheapest."""
    found = []
    for machine in machines:
        if machine.gpus:
            continue
        bits = wanted.peak_fps * wanted.frame_bytes * 8 * (2 + _COPIES)
        by = {
            "rate": math.ceil(wanted.peak_fps / (figures.of("shard_fps") * _SHARD_SHARE)),
            "memory": math.ceil(memory_gb / (machine.memory_gb * 0.75 * _SHARD_SHARE)),
            "network": math.ceil(bits / (machine.network_gbps * 1e9 * _SHARD_SHARE)),
        }
        by = {name: max(1, count) for name, count in by.items()}
        count = max(by.values()) * (1 + _COPIES)
        found.append((by, Rented(machine.name, count, 1, count * machine.price_per_hour)))
    if not found:
        raise PlanError("no machine without a GPU is listed: the server needs some")
    return min(found, key=lambda each: each[1].price_per_hour)


def _partitions(shards: int, replicas: int) -> int:
    wanted = max(4, 2 * shards, math.ceil(replicas / 8))
    return min(_MAX_PARTITIONS, 1 << (wanted - 1).bit_length())


def _p99_ms(wanted: Wanted, figures: Figures, replicas: int, *, on_gpu: bool) -> float:
    """Return the p99 of the latency at the peak, ms.

    That of a frame alone; the batch that is under way when it comes, which is as large as replicas
    are busy; and the wait of a queue with many servers.

    Source: as `loadtest.simulation.fluid`.
    """
    fps = figures.of("gpu_replica_fps" if on_gpu else "cpu_replica_fps")
    used = min(wanted.peak_fps / (fps * replicas), 0.999)
    chance = used ** (math.sqrt(2 * (replicas + 1)) - 1)
    batch_ms = figures.of("batch_ms")
    mean_ms = 1000 / fps / (replicas * (1 - used)) * batch_ms * fps / 8000
    queued_ms = max(0.0, mean_ms * math.log(max(chance, 1e-9) / 0.01))
    return figures.of("base_ms") + used * batch_ms + queued_ms


def _bound(shards_by: dict[str, int], replicas: Rented, server: Rented) -> str:
    by = max(shards_by, key=lambda name: shards_by[name])
    what = {
        "rate": "frames a second of one server's thread",
        "memory": "memory of the servers",
        "network": "the servers' network",
    }[by]
    if replicas.price_per_hour >= server.price_per_hour:
        return f"the network's work in the replicas; the servers by {what}"
    return what


def _assumptions(figures: Figures) -> tuple[str, ...]:
    return (
        f"figures measured on {figures.hardware}; they scale with cores",
        f"each shard has {_COPIES} replica, and is used to {_SHARD_SHARE:.0%} at the peak",
        "replicas: what the autoscaling policy asks for; one machine more may fail",
        "a partition is read by two replicas at least; there are at most 256",
        "frames are deleted with their decision; the settings are the shipped ones",
        *(
            f"{name}: {each.value:g} {each.unit} ({each.how})"
            for name, each in figures
            if isinstance(each, Figure) and each.value is not None
        ),
    )
