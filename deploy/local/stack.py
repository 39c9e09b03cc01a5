"""Ray and the Serve application, started here from a Serve config and stopped again."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from deploy.errors import DeployError
from deploy.local.config import DEPLOYMENT, ServeConfig
from deploy.local.environment import import_ray
from deploy.local.processes import descendants
from deploy.local.progress import Patience, Tell, step
from deploy.local.signals import block_terminal_signals, keep_handlers
from workers.ray_internals import with_code
from workers.replica.process import leave_no_core

_PATIENCE_S = 120.0
_POLL_S = 0.25
_TRIES = 3
_CODE = "livegate"  # this process deploys its own code, and no other
_VITAL = {"raylet", "gcs_server"}  # the processes that all others of Ray need
# What runs whether a start gets anywhere or not: its processor time is no sign of progress.
_STANDING = ("ray::ServeController", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


class DeployFailed(DeployError):
    """The application does not start; the message has Ray's or Serve's reason, and the logs."""


class RayGone(DeployError):
    """Ray's processes were ended from outside, by whoever told all processes at once to stop.

    Ray's library would go on looking for them and then abort this process: leave it with
    `os._exit` once all else is cleaned up.
    """


@contextmanager
def serve_application(
    config: ServeConfig, tell: Tell = lambda _: None, metrics_port: int = 0
) -> Iterator[None]:
    """Run Ray and the application while the block runs; drain and stop both after it.

    A start takes as long as it gets anywhere: on a busy machine, minutes.

    Args:
        config: from `deploy.local.config.load_config`.
        tell: is told what is waited for.
        metrics_port: where Ray's metrics, and ours among them, are for Prometheus; 0: anywhere.

    Raises:
        DeployFailed: the application does not start.
        RayGone: there was no Ray any more to drain the application.
    """
    leave_no_core()  # nor of any of Ray's processes, which inherit it
    import_ray()
    import ray  # noqa: PLC0415 - after its environment is set

    try:
        with step(tell, "Ray"), block_terminal_signals(), keep_handlers():
            _start_ray(metrics_port)
        with step(tell, "Ray Serve, with its HTTP side"):
            _start_serve(config)
        with step(tell, "the first replica, which loads and tests the model"):
            _deploy(config)
            _wait_until_running(config)
        yield
    finally:
        if ray.is_initialized():
            _drain(config.application)
        ray.shutdown()  # kills what does not end


def replica_states(application: str) -> dict[str, int]:
    """Return the number of replicas in each state, as Serve names them: RUNNING, STARTING, ...

    Raises:
        DeployFailed: Serve is gone.
    """
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    try:
        found = serve.status().applications.get(application)
    except ray.exceptions.RayError as error:
        raise _failed("Ray Serve is gone", str(error)) from error
    if found is None or DEPLOYMENT not in found.deployments:
        return {}
    states = found.deployments[DEPLOYMENT].replica_states
    return {str(getattr(state, "value", state)): number for state, number in states.items()}


def _start_ray(metrics_port: int) -> None:
    """Start Ray's processes; they end with this one, whatever ends it."""
    import ray  # noqa: PLC0415

    before = {process.pid for process in descendants()}
    for attempt in range(1, _TRIES + 1):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                _metrics_export_port=metrics_port or None,
            )
        except SystemExit as stop:  # what Ray makes of SIGTERM meanwhile
            raise KeyboardInterrupt from stop
        except Exception as error:
            # It gives a node 30 s, which nothing moves. What it has started stays, in our way.
            for process in descendants():
                if process.pid not in before:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            ray.shutdown()
            if attempt == _TRIES:
                raise DeployFailed(
                    f"Ray did not start, in {_TRIES} tries: {_first_line(error)} "
                    "(its logs are in /tmp/ray/session_latest/logs)"
                ) from error
        else:
            return


def _start_serve(config: ServeConfig) -> None:
    import ray  # noqa: PLC0415
    from ray import serve  # noqa: PLC0415

    try:
        serve.start(
            proxy_location=config.proxy_location,
            http_options=config.http,
            logging_config=config.logging,
        )
    except TimeoutError:
        # It waits 60 s for the proxy, which nothing moves. Both are there and go on starting:
        # whether they get anywhere is looked at when the application is waited for.
        return
    except ray.exceptions.RayError as error:
        raise _failed("Ray Serve did not start", str(error)) from error


def change_user_config(config: ServeConfig, user_config: Mapping[str, Any]) -> None:
    """Let the replicas that run take another `user_config`; nothing else about them changes.

    Args:
        config: by which the application was deployed.
        user_config: see `workers.settings.LiveSettings`.
    """
    _deploy(config.with_user_config(user_config))


def _deploy(config: ServeConfig) -> None:
    """Deploy the application as `serve run` does with the same file."""
    from ray import serve  # noqa: PLC0415

    from workers.app import deployment  # noqa: PLC0415

    made = deployment(config.settings)
    if config.options:
        made = made.options(**config.options)
    target = serve.RunTarget(
        target=with_code(made, _CODE).bind(config.settings),
        name=config.application,
        route_prefix=config.route_prefix,
        logging_config=config.application_logging,
    )
    with suppress(TimeoutError):  # as above: the application is deployed by then
        serve.run_many(
            [target],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )


def _wait_until_running(config: ServeConfig) -> None:
    from ray import serve  # noqa: PLC0415

    patience = Patience(_PATIENCE_S)
    while True:
        status = serve.status()
        application = status.applications.get(config.application)
        message = "" if application is None else _message(application)
        if application is not None:
            is_served = all(proxy.value == "HEALTHY" for proxy in status.proxies.values())
            if application.status == "RUNNING" and is_served:
                return
            if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise _failed("the application did not start", message)
        # A message may hold a time that has passed, so it is no state.
        state = (str(status.proxies), str(replica_states(config.application)))
        if patience.is_over(state, _work_s()):
            raise _failed(
                f"the start got nowhere for {_PATIENCE_S:.0f} s",
                message or f"proxies: {[proxy.value for proxy in status.proxies.values()]}",
            )
        time.sleep(_POLL_S)


def _drain(application: str) -> None:
    """End the application once its replicas are drained.

    Raises:
        RayGone: there is no Ray to do it; what was left of it is killed.
    """
    from ray import serve  # noqa: PLC0415

    def delete() -> None:
        with suppress(Exception, SystemExit):  # a controller that is not there drains none
            serve.delete(application)

    draining = threading.Thread(target=delete, name="drain", daemon=True)
    draining.start()
    while draining.is_alive():
        programs = {each.title.split(" ")[0].rpartition("/")[2] for each in descendants()}
        if not programs >= _VITAL:
            for process in descendants():
                if process.title.startswith("ray::") or "/ray/" in process.title:
                    with suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            raise RayGone("Ray was ended from outside: frames in flight stay in the stream")
        draining.join(_POLL_S)


def _message(application: Any) -> str:  # noqa: ANN401 - Ray's type
    of_deployments = [str(each.message) for each in application.deployments.values()]
    return str(application.message) or next(filter(None, of_deployments), "")


def _work_s() -> float:
    """Return the processor time of those who are to start: Ray's workers."""
    return sum(
        process.cpu_s
        for process in descendants()
        if process.title.startswith("ray::") and not process.title.startswith(_STANDING)
    )


def _failed(what: str, reason: str) -> DeployFailed:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason is given"
    return DeployFailed(f"{what}: {last} (logs are in /tmp/ray/session_latest/logs/serve)")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), repr(error))
