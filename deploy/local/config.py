"""The Serve config, read and checked as a whole before anything starts.

`livegate up` honours what stands in the file, and refuses what it can't: each problem is one line
with file, line, field, rule and value. `serve run` takes the same file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deploy.documents import Document, DocumentError, Loc, read_document
from deploy.errors import DeployError
from deploy.local.environment import import_ray
from workers.settings import LiveSettings, StreamSettings, WorkerSettings, problems_of

# Package data. In a checkout it is a link to the one at the top, where people look for it.
CONFIG = Path(__file__).with_name("ray_config.yaml")
BUILDER = "workers.app:build"
DEPLOYMENT = "Worker"

# What is honoured, by the place in the file. Serve itself would skip a key that it doesn't know.
_HONOURED: dict[str, frozenset[str]] = {
    "": frozenset({"proxy_location", "http_options", "logging_config", "applications"}),
    "http_options": frozenset(
        {"host", "port", "root_path", "request_timeout_s", "keep_alive_timeout_s"}
        | {"ssl_keyfile", "ssl_certfile", "ssl_keyfile_password", "ssl_ca_certs"}
    ),
    "application": frozenset(
        {"name", "route_prefix", "import_path", "args", "deployments", "logging_config"}
    ),
    "deployment": frozenset(
        {"name", "ray_actor_options", "user_config", "max_ongoing_requests", "logging_config"}
        | {"max_queued_requests", "max_replicas_per_node"}
        | {"graceful_shutdown_wait_loop_s", "graceful_shutdown_timeout_s"}
        | {"health_check_period_s", "health_check_timeout_s"}
    ),
    "ray_actor_options": frozenset(
        {"num_cpus", "num_gpus", "memory", "resources", "accelerator_type"}
    ),
    "user_config": frozenset(LiveSettings.model_fields),
}
_INSTEAD = {
    "autoscaling_config": "it would replace the whole scaling: set min_replicas, max_replicas and "
    "the rest in args.scaling",
    "num_replicas": "set args.scaling.min_replicas and max_replicas to it",
}

_Problem = tuple[Loc, str]
_APPLICATION: Loc = ("applications", 0)
_ARGS: Loc = (*_APPLICATION, "args")
_USER_CONFIG: Loc = (*_APPLICATION, "deployments", 0, "user_config")


class ConfigError(DeployError):
    """The Serve config can't be used; each line of the message is one problem, with its place."""


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A Serve config that passed all checks which need nothing but the file.

    Attributes:
        path: the file.
        settings: the application's `args`.
        application: its name.
        route_prefix: where it is found over HTTP; None: nowhere.
        proxy_location: of Serve.
        http: Serve's HTTP options, all of them.
        logging: Serve's logging, of its own processes; None: Serve's default.
        application_logging: the application's.
        options: of the deployment, without its autoscaling.
        document: the file as YAML sees it, with its lines.
    """

    path: Path
    settings: WorkerSettings
    application: str
    route_prefix: str | None
    proxy_location: str
    http: dict[str, Any]
    logging: dict[str, Any] | None
    application_logging: dict[str, Any] | None
    options: dict[str, Any]
    document: Document

    @property
    def http_url(self) -> str:
        """Where the HTTP side is, from this machine; empty if there is none."""
        if self.route_prefix is None or self.proxy_location == "Disabled":
            return ""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.http["host"], self.http["host"])  # noqa: S104
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if self.http["ssl_certfile"] else "http"
        return f"{scheme}://{shown}:{self.http['port']}{self.route_prefix.rstrip('/')}"

    def where(self, *loc: str | int) -> str:
        """Return "file:line: field" of a field, for an error that is found later."""
        return _where(self.document, loc)

    def with_args(self, **changes: Any) -> "ServeConfig":  # noqa: ANN401 - of any setting
        """Return this config with other values for some of its `args`."""
        return replace(self, settings=self.settings.model_copy(update=changes))

    def with_redis(self, url: str) -> "ServeConfig":
        """Return this config with the streams on another server.

        Raises:
            pydantic.ValidationError: `url` is none of a server.
        """
        stream = StreamSettings(**{**self.settings.stream.model_dump(), "url": url})
        return self.with_args(stream=stream)

    def with_user_config(self, user_config: Mapping[str, Any]) -> "ServeConfig":
        """Return this config with another `user_config` of its deployment."""
        return replace(self, options={**self.options, "user_config": dict(user_config)})

    def with_http_port(self, port: int) -> "ServeConfig":
        """Return this config with the HTTP side on another port."""
        return replace(self, http={**self.http, "port": port})


def load_config(path: Path = CONFIG) -> ServeConfig:
    """Read a Serve config and check all that needs nothing but the file.

    Raises:
        ConfigError: it is missing, or can't be honoured as it stands.
    """
    try:
        document = read_document(path)
    except DocumentError as error:
        raise ConfigError(f"{error}: not a Serve config") from error
    content = document.content
    problems = [(loc, "stands twice: keep one") for loc in document.duplicates()]
    problems += _not_honoured(content)
    if not problems:
        schema, problems = _parse(content)
    if not problems:
        problems = _rules(content, schema)
    if problems:
        problems.sort(key=lambda problem: document.line(problem[0]))
        lines = dict.fromkeys(f"{_where(document, loc)}: {what}" for loc, what in problems)
        raise ConfigError("\n".join(lines))
    application = content["applications"][0]
    (options,) = application.get("deployments") or [{}]
    return ServeConfig(
        path=path,
        settings=WorkerSettings.model_validate(application.get("args") or {}),
        application=schema.applications[0].name,
        route_prefix=schema.applications[0].route_prefix,
        proxy_location=schema.proxy_location.value,
        http=schema.http_options.model_dump(),
        logging=content.get("logging_config"),
        application_logging=application.get("logging_config"),
        options={name: value for name, value in options.items() if name != "name"},
        document=document,
    )


def _not_honoured(content: dict[str, Any]) -> list[_Problem]:
    """Find keys that nobody would look at, and shapes in which nothing can be found."""
    applications = content.get("applications")
    if not isinstance(applications, list) or len(applications) != 1:
        return [(("applications",), "must be a list of one application")]
    found = _keys_of(content, (), "")
    found += _keys_of(content.get("http_options"), ("http_options",), "http_options")
    application = applications[0]
    found += _keys_of(application, _APPLICATION, "application")
    deployments = application.get("deployments") if isinstance(application, dict) else None
    if deployments is None:
        return found
    loc = (*_APPLICATION, "deployments")
    if not isinstance(deployments, list) or len(deployments) != 1:
        return [*found, (loc, f"must be a list of one deployment, {DEPLOYMENT}")]
    found += _keys_of(deployments[0], (*loc, 0), "deployment")
    if isinstance(deployments[0], dict):
        for name in ("ray_actor_options", "user_config"):
            found += _keys_of(deployments[0].get(name), (*loc, 0, name), name)
    return found


def _keys_of(mapping: Any, loc: Loc, place: str) -> list[_Problem]:  # noqa: ANN401 - of a file
    if mapping is None and loc:
        return []
    if not isinstance(mapping, dict):
        return [(loc, "must be a mapping")]
    return [
        ((*loc, name), f"not honoured: {_INSTEAD.get(name, 'remove it')}")
        for name in mapping
        if name not in _HONOURED[place]
    ]


def _parse(content: dict[str, Any]) -> tuple[Any, list[_Problem]]:
    """Return the file as Serve sees it, and what Serve and our settings say against it."""
    import_ray()
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - takes a second

    schema, found = None, []
    try:
        schema = ServeDeploySchema.model_validate(content)
    except ValidationError as error:
        found += problems_of(error)
    try:
        WorkerSettings.model_validate(content["applications"][0].get("args") or {})
    except ValidationError as error:
        found += [((*_ARGS, *loc), what) for loc, what in problems_of(error)]
    for options in content["applications"][0].get("deployments") or []:
        try:
            LiveSettings.model_validate(options.get("user_config") or {})
        except ValidationError as error:
            found += [((*_USER_CONFIG, *loc), what) for loc, what in problems_of(error)]
    return schema, found


def _rules(content: dict[str, Any], schema: Any) -> list[_Problem]:  # noqa: ANN401 - Ray's type
    """Find what Serve would take and then fail at, or do something else with."""
    found: list[_Problem] = []
    application = schema.applications[0]
    if application.import_path != BUILDER:
        found.append(((*_APPLICATION, "import_path"), f"must be {BUILDER}"))
    prefix = application.route_prefix
    if prefix is not None and (
        not prefix.startswith("/") or (prefix != "/" and prefix.endswith("/")) or "{" in prefix
    ):
        found.append(((*_APPLICATION, "route_prefix"), "must begin, and not end, with /"))
    if "host" not in (content.get("http_options") or {}):
        found.append((("http_options", "host"), "is missing: Serve would listen on all interfaces"))
    if not 1 <= schema.http_options.port <= 65535:
        found.append(
            (("http_options", "port"), f"must be from 1 to 65535, is {schema.http_options.port}")
        )
    for index, deployment in enumerate(application.deployments):
        if deployment.name != DEPLOYMENT:
            found.append(
                (
                    (*_APPLICATION, "deployments", index, "name"),
                    f"must be {DEPLOYMENT}, is {deployment.name!r:.80}",
                )
            )
    return found


def _where(document: Document, loc: Loc) -> str:
    inner = loc[2:] if loc[:2] == _APPLICATION else loc
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
    return f"{document.path}:{document.line(loc)}" + (f": {field.lstrip('.')}" if field else "")
