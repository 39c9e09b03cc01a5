"""Ray and the Serve application, started here from `ray_config.yaml` and stopped again."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.errors import DeployError
from deploy.local.signals import sheltered
from workers.settings import WorkerSettings

# Package data. In a checkout it is a link to the one at the top, where people look for it.
CONFIG = Path(__file__).with_name("ray_config.yaml")
APPLICATION = "livegate"
DEPLOYMENT = "Worker"
_START_S = 120.0
_POLL_S = 0.1


class ConfigError(DeployError):
    """The Serve config can't be used; the message names the file and what is wrong in it."""


class DeployFailed(DeployError):
    """The application does not start; the message is what Serve says of it."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """The content of a `ray_config.yaml`, and the parts of it that others need."""

    content: dict[str, Any]

    @property
    def settings(self) -> WorkerSettings:
        """The workers' settings."""
        return WorkerSettings.model_validate(self.content["applications"][0]["args"])

    @property
    def http_url(self) -> str:
        """Where the HTTP side is."""
        options = self.content["http_options"]
        return f"http://{options['host']}:{options['port']}"

    @property
    def target_utilisation(self) -> float:
        """Part of its service rate that a replica is meant to carry."""
        (deployment,) = self.content["applications"][0]["deployments"]
        rule = deployment["autoscaling_config"]["policy"]["policy_kwargs"]["rule"]
        return float(rule["target_utilisation"])

    @property
    def first_service_fps(self) -> float:
        """Service rate that the policy assumes until a replica has reported its own."""
        (deployment,) = self.content["applications"][0]["deployments"]
        kwargs = deployment["autoscaling_config"]["policy"]["policy_kwargs"]
        return float(kwargs["first_service_fps"])


def load_config(
    path: Path = CONFIG,
    *,
    url: str | None = None,
    camera_keys: Path | None = None,
    http_port: int | None = None,
) -> ServeConfig:
    """Read a Serve config, with what only this start knows put in its place.

    Args:
        path: the file.
        url: of the server with the streams; None: the one in the file.
        camera_keys: the cameras' key file; None: the one in the file.
        http_port: None: the one in the file.

    Raises:
        ConfigError: the file is missing, or is not a config of this application.
        pydantic.ValidationError: a setting can't be used.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        application = content["applications"][0]
        args = application["args"]
        if url is not None:
            # The policy's kwargs name the same mapping by a YAML alias, so this reaches it too.
            args["stream"]["url"] = url
        if camera_keys is not None:
            args["camera_keys"] = str(camera_keys)
        if http_port is not None:
            content["http_options"]["port"] = http_port
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"{path}: not a Serve config of livegate: {error!r}") from error
    config = ServeConfig(content)
    WorkerSettings.model_validate(args)
    return config


def free_port(preferred: int) -> int:
    """Return `preferred` if nothing listens there on loopback, else any free port."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve_application(config: ServeConfig) -> Iterator[None]:
    """Run Ray and the application while the block runs; drain and stop both after it.

    Args:
        config: from `load_config`.

    Raises:
        DeployFailed: the application does not start.
    """
    # Set before Ray starts, so that its processes inherit it. OpenCV reads the first when it is
    # imported: a second bound on what a picture's header may claim.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 20))
    os.environ.setdefault("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # noqa: PLC0415 - it reads its environment when it is imported
    from ray import serve  # noqa: PLC0415
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - as `serve run` does
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with sheltered():
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
            )
            schema = ServeDeploySchema.model_validate(config.content)
            serve.start(
                proxy_location=schema.proxy_location, http_options=schema.http_options.model_dump()
            )
        client: Any = _get_global_client()
        client.deploy_apps(schema)
        _wait_until_running()
        yield
    finally:
        if ray.is_initialized():
            serve.delete(APPLICATION)  # returns once the replicas are drained
        ray.shutdown()


def _wait_until_running() -> None:
    from ray import serve  # noqa: PLC0415

    give_up_s = time.monotonic() + _START_S
    while time.monotonic() < give_up_s:
        application = serve.status().applications.get(APPLICATION)
        if application is not None:
            if application.status == "RUNNING":
                return
            if application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise DeployFailed(application.message)
        time.sleep(_POLL_S)
    raise DeployFailed(f"the application did not start within {_START_S:.0f} s")


def replica_states() -> dict[str, int]:
    """Return the number of replicas in each state, as Serve names them: RUNNING, STARTING, ..."""
    from ray import serve  # noqa: PLC0415

    application = serve.status().applications.get(APPLICATION)
    if application is None or DEPLOYMENT not in application.deployments:
        return {}
    states = application.deployments[DEPLOYMENT].replica_states
    return {str(getattr(state, "value", state)): number for state, number in states.items()}
