"""Manifests as files: rendered from values and a Serve config, written whole, and read again."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from deploy.cluster.check import ManifestError
from deploy.cluster.kuberay import Manifest, ray_service, serve_config
from deploy.cluster.kubernetes import around, pod_monitor, prometheus_rule
from deploy.cluster.values import Values
from workers.settings import WorkerSettings


def render_manifests(
    values: Values, config: Path, rules: list[dict[str, Any]] | None = None
) -> list[Manifest]:
    """Return all manifests of a deployment.

    Args:
        values: of the cluster.
        config: a Serve config that passed its checks.
        rules: Prometheus' rule groups; None: nothing for the Prometheus operator.

    Raises:
        pydantic.ValidationError: the config's settings and the values' do not go together.
    """
    made = serve_config(values, yaml.safe_load(config.read_text(encoding="utf-8")))
    settings = WorkerSettings.model_validate(made["applications"][0]["args"])
    found = [ray_service(values, made, settings.drain_s), *around(values)]
    if rules is not None:
        found += [pod_monitor(values), prometheus_rule(values, rules)]
    return found


def write_manifests(manifests: Iterable[Manifest], folder: Path) -> list[Path]:
    """Write one file a manifest, and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for manifest in manifests:
        path = folder / f"{manifest['metadata']['name']}.{manifest['kind'].lower()}.yaml"
        path.write_text(yaml.dump(manifest, Dumper=_Dumper, sort_keys=False), encoding="utf-8")
        written.append(path)
    return written


def read_manifests(paths: Iterable[Path]) -> list[Manifest]:
    """Return the manifests of files, and of all YAML files in folders.

    Raises:
        ManifestError: a file can't be read, or is none.
    """
    found: list[Manifest] = []
    for path in paths:
        for file in sorted(path.glob("*.yaml")) if path.is_dir() else [path]:
            try:
                content = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                told = getattr(error, "strerror", None) or getattr(error, "problem", error)
                raise ManifestError(f"{file}: can't be read: {told}") from error
            for each in content:
                if not isinstance(each, dict) or "kind" not in each:
                    raise ManifestError(f"{file}: no manifest: must be a mapping with `kind`")
                found.append(each)
    if not found:
        raise ManifestError(f"{', '.join(map(str, paths))}: no manifests there")
    return found


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such, and nothing by reference."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401 - PyYAML's
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)
