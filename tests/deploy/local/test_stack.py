"""The Serve config: what is in the file, and what is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from deploy.local.stack import CONFIG, ConfigError, load_config
from workers.autoscale import BacklogPolicy


def test_the_shipped_config_is_valid_and_its_policy_can_be_made() -> None:
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    config = load_config()
    schema = ServeDeploySchema.model_validate(config.content)
    (application,) = schema.applications
    assert application.import_path == "workers.app:build"
    (deployment,) = config.content["applications"][0]["deployments"]
    BacklogPolicy(**deployment["autoscaling_config"]["policy"]["policy_kwargs"])
    assert config.settings.camera_keys is not None
    assert config.http_url == "http://127.0.0.1:8000"


def test_a_start_s_own_values_reach_workers_and_policy(tmp_path: Path) -> None:
    config = load_config(url="redis://elsewhere:1", camera_keys=tmp_path / "keys", http_port=81)
    assert config.settings.stream.url == "redis://elsewhere:1"
    assert config.settings.camera_keys == tmp_path / "keys"
    (deployment,) = config.content["applications"][0]["deployments"]
    kwargs = deployment["autoscaling_config"]["policy"]["policy_kwargs"]
    assert kwargs["stream"]["url"] == "redis://elsewhere:1"
    assert config.http_url.endswith(":81")


@pytest.mark.parametrize("text", ["", "[]", "{", "applications: []", "applications: [{}]"])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_batch": 0}, "max_batch"),
        ({"deadline_ms": "soon"}, "deadline_ms"),
        ({"batch": 8}, "batch"),
        ({"camera_keys": None}, "allow_unsigned"),
        ({"allow_unsigned": True}, "exclude each other"),
        ({"stream": {"partitions": 0}}, "partitions"),
    ],
)
def test_a_setting_that_can_not_be_used_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    content = yaml.safe_load(CONFIG.read_text())
    content["applications"][0]["args"].update(changes)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValidationError, match=message):
        load_config(path)
