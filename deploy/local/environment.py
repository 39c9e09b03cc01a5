"""What Ray is told by environment variables: all of it here, set before Ray is imported.

Ray's processes inherit it. A variable that is set already is left alone.
"""

import logging
import os
import secrets
import sys

# Ray gives its parts fixed times to start and to answer. On a machine that is busy with other
# things they are too short: a proxy that is late by a second is killed and started again, for
# ever. Whether a start gets anywhere is watched by `deploy.local.stack`, which gives up where Ray
# would wait, and waits where Ray would give up.
# Source: ray/serve/_private/constants.py, ray/_private/node.py and ray/_private/ray_constants.py
# of Ray 2.60, and ray_config_def.h in its C++ part.
_PATIENT = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",  # 5: a proxy that is not ready is killed
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",  # 10, three times in a row
    "RAY_gcs_server_port_wait_time_s": "300",  # 30: for the first of Ray's processes
    "RAY_gcs_server_request_timeout_seconds": "300",  # 60
    "RAY_gcs_rpc_server_connect_timeout_s": "60",  # 5
    "RAY_py_gcs_connect_timeout_s": "300",  # 30
    "RAY_agent_register_timeout_ms": "600000",  # 30000: else the node ends itself
    "RAY_worker_register_timeout_seconds": "600",  # 60: a worker that is late is killed
    "RAY_health_check_timeout_ms": "60000",  # 10000: of the node, five times in a row
}
_OTHERS = {
    # 15: beside processes of normal priority, a replica would get a 28th of what each of them gets.
    "RAY_worker_niceness": "0",
    # OpenCV reads it when it is imported: a second bound on what a picture's header may claim.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 20),
    # How often replicas report their service rate to the autoscaling policy.
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def import_ray() -> None:
    """Set the environment, then import Ray Serve; what it logs below errors is not shown.

    Where Ray was imported before, as in tests, it takes neither token nor loopback any more: its
    processes would not understand each other.
    """
    closed = ray_environment()
    if "ray" in sys.modules:
        closed = {name: closed[name] for name in (*_PATIENT, *_OTHERS)}
    os.environ.update(closed)
    import ray.serve  # noqa: F401, PLC0415 - it reads its environment when it is imported

    for logger in ("ray", "ray.serve"):
        logging.getLogger(logger).setLevel(logging.ERROR)


def ray_environment() -> dict[str, str]:
    """Return what a process that starts Ray is told; what is set here already stays."""
    return {
        **{name: os.environ.get(name, value) for name, value in {**_PATIENT, **_OTHERS}.items()},
        **_closed(),
    }


def _closed() -> dict[str, str]:
    """Return what keeps others out of Ray: who may connect to it may run code in it."""
    # Without it, Ray gives a node the machine's address, and listens on all of them. On other
    # systems it is off; here, that makes a node of this machine alone.
    # Source: ray/_private/services.py, get_node_ip_address.
    closed = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    if "RAY_AUTH_MODE" not in os.environ:  # others on this machine reach loopback, too
        closed.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    return closed
