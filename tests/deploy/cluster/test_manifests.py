"""Manifests: what is rendered passes, and what would go wrong on a cluster is told before."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from deploy.cluster.check import ManifestError, check_manifests
from deploy.cluster.manifests import render_manifests
from deploy.cluster.values import VALUES, ValuesError, load_values
from deploy.commands import main as cli
from deploy.local.config import CONFIG
from tests.deploy.cluster.managed import managed_server
from workers.settings import StreamSettings
from workers.stream.redis_stream import RedisStream

CUDA = VALUES.with_name("values.cuda.yaml")


@pytest.fixture(scope="module")
def rendered() -> list[Any]:
    return render_manifests(load_values([VALUES]), CONFIG, [])


@pytest.fixture
def manifests(rendered: list[Any]) -> list[Any]:
    return copy.deepcopy(rendered)


def of_kind(manifests: list[Any], kind: str) -> Any:
    return next(each for each in manifests if each["kind"] == kind)


def cluster_of(manifests: list[Any]) -> Any:
    return of_kind(manifests, "RayService")["spec"]["rayClusterConfig"]


@pytest.mark.parametrize("overlays", [[], [CUDA]])
def test_what_is_rendered_passes(overlays: list[Path]) -> None:
    values = load_values([VALUES, *overlays])
    manifests = render_manifests(values, CONFIG, [])
    assert check_manifests(manifests) == 7
    (group,) = cluster_of(manifests)["workerGroupSpecs"]
    asked = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert asked.get("nvidia.com/gpu", 0) == (1 if overlays else 0)


def test_a_server_elsewhere_is_not_rendered(tmp_path: Path) -> None:
    overlay = tmp_path / "elsewhere.yaml"
    overlay.write_text(
        "redis:\n  url: rediss+sentinel://livegate-worker@a:26379,b:26379/doors\n"
        "  managed: false\n  cidrs: [192.0.2.0/24]\n"
    )
    manifests = render_manifests(load_values([VALUES, overlay]), CONFIG)
    assert check_manifests(manifests) == 3
    config = yaml.safe_load(of_kind(manifests, "RayService")["spec"]["serveConfigV2"])
    assert config["applications"][0]["args"]["stream"]["url"].endswith("/doors")


def test_a_bundle_in_the_values_is_swapped_in_place(tmp_path: Path) -> None:
    overlay = tmp_path / "over.yaml"
    overlay.write_text("bundle: s3://models/site-7@17b8e32e7c9f\n")
    before, after = (
        of_kind(render_manifests(load_values(paths), CONFIG), "RayService")
        for paths in ([VALUES], [VALUES, overlay])
    )
    (config,) = yaml.safe_load(after["spec"]["serveConfigV2"])["applications"][0]["deployments"]
    assert config["user_config"] == {"bundle": "s3://models/site-7@17b8e32e7c9f"}
    # Nothing else differs: KubeRay would start a second cluster.
    for each in (before, after):
        del each["spec"]["serveConfigV2"]
    assert before == after


def test_no_pod_may_do_more_than_it_needs(manifests: list[Any]) -> None:
    cluster = cluster_of(manifests)
    pods = [
        cluster["headGroupSpec"]["template"]["spec"],
        cluster["workerGroupSpecs"][0]["template"]["spec"],
        of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"],
    ]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            locked = container["securityContext"]
            assert locked["readOnlyRootFilesystem"]
            assert not locked["allowPrivilegeEscalation"]
            assert locked["capabilities"] == {"drop": ["ALL"]}
            assert "limits" in container["resources"]
    assert "secretKeyRef" not in str(pods)  # secrets are files, never in the environment


CHANGES: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "an unknown field": (
        lambda m: cluster_of(m).update(enableInTreeAutoscalin=True),
        "rayClusterConfig: Additional properties are not allowed",
    ),
    "a wrong type": (
        lambda m: cluster_of(m)["workerGroupSpecs"][0].update(minReplicas="one"),
        "minReplicas: 'one' is not of type 'integer'",
    ),
    "an unknown mode": (
        lambda m: cluster_of(m).update(authOptions={"mode": "password"}),
        "authOptions.mode",
    ),
    "an unknown field of a container": (
        lambda m: cluster_of(m)["headGroupSpec"]["template"]["spec"]["containers"][0].update(
            imagee="x"
        ),
        "imagee",
    ),
    "a long name": (
        lambda m: of_kind(m, "RayService")["metadata"].update(name="a" * 48),
        "at most 47 characters, has 48",
    ),
    "more at least than at most": (
        lambda m: cluster_of(m)["workerGroupSpecs"][0].update(minReplicas=5, replicas=5),
        r"minReplicas \(5\) must be at most maxReplicas \(4\)",
    ),
    "replicas out of bounds": (
        lambda m: cluster_of(m)["workerGroupSpecs"][0].update(replicas=9),
        r"replicas \(9\) must be from 1 to 4",
    ),
    "tokens with an old Ray": (
        lambda m: cluster_of(m).update(rayVersion="2.51.0"),
        "tokens need Ray 2.52",
    ),
    "a control store that is set twice": (
        lambda m: (
            cluster_of(m).update(gcsFaultToleranceOptions={"redisAddress": "gcs:6379"}),
            cluster_of(m)["headGroupSpec"]["template"]["spec"]["containers"][0]["env"].append(
                {"name": "RAY_REDIS_ADDRESS", "value": "gcs:6379"}
            ),
        ),
        "not beside RAY_REDIS_ADDRESS",
    ),
    "an incremental upgrade without autoscaling": (
        lambda m: (
            cluster_of(m).update(enableInTreeAutoscaling=False),
            of_kind(m, "RayService")["spec"].update(
                upgradeStrategy={"type": "NewClusterWithIncrementalUpgrade"}
            ),
        ),
        "needs enableInTreeAutoscaling",
    ),
    "a drain that is cut off": (
        lambda m: cluster_of(m)["workerGroupSpecs"][0]["template"]["spec"].update(
            terminationGracePeriodSeconds=30
        ),
        "must be above drain_s",
    ),
    "a setting that is none": (
        lambda m: serve(m, lambda a: a["args"].update(max_bach=4)),
        "serveConfigV2: max_bach: is no setting",
    ),
    "an application that never sleeps": (
        lambda m: serve(
            m,
            lambda a: a["deployments"][0].update(
                autoscaling_config={"min_replicas": 0, "initial_replicas": 1}
            ),
        ),
        "initial_replicas",
    ),
    "a Serve config that is none": (
        lambda m: of_kind(m, "RayService")["spec"].update(serveConfigV2="- a\n- b"),
        "serveConfigV2",
    ),
    "a typo in a budget": (
        lambda m: of_kind(m, "PodDisruptionBudget")["spec"].update(maxUnavailabel=1),
        "maxUnavailabel",
    ),
}


def serve(manifests: list[Any], change: Callable[[Any], object]) -> None:
    spec = of_kind(manifests, "RayService")["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    change(config["applications"][0])
    spec["serveConfigV2"] = yaml.safe_dump(config)


@pytest.mark.parametrize("name", CHANGES)
def test_what_would_go_wrong_is_told(name: str, manifests: list[Any]) -> None:
    change, told = CHANGES[name]
    change(manifests)
    with pytest.raises(ManifestError, match=told):
        check_manifests(manifests)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker:\n  gpu: 1\n", r"over.yaml:2: worker.gpu: is no setting"),
        ("worker:\n  min_nodes: 9\n", r"over.yaml:1: worker: min_nodes \(9\) must be at most"),
        ("name: Live_gate\n", r"over.yaml:1: name: .*pattern"),
        (f"name: {'a' * 48}\n", r"over.yaml:1: name: .*at most 47"),
        ("scaling:\n  max_replica: 3\n", r"over.yaml:1: scaling: max_replica: is no setting"),
        ("scaling:\n  drain_s: 0\n", r"over.yaml:1: scaling: drain_s: .*greater than 0"),
        ("redis:\n  url: redis://r:6379/0\n", r"over.yaml:2: redis.url: must begin with rediss"),
        (
            "redis:\n  url: rediss://u:geheim@r:6379/0\n",
            r"over.yaml:2: redis.url: must hold no password",
        ),
        ("redis:\n  cluster: true\n", r"over.yaml:1: redis: a managed server is a single one"),
        ("replica:\n  num_gpus: 1\n", r"replica.num_gpus \(1\) must be at most worker.gpus \(0\)"),
        ("name: doors\n", r"redis.url must name doors-redis"),
        ("head:\n  memory: lots\n", r"over.yaml:2: head.memory: .*pattern"),
        ("name: a\nname: b\n", r"over.yaml:2: name: stands twice"),
        ("a: [\n", r"over.yaml:2: not YAML"),
        ("- a\n", r"over.yaml: must be a mapping"),
        ("gcs:\n  address: livegate-redis:6379\n  secret: s\n", r"a Redis of its own"),
    ],
)
def test_values_that_can_not_be_used_are_told_by_place(
    text: str, told: str, tmp_path: Path
) -> None:
    overlay = tmp_path / "over.yaml"
    overlay.write_text(text)
    with pytest.raises(ValuesError, match=told) as found:
        load_values([VALUES, overlay])
    assert "geheim" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_one_command_from_a_checkout_to_checked_manifests(tmp_path: Path) -> None:
    made = CliRunner().invoke(cli.app, ["deploy", "render", "--out", str(tmp_path / "k8s")])
    assert made.exit_code == 0, made.output
    assert "7 manifests checked" in made.output
    checked = CliRunner().invoke(cli.app, ["deploy", "check", str(tmp_path / "k8s")])
    assert checked.exit_code == 0, checked.output
    broken = tmp_path / "k8s" / "livegate.rayservice.yaml"
    broken.write_text(broken.read_text().replace("minReplicas: 1", "minReplicas: 9"))
    with pytest.raises(ManifestError):
        CliRunner().invoke(
            cli.app, ["deploy", "check", str(tmp_path / "k8s")], catch_exceptions=False
        )


def test_nothing_is_written_where_values_are_wrong(tmp_path: Path) -> None:
    overlay = tmp_path / "over.yaml"
    overlay.write_text("nmae: x\n")
    command = [sys.executable, "-c", "from deploy.commands.main import main; main()"]
    args = ["deploy", "render", "--out", "k8s", "--values", str(VALUES), "--values", str(overlay)]
    ended = subprocess.run(
        [*command, *args], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        f"livegate: {overlay}:1: nmae: is no setting, is 'x'\n",
    )
    assert not (tmp_path / "k8s").exists()


async def test_the_managed_server_starts_and_takes_a_replica(tmp_path: Path) -> None:
    """Its own configuration on a real Redis has no findings."""
    with managed_server(tmp_path, 2) as urls:
        stream = RedisStream(StreamSettings(url=urls["worker"], partitions=2), "replica")
        await stream.join()
        assert stream.findings == []
        await stream.leave()
