"""The process of a replica: it ends with its parent, keeps to loopback, and leaves no core file."""

import os
import resource
import threading
import time
from importlib import import_module
from typing import Any

from workers.replica.logs import log_with_serve

_PERIOD_S = 0.5
_LOOPBACK = "127.0.0.1"


def prepare_process() -> None:
    """Make this process fit to be a replica of Ray Serve; call it first of all."""
    log_with_serve()
    raylet = os.environ.get("RAY_RAYLET_PID")  # it may have ended before this process got here
    end_with_parent(int(raylet) if raylet else None)
    leave_no_core()
    _keep_to_loopback()


def end_with_parent(parent: int | None = None) -> None:
    """End this process, at once and whatever it does, when the one that started it has ended.

    A replica that has lost its parent is looked after and counted by nobody. What it held is taken
    over by other replicas, as after any other end. A thread looks, because the event loop may be
    what stands still.

    Args:
        parent: who started it; None: whoever is its parent now.
    """
    started_by = os.getppid() if parent is None else parent
    threading.Thread(target=_watch, args=(started_by,), name="orphan", daemon=True).start()


def leave_no_core() -> None:
    """Let no crash of this process, or of one that it starts, write its memory to disk.

    Faces are in it.
    """
    _, most_bytes = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most_bytes))


def _keep_to_loopback() -> None:
    """Let Serve's server in this process listen where its node does, if that is on loopback.

    Ray 2.60 gives it all addresses, whatever the node's is, and there is no setting.
    Source: ray/serve/_private/replica.py, ReplicaActor._on_initialized.
    """
    # Not above: the rest of this file is for processes without Ray, too.
    node: Any = import_module("ray.util")
    serve_replica: Any = import_module("ray.serve._private.replica")
    add_port = getattr(serve_replica, "add_port_to_grpc_server", None)
    if add_port is None or node.get_node_ip_address() != _LOOPBACK:
        return

    def add_port_on_loopback(server: Any, address: str) -> Any:  # noqa: ANN401 - Ray's own
        return add_port(server, address.replace("[::]", _LOOPBACK))

    serve_replica.add_port_to_grpc_server = add_port_on_loopback


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
    os._exit(1)
