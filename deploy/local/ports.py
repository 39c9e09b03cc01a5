"""Ports on this machine: whether one is free, and which one is."""

import socket

from deploy.errors import DeployError

# As KubeRay has it, so that one Prometheus configuration does for both.
METRICS_PORT = 8080


class PortTaken(DeployError):
    """Something listens there already; the message says on which port and what to do."""


def check_port(place: str, host: str, port: int, what_to_do: str) -> None:
    """Return if a server can listen on `host` and `port` now.

    Raises:
        PortTaken: it can't; the message begins with `place` and ends with `what_to_do`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of one that has just ended are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise PortTaken(
            f"{place}: port {port} of {host} can't be used ({error.strerror}): {what_to_do}"
        ) from error


def free_port() -> int:
    """Return a port of loopback on which nothing listens now, for those that need just any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
