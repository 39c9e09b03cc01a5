"""What stands around the RayService: policies, a disruption budget, monitors, the server."""

from typing import Any

from deploy.cluster.kuberay import (
    AGENT_PORT,
    DASHBOARD_PORT,
    HTTP_PORT,
    METRICS_PORT,
    Manifest,
    labels,
)
from deploy.cluster.values import Values

_SERVER_PORT = 6379
# What a door depends on; see the table in README.md, and `workers/stream/layout.py`, which checks.
SERVER_OPTIONS = {
    "appendonly": "yes",
    "appendfsync": "always",
    "save": '""',
    "maxmemory-policy": "noeviction",
    "proto-max-bulk-len": "1mb",
    "port": "0",
    "tls-port": str(_SERVER_PORT),
    "tls-auth-clients": "no",
    "dir": "/data",
    "aclfile": "/etc/redis/acl/users.acl",
    "tls-cert-file": "/etc/redis/tls/tls.crt",
    "tls-key-file": "/etc/redis/tls/tls.key",
    "tls-ca-cert-file": "/etc/redis/tls/ca.crt",
}


def around(values: Values) -> list[Manifest]:
    """Return all manifests beside the RayService and the monitors."""
    made = [_budget(values), _policy(values)]
    return [*made, *_server(values)] if values.redis.managed else made


def pod_monitor(values: Values) -> Manifest:
    """Return the Prometheus operator's monitor of Ray's pods."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": _named(values, ""),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/part-of": values.name}},
            "podMetricsEndpoints": [{"port": "metrics", "interval": "10s"}],
        },
    }


def prometheus_rule(values: Values, groups: list[dict[str, Any]]) -> Manifest:
    """Return the Prometheus operator's form of rules."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": _named(values, ""),
        "spec": {"groups": groups},
    }


def server_conf(values: Values) -> str:
    """Return the managed server's configuration."""
    lines = [f"{name} {value}\n" for name, value in SERVER_OPTIONS.items()]
    return "".join([*lines, f"maxmemory {_three_quarters(values.redis.memory)}\n"])


def _budget(values: Values) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _named(values, "-replicas"),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels(values, "worker")},
        },
    }


def _policy(values: Values) -> Manifest:
    """Return who may speak with Ray's pods: Ray runs what it is sent, so nobody else."""
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": values.name}}}
    network = values.network
    server: Manifest = {"ports": [_port(_SERVER_PORT), _port(26379)]}
    if values.redis.managed:
        server["to"] = [{"podSelector": {"matchLabels": labels(values, "redis")}}]
    elif values.redis.cidrs:
        server["to"] = [{"ipBlock": {"cidr": cidr}} for cidr in values.redis.cidrs]
        del server["ports"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _named(values, "-ray"),
        "spec": {
            "podSelector": {
                "matchLabels": {"app.kubernetes.io/part-of": values.name},
                "matchExpressions": [
                    {
                        "key": "app.kubernetes.io/component",
                        "operator": "In",
                        "values": ["head", "worker"],
                    }
                ],
            },
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [own]},
                {"from": [_namespace(network.gateways)], "ports": [_port(HTTP_PORT)]},
                {"from": [_namespace(network.monitoring)], "ports": [_port(METRICS_PORT)]},
                {
                    "from": [_namespace(network.operator)],
                    "ports": [_port(DASHBOARD_PORT), _port(AGENT_PORT), _port(HTTP_PORT)],
                },
            ],
            "egress": [
                {"to": [own]},
                {"ports": [_port(53, "UDP"), _port(53)]},
                server,
                # Bundles, and Kubernetes' API for the autoscaler.
                {"ports": [_port(443), _port(6443)]},
            ],
        },
    }


def _server(values: Values) -> list[Manifest]:
    name, found = f"{values.name}-redis", labels(values, "redis")
    locked = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    probe = {"tcpSocket": {"port": _SERVER_PORT}, "periodSeconds": 5}
    mounts = {"data": "/data", "conf": "/etc/redis/conf", "tls": "/etc/redis/tls"}
    container = {
        "name": "redis",
        "image": values.redis.image,
        "command": ["redis-server", "/etc/redis/conf/redis.conf"],
        "ports": [{"name": "redis", "containerPort": _SERVER_PORT}],
        "resources": {
            "requests": {"cpu": "1", "memory": values.redis.memory},
            "limits": {"memory": values.redis.memory},
        },
        "securityContext": locked,
        "startupProbe": {**probe, "failureThreshold": 120},
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 6},
        "volumeMounts": [
            {"name": each, "mountPath": path}
            for each, path in {**mounts, "acl": "/etc/redis/acl"}.items()
        ],
    }
    pod = {
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 999,
            "runAsGroup": 999,
            "fsGroup": 999,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "conf", "configMap": {"name": name}},
            {"name": "tls", "secret": {"secretName": values.secrets.redis_tls}},
            {"name": "acl", "secret": {"secretName": values.secrets.redis_acl}},
        ],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": values.redis.storage}},
        },
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _named(values, "-redis"),
            "data": {"redis.conf": server_conf(values)},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _named(values, "-redis"),
            "spec": {
                "selector": found,
                "ports": [{"name": "redis", "port": _SERVER_PORT, "targetPort": "redis"}],
            },
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": _named(values, "-redis"),
            "spec": {
                "serviceName": name,
                "replicas": 1,
                "selector": {"matchLabels": found},
                "template": {"metadata": {"labels": found}, "spec": pod},
                "volumeClaimTemplates": [claim],
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _named(values, "-redis"),
            "spec": {
                "podSelector": {"matchLabels": found},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [
                            {"podSelector": {"matchLabels": labels(values, part)}}
                            for part in ("head", "worker", "gateway")
                        ],
                        "ports": [_port(_SERVER_PORT)],
                    }
                ],
                "egress": [],
            },
        },
    ]


def _named(values: Values, suffix: str) -> Manifest:
    return {"name": f"{values.name}{suffix}", "namespace": values.namespace}


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def _port(number: int, protocol: str = "TCP") -> Manifest:
    return {"protocol": protocol, "port": number}


def _three_quarters(memory: str) -> str:
    """Return the server's bound: its append-only file's rewrite takes memory beyond it."""
    digits = memory.rstrip("kMGTPim")
    unit = {"": 1, "k": 10**3, "Ki": 2**10, "M": 10**6, "Mi": 2**20, "G": 10**9, "Gi": 2**30}
    return str(int(float(digits) * unit.get(memory[len(digits) :], 2**40) * 0.75))
