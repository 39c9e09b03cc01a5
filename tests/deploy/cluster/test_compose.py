"""The Compose project: each file that it mounts is there, and each program takes its own."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from deploy.cluster.compose import SECRETS
from deploy.commands import main as cli
from deploy.local.config import load_config
from deploy.local.ports import METRICS_PORT
from tests.deploy.watch.prometheus import promtool


def test_each_part_of_the_project_takes_its_files(tmp_path: Path) -> None:
    args = ["deploy", "compose", "--out", str(tmp_path), "--image", "livegate:test"]
    made = CliRunner().invoke(cli.app, args)
    assert made.exit_code == 0, made.output
    assert "still to be put into" in made.output
    for path in [*SECRETS.values(), "acl/users.acl"]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("{}")
    project = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    for service in project["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            known = source in project["volumes"] or (tmp_path / source).exists()
            assert known, volume
        assert service["read_only"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    # Ray's metrics are on loopback: who reads them shares it.
    scraped = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"127.0.0.1:{METRICS_PORT}"]
    networks = {name: each.get("network_mode") for name, each in project["services"].items()}
    assert networks["livegate"] == networks["prometheus"] == "service:pod"
    assert {name for name, each in project["services"].items() if "ports" in each} == {
        "pod",
        "grafana",
    }
    for secret in project["secrets"].values():
        assert (tmp_path / secret["file"]).exists()
    config = load_config(tmp_path / "ray_config.yaml")
    assert config.settings.console.token_file is not None
    assert config.http["host"] == "0.0.0.0"  # noqa: S104 - of a container
    checked = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr
