"""The same file without us: `serve run` alone, with the policy that `build` attaches."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from deploy.local.config import CONFIG
from deploy.local.ports import free_port
from deploy.local.processes import descendants, processes
from deploy.local.server import embedded_server
from tests.bundles import write_random_bundle
from tests.e2e.deployment import Watched, until
from workers.wire.keyring import write_keys
from workers.wire.signing import new_key

CAMERAS = {"gate-1": new_key()}
PARTITIONS = 3


async def test_a_sleeping_application_is_woken_by_its_own_policy(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.json", CAMERAS)
    with embedded_server(tmp_path / "server", free_port()) as server:
        content = yaml.safe_load(CONFIG.read_text())
        content["http_options"]["port"] = free_port()
        args = content["applications"][0]["args"]
        args.update(bundle=str(write_random_bundle(tmp_path / "bundle")), deadline_ms=600_000)
        args["camera_keys"] = str(tmp_path / "keys.json")
        # Nobody but the policy can wake it, and it knows the server only from these settings.
        args["scaling"]["min_replicas"] = 0
        args["stream"].update(url=server.url, partitions=PARTITIONS)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
        command = [str(Path(sys.executable).with_name("serve")), "run", "config.yaml"]
        # As an operator on a busy machine would: Ray's own limits are not ours to wait for.
        environment = {
            **os.environ,
            "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "600",
            "RAY_worker_niceness": "0",
        }
        process = start([*command, "--address", "local"], tmp_path, environment)
        try:
            cameras = Watched(server.url, PARTITIONS, tmp_path / "keys.json")
            async with cameras.fleet:
                await cameras.play((1, 5))
                await cameras.assert_exactly_once(patience_s=300)
            assert cameras.reasons() == set()
        finally:
            started = {each.pid for each in descendants(process.pid)}
            process.terminate()
            process.wait()
            await until(lambda: not started & {each.pid for each in processes()})


def start(
    command: list[str], folder: Path, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=log
        )
