"""The replicas' states, as Serve tells them to one of them."""

from ray import serve
from ray.exceptions import RayError


def replica_states() -> dict[str, int]:
    """Return how many replicas of this deployment are in each state; {} where Serve won't say."""
    try:
        me = serve.get_replica_context()
        found = serve.status().applications[me.app_name].deployments[me.deployment]
    except (RayError, KeyError, RuntimeError):
        return {}
    return {str(getattr(each, "value", each)): n for each, n in found.replica_states.items()}
