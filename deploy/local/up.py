"""`livegate up`: a deployment on this machine, until it is told to stop."""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from deploy.local.config import CONFIG, ConfigError, ServeConfig, load_config
from deploy.local.home import Address, Home, UserConfigError
from deploy.local.ports import METRICS_PORT, check_port
from deploy.local.progress import Tell, tell_on
from deploy.local.server import ServerFailed, embedded_server
from deploy.local.signals import interrupt_on_stop, stop_event
from deploy.local.stack import change_user_config, replica_states, serve_application
from model.errors import ModelError
from workers.replica.bundles import resolve_bundle
from workers.settings import LiveSettings, problems_of
from workers.stream.connection import connect
from workers.stream.failure import FAILURES, Failure, failure_of
from workers.wire import keys
from workers.wire.keyring import KeyFileError, read_keys
from workers.wire.server_url import hidden, parse_server_url

_LOOK_S = 1.0
_LOOPBACK = {"127.0.0.1": "127.0.0.1", "localhost": "127.0.0.1", "::1": "::1"}
_URL = ("applications", 0, "args", "stream", "url")


def run_deployment(
    home: Home,
    path: Path | None,
    redis_url: str | None,
    console: Console,
    metrics_port: int = METRICS_PORT,
) -> None:
    """Run a deployment until Ctrl-C, SIGTERM or the end of its terminal; then drain it.

    Args:
        home: its folder.
        path: its Serve config; None: the shipped one.
        redis_url: a server that runs; None: the one that the config names, which is started here
            if it is on loopback.
        console: where to tell what happens.
        metrics_port: where Prometheus finds the metrics.
    """
    interrupt_on_stop()
    tell = tell_on(console)
    config = load_config(path or CONFIG)
    home.prepare()
    with ExitStack() as cleanup:
        cleanup.enter_context(home.occupied())
        config = config if redis_url is None else config.with_redis(redis_url)
        embedded = _embedded(config) if redis_url is None else None
        if embedded is None:
            _check_server(config)
        wanted = home.user_config()
        if wanted is not None:
            config = config.with_user_config(wanted)
        config = _checked(config, home)
        check_port("metrics", "127.0.0.1", metrics_port, "choose another one with --metrics-port")
        server = None
        if embedded is not None:
            host, port = embedded
            server = cleanup.enter_context(
                embedded_server(home.server_folder, port, host, tell=tell)
            )
        cleanup.enter_context(serve_application(config, tell, metrics_port))
        cleanup.enter_context(home.announced(_address(config)))
        stop = stop_event()
        _say_where(config, metrics_port, tell)
        last: dict[str, int] = {}
        while not stop.wait(_LOOK_S):
            if server is not None and not server.is_running:
                raise ServerFailed(f"the embedded server has ended: see {server.log}")
            wanted = _changed(config, home, wanted, tell)
            now = replica_states(config.application)
            if now != last:
                tell(f"replicas: {now}")
                last = now
        tell("draining ...")


def _checked(config: ServeConfig, home: Home) -> ServeConfig:
    """Look for all that the config names, before anything starts, and put whole paths into it."""
    settings = config.settings
    found: dict[str, Any] = {}
    try:
        found["bundle"] = str(resolve_bundle(settings.bundle))
    except ModelError as error:
        raise ConfigError(f"{_where(config, 'bundle')}: {error}") from error
    _check_live(config, home)
    if settings.camera_keys is not None:
        key_file = (home.folder / settings.camera_keys).resolve()
        try:
            read_keys(key_file)
        except KeyFileError as error:
            raise ConfigError(
                f"{_where(config, 'camera_keys')}: {error} (a relative path is taken from "
                f"{home.folder})"
            ) from error
        found["camera_keys"] = key_file
    if config.http_url:
        check_port(
            config.where("http_options", "port"),
            config.http["host"],
            config.http["port"],
            "stop what listens there, or set another one in a copy of the config (--config)",
        )
    return config.with_args(**found)


def _check_live(config: ServeConfig, home: Home) -> None:
    """Look for the bundles that `user_config` names: a replica that lacks one does not start."""
    try:
        live = LiveSettings.model_validate(config.options.get("user_config") or {})
        for each in (live, live.candidate):
            if each is not None and each.bundle is not None:
                resolve_bundle(each.bundle)
    except (ModelError, ValidationError) as error:
        told = error if isinstance(error, ModelError) else problems_of(error)[0][1]
        place = f"{home.user_config_file} (set by `livegate model`; without it the config counts)"
        if home.user_config() is None:
            place = config.where("applications", 0, "deployments", 0, "user_config")
        raise ConfigError(f"{place}: {told}") from error


def _changed(
    config: ServeConfig, home: Home, before: dict[str, Any] | None, tell: Tell
) -> dict[str, Any] | None:
    """Deploy the `user_config` that was set since, if one was, and return it."""
    try:
        wanted = home.user_config()
    except UserConfigError as error:
        tell(f"what runs goes on: {error}")
        return before
    if wanted != before:
        change_user_config(config, wanted or {})
    return wanted


def _embedded(config: ServeConfig) -> tuple[str, int] | None:
    """Return host and port of the server that is to be started here; None: it runs elsewhere."""
    url = parse_server_url(config.settings.stream.url)
    if url.service or len(url.hosts) != 1 or url.hosts[0][0] not in _LOOPBACK:
        return None
    host, port = _LOOPBACK[url.hosts[0][0]], url.hosts[0][1]
    place = config.where(*_URL)
    has_password = url.login.password is not None or url.login.password_file
    if url.is_tls or has_password or config.settings.stream.cluster:
        raise ConfigError(
            f"{place}: the server that is started on loopback has no TLS, no password, and is no "
            "cluster: to use one that runs there, name it with --redis"
        )
    check_port(
        place,
        host,
        port,
        f"to use the server that runs there, add --redis redis://{host}:{port}/0; "
        "or set another port in a copy of the config (--config)",
    )
    return host, port


def _check_server(config: ServeConfig) -> None:
    """Say at once if the server can't be used; one that is not ready yet is waited for later."""
    stream = config.settings.stream

    async def ask() -> None:
        servers = connect(stream.url, cluster=stream.cluster)
        try:
            await servers.execute(keys.members(0), "PING")
        finally:
            await servers.aclose()

    try:
        asyncio.run(ask())
    except FAILURES as error:
        failure = failure_of(error)
        if failure is Failure.LINE or not failure.is_transient:
            raise


def _address(config: ServeConfig) -> Address:
    stream, key_file = config.settings.stream, config.settings.camera_keys
    return Address(
        stream.url,
        stream.partitions,
        stream.cluster,
        config.http_url,
        "" if key_file is None else str(key_file),
    )


def _say_where(config: ServeConfig, metrics_port: int, tell: Tell) -> None:
    settings = config.settings
    live = config.options.get("user_config") or {}
    tell(f"bundle:               {live.get('bundle') or settings.bundle}")
    tell(f"frames and decisions: {hidden(settings.stream.url)}")
    tell(f"status:               {config.http_url}/v1/status" if config.http_url else "no HTTP")
    if config.http_url:
        tell(f"console:              {config.http_url}/console/")
    tell(f"metrics:              http://127.0.0.1:{metrics_port}/metrics")
    tell(f"camera keys:          {settings.camera_keys or 'none: unsigned frames are taken'}")
    tell("connect a camera:     livegate camera --id gate-1")
    tell("watch:                livegate decisions --follow")
    tell("Ctrl-C drains and stops it.")


def _where(config: ServeConfig, field: str) -> str:
    return config.where("applications", 0, "args", field)
