"""What a run has found: the account, distributions, the timeline, and what follows from them.

A result is saved as JSON and read again by `compare`, `plan` and the report; nothing else is kept.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from loadtest.errors import LoadtestError
from loadtest.histograms import Distribution

VERSION = 1


class ResultError(LoadtestError):
    """A file is no result of a run; the message says why."""


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the timeline.

    Attributes:
        at_s: since the start of the load.
        due_fps: frames that were due.
        verdict_fps: frames that got a verdict.
        no_decision_fps: frames that got none, with a reason.
        p50_ms: of the latency of those decided in this second; None of none.
        p99_ms: the same.
        waiting: in the streams, not given to any replica; None: the server did not say.
        pending: given to a replica and not committed.
        held: in the senders' outboxes.
        replicas: that decided something.
        server_mb: memory of the servers.
        replica_mb: of the replicas on this machine, all together; None: they are elsewhere.
        sender_mb: of the senders, all together.
        lateness_ms: p99 of how late frames were sent.
        sender_cpu: processor time of all senders, in cores.
    """

    at_s: float
    due_fps: float
    verdict_fps: float
    no_decision_fps: float
    p50_ms: float | None
    p99_ms: float | None
    waiting: int | None
    pending: int | None
    held: int
    replicas: int
    server_mb: float | None
    replica_mb: float | None
    sender_mb: float
    lateness_ms: float | None
    sender_cpu: float


@dataclass(frozen=True, slots=True)
class FaultLog:
    """What was done to the deployment, and when, s since the start of the load."""

    at_s: float
    what: str
    event: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold; `detail` has the figures."""

    name: str
    holds: bool
    detail: str


@dataclass(slots=True)
class Result:
    """All of a run.

    Attributes:
        scenario: as it was run.
        name: of the scenario.
        environment: hardware, versions, commit, date, command.
        account: counts, by what has become of frames.
        latency: distributions by name, in HdrHistogram's own format.
        blocks: latencies of the steady window, some seconds each, for `compare`.
        timeline: second by second.
        faults: what was done.
        checks: of the load itself, and of the account against the server.
        slo: of the promise.
    """

    scenario: dict[str, Any]
    name: str
    environment: dict[str, Any]
    account: dict[str, Any]
    latency: dict[str, str]
    blocks: list[dict[str, int]] = field(default_factory=list)
    timeline: list[Second] = field(default_factory=list)
    faults: list[FaultLog] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    slo: list[Check] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether the figures are the deployment's, and not those of the load itself."""
        return all(each.holds for each in self.checks)

    @property
    def is_met(self) -> bool:
        """Whether the promise was kept."""
        return self.is_valid and all(each.holds for each in self.slo)

    @property
    def verdict(self) -> str:
        """`invalid`, `met` or `missed`."""
        if not self.is_valid:
            return "invalid"
        return "met" if self.is_met else "missed"

    def distribution(self, name: str) -> Distribution:
        """Return a distribution: `steady`, `all`, `lateness`, `ack`, `added`, or a stage's."""
        return Distribution(self.latency.get(name, ""))

    def to_json(self) -> dict[str, Any]:
        """Return all of it, and what follows from it, for JSON."""
        summaries = {name: self.distribution(name).summary() for name in self.latency}
        return {
            "version": VERSION, "verdict": self.verdict, **asdict(self), "latency_ms": summaries,
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def read_result(path: Path) -> Result:
    """Read what `Result.save` wrote.

    Raises:
        ResultError: the file is none.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told.pop("version") != VERSION:
            raise ResultError(f"{path}: a result of another version: run the test again")
        del told["verdict"], told["latency_ms"]
        told["timeline"] = [Second(**each) for each in told["timeline"]]
        told["faults"] = [FaultLog(**each) for each in told["faults"]]
        told["checks"] = [Check(**each) for each in told["checks"]]
        told["slo"] = [Check(**each) for each in told["slo"]]
        return Result(**told)
    except OSError as error:
        raise ResultError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path}: not a result of `livegate loadtest run`: {error!r:.120}"
        ) from error
