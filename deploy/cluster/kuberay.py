"""The RayService: KubeRay's form of a Ray cluster, and of the Serve config that runs on it.

Probes of Ray's pods are left to KubeRay, which knows their tokens; the start-up probe here gives an
image that is pulled, and a bundle that is loaded, the time they need.
"""

import copy
from typing import Any

import yaml

from deploy.cluster.values import Values

HTTP_PORT, METRICS_PORT, DASHBOARD_PORT, AGENT_PORT, GCS_PORT = 8000, 8080, 8265, 52365, 6379
# Serve's own grace for a replica (workers/app.py), and some to spare.
SERVE_GRACE_S, SPARE_S = 20, 15
_ETC = "/etc/livegate"
Manifest = dict[str, Any]


def labels(values: Values, part: str) -> dict[str, str]:
    """Return the labels by which policies and budgets find the pods of a part."""
    return {"app.kubernetes.io/part-of": values.name, "app.kubernetes.io/component": part}


def serve_config(values: Values, config: dict[str, Any]) -> dict[str, Any]:
    """Return the Serve config for the cluster.

    Args:
        values: of the cluster.
        config: the Serve config as it was read, which passed its own checks.
    """
    made = copy.deepcopy(config)
    made["proxy_location"] = "EveryNode"
    made["http_options"] = {"host": "0.0.0.0", "port": HTTP_PORT}  # noqa: S104 - of a pod
    application = made["applications"][0]
    args = application.setdefault("args", {})
    stream = args.setdefault("stream", {})
    stream.update(url=values.redis.url, cluster=values.redis.cluster)
    args["camera_keys"] = f"{_ETC}/camera-keys/camera_keys.json"
    args["console"] = {"token_file": f"{_ETC}/console/token"}
    args["scaling"] = {**args.get("scaling", {}), **values.scaling}
    options = {"num_cpus": values.replica.num_cpus}
    if values.replica.num_gpus:
        options["num_gpus"] = values.replica.num_gpus
    deployment: dict[str, Any] = next(iter(application.get("deployments") or [{}]))
    application["deployments"] = [{**deployment, "name": "Worker", "ray_actor_options": options}]
    return made


def ray_service(values: Values, config: dict[str, Any], drain_s: float) -> Manifest:
    """Return the RayService.

    Args:
        values: of the cluster.
        config: from `serve_config`.
        drain_s: how long a replica may take to finish what it holds.
    """
    cluster: Manifest = {
        "rayVersion": values.ray_version,
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {
            "version": "v2",
            "idleTimeoutSeconds": 120,
            "securityContext": _locked(),
            "resources": _resources(0.25, "512Mi"),
        },
        "headGroupSpec": {
            # No replica on the head: what ends one must not end the controllers.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
            "template": _pod(values, "head", drain_s),
        },
        "workerGroupSpecs": [
            {
                "groupName": "replicas",
                "minReplicas": values.worker.min_nodes,
                "maxReplicas": values.worker.max_nodes,
                "replicas": values.worker.min_nodes,
                "rayStartParams": {},
                "template": _pod(values, "worker", drain_s),
            }
        ],
    }
    if values.gcs is not None:
        cluster["gcsFaultToleranceOptions"] = {
            "redisAddress": values.gcs.address,
            "redisPassword": {
                "valueFrom": {"secretKeyRef": {"name": values.gcs.secret, "key": "password"}}
            },
        }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": values.name, "namespace": values.namespace},
        "spec": {
            "serveConfigV2": yaml.safe_dump(config, sort_keys=False),
            "excludeHeadPodFromServeSvc": True,
            "rayClusterDeletionDelaySeconds": int(_grace_s(drain_s)),
            "rayClusterConfig": cluster,
        },
    }


def _grace_s(drain_s: float) -> int:
    return int(drain_s) + SERVE_GRACE_S + SPARE_S


def _pod(values: Values, part: str, drain_s: float) -> Manifest:
    is_worker = part == "worker"
    secrets = values.secrets
    mounts = {"redis": secrets.redis_password, "redis-tls": secrets.redis_tls} | {
        "camera-keys": secrets.camera_keys,
        "console": secrets.console_token,
    }
    # The CA alone: the server's own key is none of Ray's business.
    only = {"redis-tls": [{"key": "ca.crt", "path": "ca.crt"}]}
    ports = {"metrics": METRICS_PORT, "serve": HTTP_PORT}
    if not is_worker:
        ports |= {"gcs-server": GCS_PORT, "dashboard": DASHBOARD_PORT, "client": 10001}
    size = (values.worker.cpu, values.worker.memory) if is_worker else None
    cpu, memory = size or (values.head.cpu, values.head.memory)
    spec: Manifest = {
        "terminationGracePeriodSeconds": _grace_s(drain_s),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": f"ray-{part}",
                "image": values.image,
                "env": [{"name": name, "value": value} for name, value in _environment().items()],
                "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
                "resources": _resources(cpu, memory, values.worker.gpus if is_worker else 0),
                "securityContext": _locked(),
                "startupProbe": {
                    "tcpSocket": {"port": AGENT_PORT},
                    "periodSeconds": 5,
                    "failureThreshold": 60,
                },
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - of a pod
                    {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108
                    *(
                        {"name": name, "mountPath": f"{_ETC}/{name}", "readOnly": True}
                        for name in mounts
                    ),
                ],
            }
        ],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "8Gi"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            *(
                {
                    "name": name,
                    "secret": {"secretName": secret, "defaultMode": 0o440}
                    | ({"items": only[name]} if name in only else {}),
                }
                for name, secret in mounts.items()
            ),
        ],
    }
    if is_worker:
        # The head's account is KubeRay's: its autoscaler asks for pods.
        spec["automountServiceAccountToken"] = False
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(values, part)},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
        if values.worker.gpus:
            spec["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    return {"metadata": {"labels": labels(values, part)}, "spec": spec}


def _environment() -> dict[str, str]:
    return {
        "HOME": "/tmp",  # noqa: S108 - the only place that can be written to
        "LIVEGATE_REDIS_PASSWORD_FILE": f"{_ETC}/redis/password",
        "RAY_worker_niceness": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        # How often replicas report their service rate to the autoscaling policy.
        "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
        "OPENCV_IO_MAX_IMAGE_PIXELS": str(1 << 20),
    }


def _locked() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(cpu: float, memory: str, gpus: int = 0) -> Manifest:
    # Memory is asked for as it is limited: a replica that is killed for memory has frames in hand.
    asked: Manifest = {"cpu": f"{cpu:g}", "memory": memory}
    if gpus:
        asked["nvidia.com/gpu"] = gpus
    return {"requests": asked, "limits": {name: asked[name] for name in asked if name != "cpu"}}
