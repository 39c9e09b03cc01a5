"""How a deployment's `user_config` is changed: of one on this machine, or by Ray Serve's REST side.

On this machine, the folder of the deployment says what there is to be, and its `livegate up` does
it, also after a restart. Elsewhere, what `serve deploy` or KubeRay has deployed is fetched from the
dashboard of the Ray cluster, changed in that one place, and put back.
"""

import copy
import os
from pathlib import Path
from typing import Any, Protocol

import requests

from deploy.errors import DeployError
from deploy.local.config import DEPLOYMENT
from deploy.local.home import Home
from deploy.models.fleet import Fleet

_TIMEOUT_S = 60.0
_PATH = "api/serve/applications/"
_TOKEN, _TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"

UserConfig = dict[str, Any]


class ControlError(DeployError):
    """What a deployment is told to be can't be read or changed; the message says where and why."""


class Control(Protocol):
    """Where the `user_config` of a deployment stands."""

    def user_config(self) -> UserConfig:
        """Return what there is to be."""
        ...

    def set_user_config(self, user_config: UserConfig) -> None:
        """Change it; replicas take it up later."""
        ...


class FolderControl:
    """Of a deployment that `livegate up` runs on this machine."""

    def __init__(self, home: Home, fleet: Fleet) -> None:
        """Take the folder; what its config says is asked of its replicas."""
        self._home = home
        self._fleet = fleet

    def user_config(self) -> UserConfig:
        """See `Control.user_config`."""
        wanted = self._home.user_config()
        if wanted is None:
            replicas = self._fleet.look().replicas
            return replicas[0].asked if replicas else {}
        return wanted

    def set_user_config(self, user_config: UserConfig) -> None:
        """See `Control.set_user_config`."""
        self._home.set_user_config(user_config)


class ServeControl:
    """Of a deployment on a Ray cluster, by the REST side of its dashboard."""

    def __init__(self, dashboard_url: str) -> None:
        """Ask nothing yet.

        Args:
            dashboard_url: of the cluster's head: http://HOST:8265.
        """
        self._url = f"{dashboard_url.rstrip('/')}/{_PATH}"
        token = _ray_token()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def user_config(self) -> UserConfig:
        """See `Control.user_config`."""
        _, deployment = self._deployed()
        return dict(deployment.get("user_config") or {})

    def set_user_config(self, user_config: UserConfig) -> None:
        """See `Control.set_user_config`."""
        config, deployment = self._deployed()
        deployment["user_config"] = user_config
        self._ask("PUT", config)

    def _deployed(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return all that is deployed, as it can be put back, and in it our deployment's part."""
        told = self._ask("GET")
        configs = []
        for name, application in (told.get("applications") or {}).items():
            config = application.get("deployed_app_config")
            if config is None:
                raise ControlError(
                    f"{self._url}: application {name!r:.80} was not deployed from a config: deploy "
                    "it with `serve deploy` or KubeRay; of `livegate up`, name its --folder"
                )
            configs.append(copy.deepcopy(config))
        ours = [
            (config, each)
            for config in configs
            if str(config.get("import_path", "")).startswith("workers.app:")
            for each in _deployments(config)
            if each.get("name") == DEPLOYMENT
        ]
        if len(ours) != 1:
            raise ControlError(f"{self._url}: has {len(ours)} deployments of Livegate, must be one")
        kept = {
            name: told[name]
            for name in ("proxy_location", "http_options", "grpc_options", "target_capacity")
            if told.get(name) is not None
        }
        return {**kept, "applications": configs}, ours[0][1]

    def _ask(self, method: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = requests.request(
                method, self._url, json=content, headers=self._headers, timeout=_TIMEOUT_S
            )
        except requests.RequestException as error:
            raise ControlError(
                f"{self._url}: does not answer ({type(error).__name__}): is it the head's "
                "dashboard, and is it forwarded?"
            ) from error
        if answer.status_code in (401, 403):
            raise ControlError(f"{self._url}: wants Ray's token: put it into {_TOKEN}")
        if not answer.ok:
            last = answer.text.strip().splitlines()[-1:] or ["no reason is given"]
            raise ControlError(f"{self._url}: {method}: {answer.status_code}: {last[0]:.300}")
        if method == "PUT":
            return {}
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict) or "applications" not in told:
            raise ControlError(f"{self._url}: is no REST side of Ray Serve")
        return told


def _deployments(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of an application's config on its deployments; ours is there by now."""
    if not config.get("deployments"):
        config["deployments"] = [{"name": DEPLOYMENT}]
    found: list[dict[str, Any]] = config["deployments"]
    return found


def _ray_token() -> str:
    """Return the cluster's token, from where Ray's own commands take it; empty: there is none.

    Raises:
        ControlError: the file that is named can't be read.
    """
    if _TOKEN in os.environ:
        return os.environ[_TOKEN].strip()
    named = os.environ.get(_TOKEN_PATH)
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        if named is None:
            return ""
        raise ControlError(f"{_TOKEN_PATH}: {path}: {error.strerror}") from error
