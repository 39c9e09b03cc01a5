"""A scenario: who sends what and when, what is done to the deployment, and what is promised of it.

It is a TOML file that reads like a sentence; `loadtest/README.md` tells each key. All of it is
checked before anything is sent: a problem is one line with file, field, rule and value.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from loadtest.errors import LoadtestError
from loadtest.scenario.arrivals import Replay, Shape, TraceError
from loadtest.scenario.faults import Fault
from loadtest.scenario.quantities import Bytes, Seconds, Share
from workers.settings import Settings, problems_of

SHIPPED = Path(__file__).parents[1] / "scenarios"


class ScenarioError(LoadtestError):
    """A scenario can't be run; each line of the message is one problem, with its place."""


class FleetSettings(Settings):
    """Who sends.

    Attributes:
        cameras: how many.
        source: `rendered`, a folder, or a list file, as for `livegate camera`.
        attacks: share of the presentations that are attacks, where the source has both.
        stay: how long a person stays before a camera.
        frame_size: frames are filled up to it; None: as they are.
        hot_cameras: that send more than their share.
        hot_share: of all frames that the hot cameras send together.
        through: `redis`, as a trusted gateway; `ingress`, as a camera that posts.
    """

    cameras: Annotated[int, Field(ge=1, le=100_000)]
    source: str = "rendered"
    attacks: Share = 0.1
    stay: Annotated[Seconds, Field(gt=0)] = 3.0
    frame_size: Annotated[Bytes, Field(le=1_000_000)] | None = None
    hot_cameras: Annotated[int, Field(ge=0)] = 0
    hot_share: Share = 0.0
    through: Literal["redis", "ingress"] = "redis"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hot_cameras >= self.cameras:
            raise ValueError(
                f"hot_cameras ({self.hot_cameras}) must be fewer than cameras ({self.cameras})"
            )
        if bool(self.hot_cameras) != bool(self.hot_share):
            raise ValueError("hot_cameras and hot_share go together")
        return self


class RunSettings(Settings):
    """How long, and from where.

    Attributes:
        warm_up: not counted in what is measured; all of it is in the account.
        steady: what is measured.
        patience: how long frames may take to be decided once nothing more is sent, and no frame
            is decided any more.
        seed: of all that is drawn.
        senders: processes that send; None: one a core, and never more than partitions.
        lateness: p99 of how late frames may be sent, or the run is invalid.
    """

    warm_up: Seconds = 10.0
    steady: Annotated[Seconds, Field(gt=0)]
    patience: Annotated[Seconds, Field(gt=0)] = 30.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    senders: Annotated[int, Field(ge=1, le=64)] | None = None
    lateness: Annotated[Seconds, Field(gt=0)] = 0.010

    @property
    def load_s(self) -> float:
        """How long frames are sent."""
        return self.warm_up + self.steady


class Slo(Settings):
    """What is promised.

    Attributes:
        percentile: of the latency, from the intended send to the decision read.
        within: that percentile must not be above it.
        deadline: a verdict that comes later is worth nothing to a door: goodput leaves it out.
        no_decision: at most this share of the good frames gets no verdict.
        wrong: at most this share of the verdicts is not the truth; None: not judged.
    """

    percentile: Annotated[float, Field(ge=50, lt=100)] = 99.0
    within: Annotated[Seconds, Field(gt=0)] = 0.5
    deadline: Annotated[Seconds, Field(gt=0)] = 3.0
    no_decision: Share = 0.0
    wrong: Share | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.within > self.deadline:
            raise ValueError("within must be at most deadline: what comes later is worth nothing")
        return self


class Scenario(Settings):
    """All of a file.

    Attributes:
        name: of the file, without its ending; not a key of it.
        about: what it is for, in a sentence or two.
    """

    name: Annotated[str, Field(max_length=0)] = ""
    about: Annotated[str, Field(min_length=1)]
    fleet: FleetSettings
    arrivals: Shape
    run: RunSettings
    slo: Slo = Slo()
    faults: tuple[Fault, ...] = ()

    def scaled(self, by_rate: float = 1.0, by_time: float = 1.0) -> "Scenario":
        """Return this scenario with all rates, or all times of its schedule, multiplied.

        What a fault does to the network or the disk, and the SLO, stay as they are.
        """
        if by_rate == by_time == 1:
            return self
        faults = tuple(
            fault.model_copy(
                update={
                    name: getattr(fault, name) * by_time
                    for name in ("at", "lasts")
                    if hasattr(fault, name)
                }
            )
            for fault in self.faults
        )
        run = self.run.model_copy(
            update={"warm_up": self.run.warm_up * by_time, "steady": self.run.steady * by_time}
        )
        arrivals = self.arrivals.scaled(by_rate, by_time)
        return self.model_copy(update={"arrivals": arrivals, "run": run, "faults": faults})


def shipped() -> list[str]:
    """Return the names of the scenarios that are shipped."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_scenario(source: str | Path) -> Scenario:
    """Read a scenario and check all that needs nothing but the file.

    Args:
        source: a file, or the name of a shipped scenario.

    Raises:
        ScenarioError: there is none, or it can't be run.
    """
    path = Path(source)
    if str(source) in shipped():
        path = SHIPPED / f"{source}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ScenarioError(
            f"{path}: no such file, and no shipped scenario: {', '.join(shipped())}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{path}: not TOML: {error}") from error
    return _checked(path, content)


def _checked(path: Path, content: dict[str, Any]) -> Scenario:
    try:
        scenario = Scenario.model_validate(content).model_copy(update={"name": path.stem})
    except ValidationError as error:
        lines = [f"{path}: {_field(loc, content)}: {what}" for loc, what in problems_of(error)]
        raise ScenarioError("\n".join(dict.fromkeys(lines))) from error
    if isinstance(scenario.arrivals, Replay):
        try:
            scenario = scenario.model_copy(
                update={"arrivals": scenario.arrivals.recorded(path.parent)}
            )
        except TraceError as error:
            raise ScenarioError(f"{path}: arrivals.trace: {error}") from error
    problems = [
        f"{path}: faults[{index}]: {problem}"
        for index, fault in enumerate(scenario.faults)
        if (problem := _too_late(fault, scenario.run.load_s))
    ]
    if problems:
        raise ScenarioError("\n".join(problems))
    return scenario


def _too_late(fault: Fault, load_s: float) -> str:
    end_s = fault.at + getattr(fault, "lasts", 0.0)
    if end_s <= load_s:
        return ""
    return f"{fault.do!r} ends {end_s:g} s after the start, the load lasts {load_s:g} s"


def _field(loc: tuple[str | int, ...], content: Any) -> str:  # noqa: ANN401 - of a file
    """Return a place as the file has it: without the tag of the union that pydantic puts in."""
    parts: list[str] = []
    for part in loc:
        if isinstance(content, list) and isinstance(part, int):
            parts.append(f"[{part}]")
            content = content[part] if part < len(content) else None
        elif isinstance(content, dict) and part in (content.get("do"), content.get("shape")):
            continue
        else:
            parts.append(f".{part}" if parts else str(part))
            content = content.get(part) if isinstance(content, dict) else None
    return "".join(parts) or "the file"
