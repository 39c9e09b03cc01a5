"""Manifests, checked without a cluster: schemas, and KubeRay's rules that are in none.

Source: the schema of RayService is that of KubeRay v1.7 (ray-operator/config/crd/bases), the rules
are those of its ray-operator/controllers/ray/utils/validation.go.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from deploy.cluster.kuberay import SERVE_GRACE_S, Manifest
from deploy.errors import DeployError
from workers.settings import WorkerSettings, problems_of

_SCHEMA = Path(__file__).with_name("rayservice.v1.json")
_KUBERNETES = "1.31"
_MAX_NAME = 47
_OLDEST_WITH_TOKENS = (2, 52)
# Of the Prometheus operator: their schemas are not here.
_UNKNOWN_HERE = "monitoring.coreos.com/v1"


class ManifestError(DeployError):
    """Manifests would not do; each line of the message is one problem, with its place."""


def check_manifests(manifests: list[Manifest]) -> int:
    """Check manifests as the API server and KubeRay would, and return how many were checked.

    Raises:
        ManifestError: some of them would be refused, or not do what they say.
    """
    problems, num_checked = [], 0
    for manifest in manifests:
        kind, name = manifest.get("kind"), (manifest.get("metadata") or {}).get("name")
        if manifest.get("apiVersion") == _UNKNOWN_HERE:
            continue
        found = _ray_service(manifest) if kind == "RayService" else _kubernetes(manifest)
        problems += [f"{kind} {name}: {each}" for each in found]
        num_checked += 1
    if problems:
        raise ManifestError("\n".join(dict.fromkeys(problems)))
    return num_checked


def _kubernetes(manifest: Manifest) -> Iterator[str]:
    import kubernetes_validate  # noqa: PLC0415 - of the extra `cluster`

    try:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{'.'.join(map(str, error.path)) or 'it'}: {error.message:.200}"
    except (kubernetes_validate.SchemaNotFoundError, KeyError):
        yield f"is of no kind that Kubernetes {_KUBERNETES} has"


def _ray_service(manifest: Manifest) -> Iterator[str]:
    errors = list(_validator().iter_errors(manifest))
    for error in errors:
        yield f"{'.'.join(map(str, error.absolute_path)) or 'it'}: {error.message:.200}"
    if errors:
        return
    yield from _pods(manifest)
    yield from _rules(manifest)


def _pods(manifest: Manifest) -> Iterator[str]:
    """Check the pods by Kubernetes' own schema, which says more than KubeRay's copy."""
    cluster = manifest["spec"]["rayClusterConfig"]
    groups = [("head", cluster["headGroupSpec"])]
    groups += [(each["groupName"], each) for each in cluster.get("workerGroupSpecs") or []]
    for name, group in groups:
        template = group["template"]
        metadata = {"name": "pod", **(template.get("metadata") or {})}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        for problem in _kubernetes(pod):
            yield f"the pods of {name}: {problem}"


def _rules(manifest: Manifest) -> Iterator[str]:
    spec, cluster = manifest["spec"], manifest["spec"]["rayClusterConfig"]
    name = manifest["metadata"]["name"]
    if len(name) > _MAX_NAME:
        yield f"metadata.name: must have at most {_MAX_NAME} characters, has {len(name)}"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield "metadata.name: must be of a-z, 0-9 and -, and begin with a letter"
    for group in cluster.get("workerGroupSpecs") or []:
        yield from _bounds(group)
    version = cluster.get("rayVersion", "0")
    is_too_old = tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_WITH_TOKENS
    if is_too_old and (cluster.get("authOptions") or {}).get("mode") == "token":
        yield f"rayVersion: tokens need Ray 2.52 or newer, is {version}"
    strategy = (spec.get("upgradeStrategy") or {}).get("type")
    is_scaled = cluster.get("enableInTreeAutoscaling")
    if strategy == "NewClusterWithIncrementalUpgrade" and not is_scaled:
        yield "upgradeStrategy: an incremental upgrade needs enableInTreeAutoscaling"
    yield from _control_store(cluster)
    yield from _serve(spec, cluster)


def _control_store(cluster: Manifest) -> Iterator[str]:
    if not cluster.get("gcsFaultToleranceOptions"):
        return
    if "RAY_REDIS_ADDRESS" in _variables(cluster):
        yield "gcsFaultToleranceOptions: not beside RAY_REDIS_ADDRESS: it sets that itself"
    if "redis-password" in (cluster["headGroupSpec"].get("rayStartParams") or {}):
        yield "gcsFaultToleranceOptions: not beside redis-password in rayStartParams"


def _bounds(group: Manifest) -> Iterator[str]:
    low, high = group.get("minReplicas", 0), group.get("maxReplicas", 2**31)
    place = f"workerGroupSpecs.{group['groupName']}"
    if low > high:
        yield f"{place}: minReplicas ({low}) must be at most maxReplicas ({high})"
    elif not low <= group.get("replicas", low) <= high:
        yield f"{place}: replicas ({group['replicas']}) must be from {low} to {high}"


def _variables(cluster: Manifest) -> set[str]:
    groups = [cluster["headGroupSpec"], *(cluster.get("workerGroupSpecs") or [])]
    return {
        variable["name"]
        for group in groups
        for container in group["template"]["spec"]["containers"]
        for variable in container.get("env") or []
    }


def _serve(spec: Manifest, cluster: Manifest) -> Iterator[str]:
    try:
        config = _serve_config(spec.get("serveConfigV2") or "")
        settings = WorkerSettings.model_validate(config["applications"][0].get("args") or {})
    except ValidationError as error:
        for loc, what in problems_of(error):
            yield f"serveConfigV2: {'.'.join(map(str, loc))}: {what}"
        return
    except (yaml.YAMLError, TypeError, KeyError, IndexError):
        yield "serveConfigV2: is no Serve config with an application"
        return
    deployments = (each.get("deployments") or [] for each in config["applications"])
    scalings = (each.get("autoscaling_config") or {} for some in deployments for each in some)
    if any("initial_replicas" in each for each in scalings):
        yield "serveConfigV2: initial_replicas: the application would never sleep again"
    for group in cluster.get("workerGroupSpecs") or []:
        grace_s = group["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        if grace_s <= settings.drain_s + SERVE_GRACE_S:
            yield (
                f"workerGroupSpecs.{group['groupName']}: terminationGracePeriodSeconds "
                f"({grace_s}) must be above drain_s ({settings.drain_s:g}) and Serve's own "
                f"{SERVE_GRACE_S} s: frames would be cut off"
            )


def _serve_config(text: str) -> dict[str, Any]:
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415 - takes a second

    config: dict[str, Any] = yaml.safe_load(text)
    ServeDeploySchema.model_validate(config)
    return config


@cache
def _validator() -> Draft202012Validator:
    schema = _strict(json.loads(_SCHEMA.read_text(encoding="ascii")))
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"] |= {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": "RayService"}}
    return Draft202012Validator(schema)


def _strict(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Return a schema as the API server reads it when it is strict: unknown fields are refused."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(value) for name, value in schema.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    is_open = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if isinstance(made.get("properties"), dict) and not is_open:
        made["additionalProperties"] = False
    return made
