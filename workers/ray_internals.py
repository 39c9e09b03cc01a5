"""What we need of Ray that it offers to nobody: the one place where its internals are used.

Each function says what for, and does nothing where Ray has changed. Checked with Ray 2.60.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_LOOPBACK = "127.0.0.1"


def begin(counter: Any, tags: Mapping[str, str]) -> None:  # noqa: ANN401 - the backend's
    """Make a series of a counter begin, at 0.

    Ray's `inc` refuses 0, though what it calls takes it. Another backend has nothing to begin.
    Source: ray/util/metrics.py, Metric._record.
    """
    record = getattr(counter, "_record", None)
    if record is not None:
        record(0, dict(tags))


def keep_serve_to_loopback() -> None:
    """Let Serve's server in this process listen where its node does, if that is on loopback.

    Ray gives it all addresses, whatever the node's is, and there is no setting.
    Source: ray/serve/_private/replica.py, ReplicaActor._on_initialized.
    """
    # Not above: metrics are for processes without Ray, too.
    node: Any = import_module("ray.util")
    serve_replica: Any = import_module("ray.serve._private.replica")
    add_port = getattr(serve_replica, "add_port_to_grpc_server", None)
    if add_port is None or node.get_node_ip_address() != _LOOPBACK:
        return

    def add_port_on_loopback(server: Any, address: str) -> Any:  # noqa: ANN401 - Ray's own
        return add_port(server, address.replace("[::]", _LOOPBACK))

    serve_replica.add_port_to_grpc_server = add_port_on_loopback


def with_code(deployment: Any, code: str) -> Any:  # noqa: ANN401 - Ray's own
    """Return a deployment of Serve whose code is known by a name.

    Where Serve is told of none, each call deploys new code, and all replicas are replaced, whatever
    has changed.
    Source: ray/serve/_private/client.py, deploy_applications; ray/serve/deployment.py, options.
    """
    return deployment.options(version=code, _internal=True)
