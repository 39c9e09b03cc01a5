"""One machine with containers: Redis, Livegate, Prometheus and Grafana, as a Compose project."""

import copy
from pathlib import Path
from typing import Any

import yaml

from deploy.cluster.kubernetes import SERVER_OPTIONS

# What the project's folder needs beside what is written: made by `livegate keys` and `deploy acl`.
SECRETS = {
    "redis_password": "acl/livegate-worker.password",
    "camera_keys.json": "camera_keys.json",
    "console_token": "console.token",
}
_HTTP_PORT, _METRICS_PORT = 8000, 8080
_URL = "redis://livegate-worker@redis:6379/0?password_file=/run/secrets/redis_password"
_NO_TLS = ("port", "tls-port", "tls-auth-clients", "tls-cert-file", "tls-key-file")


def project(image: str) -> dict[str, Any]:
    """Return the Compose file; `image` is built by deploy/cluster/Dockerfile."""
    locked = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    kept = {"restart": "unless-stopped", **locked}
    options = [
        part
        for name, value in SERVER_OPTIONS.items()
        if name not in (*_NO_TLS, "tls-ca-cert-file", "save", "aclfile")
        for part in (f"--{name}", value)
    ]
    return {
        "name": "livegate",
        "services": {
            "redis": {
                "image": "redis:7.4",
                "user": "redis",
                "command": [
                    *("redis-server", "--save", "", "--aclfile", "/etc/redis/users.acl"),
                    *options,
                ],
                "volumes": ["redis:/data", "./acl/users.acl:/etc/redis/users.acl:ro"],
                **kept,
            },
            # Holds the network that Livegate and Prometheus share, as a pod's does: metrics are on
            # loopback. It outlives a restart of either.
            "pod": {
                "image": image,
                "command": ["sleep", "infinity"],
                "init": True,
                "ports": [f"127.0.0.1:{_HTTP_PORT}:{_HTTP_PORT}"],
                **kept,
            },
            "livegate": {
                "image": image,
                "depends_on": ["redis", "pod"],
                "network_mode": "service:pod",
                "command": [
                    *("livegate", "up", "--folder", "/data", "--redis", _URL),
                    *("--config", "/etc/livegate/ray_config.yaml"),
                ],
                "volumes": ["livegate:/data", "./ray_config.yaml:/etc/livegate/ray_config.yaml:ro"],
                "tmpfs": ["/tmp:size=4g,mode=1777"],  # noqa: S108 - of the container
                "shm_size": "1g",
                "secrets": list(SECRETS),
                # Above the drain: see `args.drain_s`.
                "stop_grace_period": "45s",
                **kept,
            },
            "prometheus": {
                "image": "prom/prometheus:v3.5.0",
                "depends_on": ["pod"],
                "network_mode": "service:pod",
                "volumes": [
                    "prometheus:/prometheus",
                    "./prometheus.yml:/etc/prometheus/prometheus.yml:ro",
                    "./rules.yml:/etc/prometheus/rules.yml:ro",
                ],
                **kept,
            },
            "grafana": {
                "image": "grafana/grafana:12.2.0",
                "depends_on": ["prometheus"],
                "ports": ["127.0.0.1:3000:3000"],
                "volumes": [
                    "grafana:/var/lib/grafana",
                    "./grafana:/var/lib/grafana/dashboards:ro",
                    "./grafana/dashboards.yaml:/etc/grafana/provisioning/dashboards/livegate.yaml:ro",
                    "./datasource.yaml:/etc/grafana/provisioning/datasources/livegate.yaml:ro",
                ],
                **kept,
            },
        },
        "volumes": dict.fromkeys(("redis", "livegate", "prometheus", "grafana")),
        "secrets": {name: {"file": f"./{path}"} for name, path in SECRETS.items()},
    }


def write_project(folder: Path, config: Path, image: str, rules: str) -> list[Path]:
    """Write the project's own files, and return them.

    Args:
        folder: of the project.
        config: a Serve config that passed its checks.
        image: of Livegate.
        rules: Prometheus' rule file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "compose.yaml": yaml.safe_dump(project(image), sort_keys=False),
        "ray_config.yaml": yaml.safe_dump(_serve_config(config), sort_keys=False),
        "prometheus.yml": yaml.safe_dump(_PROMETHEUS, sort_keys=False),
        "datasource.yaml": yaml.safe_dump(_DATASOURCE, sort_keys=False),
        "rules.yml": rules,
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def _serve_config(config: Path) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(yaml.safe_load(config.read_text(encoding="utf-8")))
    made["http_options"] = {"host": "0.0.0.0", "port": _HTTP_PORT}  # noqa: S104 - of a container
    made.setdefault("logging_config", {"encoding": "JSON"})
    made["applications"][0].setdefault("logging_config", {"encoding": "JSON"})
    args = made["applications"][0].setdefault("args", {})
    args["camera_keys"] = "/run/secrets/camera_keys.json"
    args["console"] = {"token_file": "/run/secrets/console_token"}
    args.setdefault("stream", {})["url"] = "redis://redis:6379/0"
    return made


_PROMETHEUS = {
    "global": {"scrape_interval": "10s", "evaluation_interval": "10s"},
    "rule_files": ["rules.yml"],
    "scrape_configs": [
        {
            "job_name": "livegate",
            "static_configs": [{"targets": [f"127.0.0.1:{_METRICS_PORT}"]}],
        }
    ],
}
_DATASOURCE = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "Prometheus",
            "type": "prometheus",
            "access": "proxy",
            "url": "http://pod:9090",
            "isDefault": True,
            "jsonData": {"timeInterval": "10s"},
        }
    ],
}
