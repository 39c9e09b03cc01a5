"""A change of bundles in all replicas of a deployment: whole, or undone.

A new bundle is loaded beside the old one first, everywhere. Only when each replica has checked its
hash and passed its self-test does it take over, which needs no more than a moment: until then no
frame is judged by it, and where one replica refuses it, none ever is.
"""

import time
from collections.abc import Callable
from pathlib import Path

from deploy.errors import DeployError
from deploy.models.control import Control, UserConfig
from deploy.models.fleet import Fleet, NoAnswer, Replica, Snapshot

_POLL_S = 0.5
_PATIENCE_S = 180.0

Tell = Callable[[str], None]


class SwapRefused(DeployError):
    """A replica does not take a change up, so all have gone back; the message has its reason."""


class NotSwapped(DeployError):
    """There is nothing to swap, or somebody else swaps."""


def swap(control: Control, fleet: Fleet, bundle: str, model: str, tell: Tell) -> str:
    """Let a bundle take over in all replicas.

    Args:
        control: of the deployment.
        fleet: its replicas.
        bundle: as the replicas find it.
        model: what its model id has to begin or to end with; empty: any.
        tell: is told of each replica.

    Returns:
        The model id that judges now.

    Raises:
        SwapRefused: a replica does not take it; all judge as before.
        NotSwapped: it judges already, or the config was changed meanwhile.
    """
    before = control.user_config()
    at_work = fleet.look()
    old = _old(at_work, before)
    if bundle == old and not at_work.faults():
        raise NotSwapped(f"{bundle} judges already")
    staged = {**_lasting(before), "candidate": {"bundle": bundle}}
    if before.get("candidate", {}).get("bundle") == bundle:
        staged = before  # it was tried: let that go on until it takes over
    found = change(control, fleet, before, staged, tell)
    wrong = [each for each in found.replicas if not is_model(each.candidate, model)]
    if wrong:
        told = f"{bundle} is {wrong[0].candidate} there, not {model}"
        raise undone(control, fleet, before, told, tell)
    if control.user_config() != staged:
        raise NotSwapped("somebody else has changed the config meanwhile: see status, try again")
    after: UserConfig = {"bundle": bundle}
    if old:
        after["previous"] = old
    found = change(control, fleet, before, after, tell)
    return found.replicas[0].model


def pinned(bundle: str, model: str) -> str:
    """Return the name of a bundle that is a folder with its hash, so that it can't become another.

    Args:
        bundle: as a config names it.
        model: its model id.
    """
    if not bundle.startswith("/"):
        return bundle
    return f"{Path(bundle).as_uri()}@{model.rpartition('@')[2]}"


def rollback(control: Control, fleet: Fleet, tell: Tell) -> str:
    """Let the bundle take over that judged before the last swap; see `swap`."""
    previous = control.user_config().get("previous")
    if not previous:
        raise NotSwapped("there is nothing to go back to: no swap has left a `previous`")
    return swap(control, fleet, previous, "", tell)


def change(
    control: Control, fleet: Fleet, before: UserConfig, after: UserConfig, tell: Tell
) -> Snapshot:
    """Set a `user_config`, and wait until every replica has taken it up.

    Returns:
        What all replicas say then.

    Raises:
        SwapRefused: one refuses it, or says nothing for long; all are back at `before`.
    """
    control.set_user_config(after)
    try:
        return _wait(fleet, after, tell)
    except SwapRefused as refused:
        raise undone(control, fleet, before, str(refused), tell) from refused
    except KeyboardInterrupt:
        control.set_user_config(before)
        raise


def undone(control: Control, fleet: Fleet, before: UserConfig, why: str, tell: Tell) -> SwapRefused:
    """Go back to a `user_config`, and return the error that says why and what came of it."""
    tell(f"undoing: {why}")
    control.set_user_config(before)
    try:
        found = _wait(fleet, before, tell)
    except SwapRefused as still:
        return SwapRefused(f"{why}; and going back is not done: {still}: see status")
    return SwapRefused(f"{why}; undone: {found.replicas[0].model} judges as before")


def _wait(fleet: Fleet, config: UserConfig, tell: Tell) -> Snapshot:
    ready: set[str] = set()
    end_s = time.monotonic() + _PATIENCE_S
    while True:
        found = _look(fleet)
        for each in found.replicas:
            if each.asked != config:
                continue
            if each.state == "refused":
                raise SwapRefused(f"{each.name}: {each.error}")
            if each.state == "ready" and each.name not in ready:
                ready.add(each.name)
                end_s = time.monotonic() + _PATIENCE_S
                num_all = max(len(found.replicas), found.num_running or 0)
                tell(f"{each.name}: {_does(each)} ({len(ready)} of {num_all})")
        if found.is_whole and ready >= {each.name for each in found.replicas}:
            return found
        if time.monotonic() > end_s:
            num_all = found.num_running or len(found.replicas)
            raise SwapRefused(
                f"{len(ready)} of {num_all} replicas took it up, the rest said nothing for "
                f"{_PATIENCE_S:.0f} s"
            )
        time.sleep(_POLL_S)


def _look(fleet: Fleet) -> Snapshot:
    """A replica that was asked may just have ended: another one answers next time."""
    try:
        return fleet.look()
    except NoAnswer:
        return Snapshot((), None)


def _does(replica: Replica) -> str:
    beside = f", {replica.candidate} beside it" if replica.candidate else ""
    return f"judges with {replica.model}{beside}"


def _lasting(config: UserConfig) -> UserConfig:
    return {name: value for name, value in config.items() if name != "candidate"}


def is_model(found: str, wanted: str) -> bool:
    """Say whether a model id is the one that was meant, or ends with the digits that were."""
    return found == wanted or found.rpartition("@")[2].startswith(wanted[:12])


def _old(at_work: Snapshot, config: UserConfig) -> str:
    """Return what judges now; where replicas differ, what they are to judge with."""
    found = {pinned(each.bundle, each.model) for each in at_work.replicas}
    return found.pop() if len(found) == 1 else str(config.get("bundle") or "")
