"""A candidate is tried in a deployment that runs: in the shadow, or on a share of the cameras."""

from typing import Any

from deploy.models.control import Control, UserConfig
from deploy.models.fleet import Fleet, Snapshot
from deploy.models.swap import NotSwapped, Tell, change, is_model, undone


def try_out(
    control: Control, fleet: Fleet, bundle: str, model: str, tell: Tell, **shares: float
) -> Snapshot:
    """Load a candidate in all replicas, and give it a share of the frames or cameras.

    Args:
        control: of the deployment.
        fleet: its replicas.
        bundle: as the replicas find it.
        model: what its model id has to be or to end with; empty: any.
        tell: is told of each replica.
        shares: `shadow` or `canary`, [0, 1]; the other one stays as it is for the same bundle.

    Returns:
        What all replicas say then.

    Raises:
        SwapRefused: a replica can't load it, or it is another one; all is as it was.
    """
    before = control.user_config()
    tried: dict[str, Any] = before.get("candidate") or {}
    kept = tried if tried.get("bundle") == bundle else {}
    after = {**before, "candidate": {**kept, "bundle": bundle, **shares}}
    found = change(control, fleet, before, after, tell)
    if wrong := [each.candidate for each in found.replicas if not is_model(each.candidate, model)]:
        told = f"{bundle} is {wrong[0]} there, not {model}"
        raise undone(control, fleet, before, told, tell)
    return found


def drop(control: Control, fleet: Fleet, tell: Tell) -> None:
    """Try the candidate no more.

    Raises:
        NotSwapped: there is none.
        SwapRefused: a replica does not take that up.
    """
    before = control.user_config()
    if not before.get("candidate"):
        raise NotSwapped("there is no candidate")
    after: UserConfig = {name: value for name, value in before.items() if name != "candidate"}
    change(control, fleet, before, after, tell)
