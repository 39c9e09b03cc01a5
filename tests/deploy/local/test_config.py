"""The Serve config: what is in the file is honoured, or refused before anything starts."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.deployment import deployment_to_schema
from ray.serve.schema import ServeDeploySchema

from deploy.local.config import CONFIG, ConfigError, ServeConfig, load_config
from workers.app import deployment
from workers.settings import WorkerSettings

Change = Callable[[dict[str, Any]], Any]


def changed(folder: Path, change: Change) -> Path:
    """Write the shipped config with a change."""
    content = yaml.safe_load(CONFIG.read_text())
    change(content)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def args(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["applications"][0]["args"]
    return found


def worker(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["applications"][0]["deployments"][0]
    return found


def policy_of(config: ServeConfig) -> AutoscalingConfig:
    found = deployment_to_schema(deployment(config.settings)).autoscaling_config
    assert isinstance(found, AutoscalingConfig)
    return found


def test_the_shipped_config_is_what_serve_and_we_understand() -> None:
    config = load_config()
    (application,) = ServeDeploySchema.model_validate(
        yaml.safe_load(CONFIG.read_text())
    ).applications
    assert WorkerSettings.model_validate(application.args) == config.settings
    assert config.application == application.name == "livegate"
    assert config.http_url == "http://127.0.0.1:8000"
    assert config.options == {"ray_actor_options": {"num_cpus": 0.5}}


def test_the_policy_has_no_settings_of_its_own(tmp_path: Path) -> None:
    def elsewhere(content: dict[str, Any]) -> None:
        args(content)["stream"].update(url="redis://elsewhere:7000/0", partitions=7)
        args(content)["scaling"].update(max_replicas=9, drain_s=5)

    config = load_config(changed(tmp_path, elsewhere))
    policy = policy_of(config).policy.policy_kwargs
    assert policy["stream"]["url"] == config.settings.stream.url == "redis://elsewhere:7000/0"
    assert policy["stream"]["partitions"] == 7
    assert policy["scaling"]["drain_s"] == 5
    assert policy_of(config).max_replicas == 9


def test_an_alias_is_as_good_as_what_it_stands_for(tmp_path: Path) -> None:
    anchored, expanded = tmp_path / "anchored.yaml", tmp_path / "expanded.yaml"
    text = CONFIG.read_text().replace("scaling: ", "scaling: &scaling ")
    anchored.write_text(text)
    content = copy.deepcopy(yaml.safe_load(text))
    expanded.write_text(yaml.dump(content, Dumper=_NoAlias))
    assert load_config(anchored).settings == load_config(expanded).settings


class _NoAlias(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def test_a_start_s_own_values_reach_workers_and_policy_alike() -> None:
    config = load_config().with_redis("redis://elsewhere:1").with_http_port(81)
    assert config.settings.stream.url == "redis://elsewhere:1"
    assert policy_of(config).policy.policy_kwargs["stream"]["url"] == "redis://elsewhere:1"
    assert config.http_url == "http://127.0.0.1:81"
    assert load_config().settings.stream.url == "redis://127.0.0.1:6379/0"


@pytest.mark.parametrize(
    ("change", "url"),
    [
        (lambda content: content["http_options"].update(host="0.0.0.0"), "http://127.0.0.1:8000"),  # noqa: S104
        (lambda content: content["http_options"].update(host="::", port=1), "http://[::1]:1"),
        (
            lambda content: content["applications"][0].update(route_prefix="/gate"),
            "http://127.0.0.1:8000/gate",
        ),
        (lambda content: content["applications"][0].update(route_prefix=None), ""),
        (lambda content: content.update(proxy_location="Disabled"), ""),
    ],
)
def test_the_http_side_is_where_the_file_says(tmp_path: Path, change: Change, url: str) -> None:
    assert load_config(changed(tmp_path, change)).http_url == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping"),
        ("[]", "must be a mapping"),
        ("{", r"config\.yaml:1: not YAML"),
        ("applications: []", "one application"),
        ("applications: 3", "one application"),
        ("applications: [{}]", "import_path"),
        ("applications: [{}, {}]", "one application"),
        ("applications: [5]", "must be a mapping"),
        ("a: &a [*a]\napplications: [{}]", "a: not honoured"),
        ("applications:\n- import_path: x:y\n  import_path: workers.app:build", r":3: .*twice"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_what_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: can't be read: No such file"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "binary.yaml")


REFUSED: list[tuple[Change, str]] = [
    (lambda content: args(content).update(max_batch=0), r"args\.max_batch: .*greater.*is 0"),
    (lambda content: args(content).update(deadline_ms="soon"), r"args\.deadline_ms: .*'soon'"),
    (lambda content: args(content).update(batch=8), r"args\.batch: is no setting"),
    (lambda content: args(content).update(camera_keys=None), "allow_unsigned"),
    (lambda content: args(content).update(allow_unsigned=True), "exclude each other"),
    (lambda content: args(content)["stream"].update(partitions=0), r"args\.stream\.partitions"),
    (lambda content: args(content)["stream"].update(url="http://x"), r"args\.stream\.url: .*redis"),
    (lambda content: args(content)["stream"].update(url="redis://h:99999"), r"args\.stream\.url"),
    (lambda content: args(content)["stream"].update(url="redis://"), "needs a host"),
    (lambda content: args(content)["scaling"].update(max_replicas=0), r"args\.scaling\.max_repl"),
    (lambda content: args(content)["scaling"].update(min_replicas=9), "at most max_replicas"),
    (lambda content: args(content)["scaling"].update(rule={}), r"args\.scaling\.rule: is no"),
    (lambda content: worker(content).update(name="Other"), r"deployments\[0\]\.name: must be Wor"),
    (lambda content: worker(content).update(workers=3), r"deployments\[0\]\.workers: not honoured"),
    (lambda content: worker(content).update(num_replicas=4), r"num_replicas: .*args\.scaling"),
    (
        lambda content: worker(content).update(autoscaling_config={"max_replicas": 4}),
        r"autoscaling_config: .*args\.scaling",
    ),
    (lambda content: worker(content).update(max_ongoing_requests=0), "max_ongoing_requests"),
    (lambda content: worker(content).update(user_config={"modell": "x"}), "modell: not honoured"),
    (
        lambda content: worker(content)["ray_actor_options"].update(num_cpu=1),
        r"ray_actor_options\.num_cpu: not honoured",
    ),
    (lambda content: worker(content)["ray_actor_options"].update(num_cpus=-1), "num_cpus"),
    (lambda content: content.update(deployments=[]), "deployments: not honoured"),
    (lambda content: content.update(grpc_options={"port": 9000}), "grpc_options: not honoured"),
    (lambda content: content.update(proxy_location="Everywhere"), "proxy_location"),
    (lambda content: content["http_options"].update(port=0), r"http_options\.port: .*1 to 65535"),
    (lambda content: content["http_options"].update(prot=80), r"http_options\.prot: not honoured"),
    (lambda content: content["http_options"].pop("host"), "all interfaces"),
    (lambda content: content.pop("http_options"), "all interfaces"),
    (lambda content: content["applications"][0].update(import_path="x.y:z"), "workers.app:build"),
    (lambda content: content["applications"][0].update(route_prefix="gate"), "route_prefix"),
    (lambda content: content["applications"][0].update(name=""), "nonempty"),
    (lambda content: content["applications"][0].update(runtime_env={}), "runtime_env"),
    (lambda content: content["applications"][0].update(args=[1]), "args"),
    (lambda content: content["applications"].append({}), "one application"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_can_not_be_honoured_is_named(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(changed(tmp_path, change))
    assert all(f"{tmp_path / 'config.yaml'}:" in line for line in str(caught.value).splitlines())


def test_each_problem_is_a_line_with_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    lines = CONFIG.read_text().splitlines()
    for number, line in enumerate(lines, start=1):
        if "max_deliveries:" in line:
            first, lines[number - 1] = number, "        max_deliveries: 0"
        if "drain_s:" in line:
            second, lines[number - 1] = number, "        drain_s: -1"
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    told = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in told] == [f"{path}:{first}:", f"{path}:{second}:"]


def test_a_password_is_never_told(tmp_path: Path) -> None:
    url = "redis://door:hunter2@h/zero"
    with pytest.raises(ConfigError, match="database is a number") as caught:
        load_config(changed(tmp_path, lambda content: args(content)["stream"].update(url=url)))
    assert "hunter2" not in str(caught.value)
