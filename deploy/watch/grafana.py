"""Pushes dashboards into a Grafana: one folder, the data source by its name, and only what changed.

What the library `grafana_api` leaves to its callers is handled in `_Grafana`: a prefix needs its
slash at the end, a page of HTML in the place of an answer (a proxy, a log-in) breaks it with
whatever Python makes of that, and so does an answer without a body.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import requests
import yaml
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace

from deploy.errors import DeployError
from deploy.watch.panels import Dashboard

FOLDER_UID, FOLDER_TITLE = "livegate", "Livegate"
TOKEN = "LIVEGATE_GRAFANA_TOKEN"  # noqa: S105 - name of a variable
_TIMEOUT_S = 15.0
# What Grafana itself adds to a dashboard, or counts up.
_NO_JSON = "answers with a page, not with JSON: is the prefix in --url right?"
_OWN = frozenset({"id", "version"})
Change = Literal["created", "changed", "unchanged"]


class GrafanaError(DeployError):
    """Grafana can't be reached, or refuses; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Grafana is.

    Attributes:
        protocol: http or https.
        host: name or address.
        port: None: the protocol's own.
        prefix: path before `api`, with a slash at its end; empty: none.
    """

    protocol: str
    host: str
    port: int | None
    prefix: str

    @classmethod
    def of(cls, url: str) -> "Address":
        """Return the address in a URL.

        Raises:
            GrafanaError: it is none, or holds a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise GrafanaError(f"--url: is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GrafanaError("--url: must be http://HOST[:PORT][/PREFIX], or https://")
        if parts.username or parts.password or parts.query:
            raise GrafanaError(f"--url: holds more than a place: a token belongs into {TOKEN}")
        path = parts.path.strip("/")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(parts.scheme, host, port, f"{path}/" if path else "")


def read_token(path: Path | None) -> str:
    """Return the token of a service account, from a file or the environment.

    Raises:
        GrafanaError: there is none.
    """
    if path is None:
        token = os.environ.get(TOKEN, "")
    else:
        try:
            token = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            told = getattr(error, "strerror", None) or "is no text"
            raise GrafanaError(f"--token-file: {path}: {told}") from error
    if not token:
        raise GrafanaError(f"no token: set {TOKEN}, or name a file with --token-file")
    return token


def push(
    url: str, token: str, datasource: str, wanted: Iterable[Dashboard], *, dry_run: bool = False
) -> dict[str, Change]:
    """Make a Grafana have these dashboards, and return what became of each.

    Args:
        url: of the Grafana.
        token: of a service account that may edit.
        datasource: name of a Prometheus there.
        wanted: the dashboards.
        dry_run: look, and change nothing.

    Raises:
        GrafanaError: it can't be reached, or refuses.
    """
    grafana = _Grafana(Address.of(url), token)
    source = grafana.datasource(datasource)
    if not dry_run:
        grafana.ensure_folder()
    found: dict[str, Change] = {}
    for dashboard in wanted:
        model = dashboard.to_json(source)
        there = grafana.dashboard(dashboard.uid)
        if there is not None and _without_own(there) == model:
            found[dashboard.title] = "unchanged"
            continue
        found[dashboard.title] = "created" if there is None else "changed"
        if not dry_run:
            grafana.save(model)
    return found


def annotate(url: str, token: str, text: str, tags: Iterable[str], at_ms: int) -> None:
    """Mark a moment on all dashboards: a deploy, a swap, a change of scale.

    Raises:
        GrafanaError: it can't be reached, or refuses.
    """
    _Grafana(Address.of(url), token).annotate(text, tags, at_ms)


def write_provisioning(folder: Path, wanted: Iterable[Dashboard]) -> list[Path]:
    """Write the dashboards for a Grafana that reads them from files, and return the files.

    `dashboards.yaml` belongs into Grafana's `provisioning/dashboards`, and names the folder that
    the others are in: /var/lib/grafana/dashboards, unless it is changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    provider = {
        "name": FOLDER_TITLE,
        "folder": FOLDER_TITLE,
        "folderUid": FOLDER_UID,
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    content = {"apiVersion": 1, "providers": [provider]}
    written = [folder / "dashboards.yaml"]
    written[0].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    for dashboard in wanted:
        written.append(folder / f"{dashboard.uid}.json")
        text = json.dumps(dashboard.to_json(), indent=1) + "\n"
        written[-1].write_text(text, encoding="utf-8")
    return written


class _Grafana:
    """The calls that are needed, each with its errors told as ours."""

    def __init__(self, address: Address, token: str) -> None:
        self._where = f"{address.protocol}://{address.host}"
        self._face = GrafanaFace(
            auth=token,
            host=address.host,
            port=address.port,
            url_path_prefix=address.prefix,
            protocol=address.protocol,
            timeout=_TIMEOUT_S,
        )

    def datasource(self, name: str) -> str:
        """Return the uid of a data source of this name."""
        found = self._find(lambda: self._face.datasource.get_datasource_by_name(quote(name, "")))
        if found is None:
            raise GrafanaError(
                f"{self._where}: has no data source named {name!r}: name a Prometheus of it with "
                "--datasource"
            )
        if found.get("type") != "prometheus":
            raise GrafanaError(
                f"{self._where}: the data source {name!r} is of type {found.get('type')}, must be "
                "prometheus"
            )
        return str(found["uid"])

    def ensure_folder(self) -> None:
        if self._find(lambda: self._face.folder.get_folder(FOLDER_UID)) is None:
            self._call(lambda: self._face.folder.create_folder(FOLDER_TITLE, FOLDER_UID))

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        found = self._find(lambda: self._face.dashboard.get_dashboard(uid))
        return None if found is None else found["dashboard"]

    def save(self, model: Mapping[str, Any]) -> None:
        # By uid, never by a numeric id, which differs from one Grafana to the next.
        body = {
            "dashboard": {**model, "id": None},
            "folderUid": FOLDER_UID,
            "overwrite": True,
            "message": "livegate deploy dashboards",
        }
        saved = self._call(lambda: self._face.dashboard.update_dashboard(body))
        if saved.get("uid") != model["uid"]:
            raise GrafanaError(f"{self._where}: did not save {model['title']}: {saved!s:.200}")

    def annotate(self, text: str, tags: Iterable[str], at_ms: int) -> None:
        # Not by the library's own call, which sends null for what is not given.
        body = {"text": text, "time": at_ms, "tags": ["livegate", *tags]}
        self._call(lambda: self._face.api.POST("/annotations", json=body))

    def _find(self, call: Callable[[], Any]) -> dict[str, Any] | None:
        try:
            return self._call(call)
        except GrafanaError as error:
            cause = error.__cause__
            if isinstance(cause, GrafanaClientError) and cause.status_code == 404:
                return None
            raise

    def _call(self, call: Callable[[], Any]) -> dict[str, Any]:
        try:
            answer = call()
        except GrafanaException as error:
            if error.status_code == 404 and not isinstance(error.response, dict):
                raise GrafanaError(f"{self._where}: {_NO_JSON}") from None
            told = " ".join(str(error.message).split())[:200]
            if error.status_code in (401, 403):
                told = f"the token may not do that ({error.status_code}): it needs the role Editor"
            raise GrafanaError(f"{self._where}: {told}") from error
        except requests.JSONDecodeError as error:
            raise GrafanaError(
                f"{self._where}: answers with something else than JSON: is the prefix in --url "
                "right, and does no log-in stand before it?"
            ) from error
        except requests.RequestException as error:
            raise GrafanaError(
                f"{self._where}: can't be reached ({type(error).__name__}): is --url right?"
            ) from error
        except (TypeError, KeyError) as error:  # what the library makes of a page of HTML
            raise GrafanaError(f"{self._where}: {_NO_JSON}") from error
        if not isinstance(answer, dict):
            raise GrafanaError(
                f"{self._where}: answers with a {type(answer).__name__}: does it redirect? Give "
                "--url as it is after that, https for instance"
            )
        return answer


def _without_own(model: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in model.items() if name not in _OWN}
