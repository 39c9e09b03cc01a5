"""The fleet: what each replica of a deployment says of its bundles."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from deploy.errors import DeployError

_TIMEOUT_S = 10.0


class NoAnswer(DeployError):
    """No replica answers, or what answers is none; the message says where it was asked."""


@dataclass(frozen=True, slots=True)
class Replica:
    """What one replica says of itself.

    Attributes:
        name: of the replica.
        asked: the `user_config` that it was given last.
        state: `loading`, `ready` or `refused`: what became of that.
        error: why it is refused.
        bundle: by which it decides, as the config names it.
        model: the same, as decisions name it.
        runs_on: what runs the network.
        candidate: the bundle beside it, as decisions name it; empty: there is none.
        shadow: the bundle that judges beside, unseen; empty: none does.
    """

    name: str
    asked: dict[str, Any]
    state: str
    error: str
    bundle: str
    model: str
    runs_on: str
    candidate: str = ""
    shadow: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What all replicas said of themselves at one time.

    Attributes:
        replicas: those that said something within the last seconds, by name.
        num_running: how many Serve knows to run; None where it does not say.
        shadow: counts of what a candidate would have decided; empty: there are none.
    """

    replicas: tuple[Replica, ...]
    num_running: int | None
    shadow: dict[str, Any] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every replica that runs has said something."""
        return bool(self.replicas) and len(self.replicas) >= (self.num_running or 0)

    def faults(self) -> list[str]:
        """Return what is not as it should be, in words; nothing: all replicas do the same."""
        found = [f"{each.name}: {each.error}" for each in self.replicas if each.state == "refused"]
        loading = sum(each.state == "loading" for each in self.replicas)
        if loading:
            found.append(f"{loading} still load what they were given")
        for what, names in (
            ("bundles decide", {each.model for each in self.replicas}),
            ("candidates are loaded", {each.candidate for each in self.replicas}),
            ("configs were given", {json.dumps(each.asked) for each in self.replicas}),
        ):
            if len(names) > 1:
                found.append(f"{len(names)} different {what}")
        if not self.is_whole:
            found.append(
                f"{len(self.replicas)} of {self.num_running or '?'} replicas tell anything"
            )
        return found


class Fleet:
    """The replicas of one deployment, asked over HTTP."""

    def __init__(self, http_url: str) -> None:
        """Ask nothing yet.

        Args:
            http_url: of the deployment's HTTP side.
        """
        self._url = f"{http_url.rstrip('/')}/v1/status"

    def look(self) -> Snapshot:
        """Ask any replica what all of them say.

        Raises:
            NoAnswer: none answers, or one of another version does.
        """
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s)
                status = json.load(answer)
            names = Replica.__dataclass_fields__
            replicas = tuple(
                Replica(**{name: row[name] for name in names if name in row})
                for row in status["replicas"]
            )
            states = status["states"]
        except (OSError, urllib.error.URLError) as error:
            raise NoAnswer(f"{self._url}: no replica answers: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NoAnswer(f"{self._url}: is no deployment of this version: {error!r}") from error
        running = states.get("RUNNING", 0) + states.get("UPDATING", 0) if states else None
        return Snapshot(replicas, running, status.get("shadow") or {})
