"""A bundle is swapped under load, by what `serve deploy` does: nothing stops, nothing is lost."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deploy.local.config import CONFIG
from model.serving.bundle import save_bundle
from tests.bundles import random_bundle
from tests.e2e.deployment import Deployment, assert_nothing_is_left, deployed, watched

NUM_REPLICAS = 2


async def serve_deploy(deployment: Deployment, user_config: dict[str, Any]) -> None:
    """Hand the shipped file to Serve as its REST side does for `serve deploy`."""
    from ray.serve.context import _get_global_client  # noqa: PLC0415 - its environment is set now
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    content = yaml.safe_load(CONFIG.read_text())
    (application,) = content["applications"]
    application["args"] = deployment.config.settings.model_dump(mode="json")
    application["deployments"][0]["user_config"] = user_config
    content["http_options"] = {"port": deployment.config.http["port"]}
    client: Any = _get_global_client()
    await asyncio.to_thread(client.deploy_apps, ServeDeploySchema.model_validate(content))


async def until_new(deployment: Deployment) -> list[int]:
    """Wait until other replicas serve than now, and return their processes."""
    from ray import serve  # noqa: PLC0415

    old = set(deployment.replica_pids())

    def is_done() -> bool:
        pids = deployment.replica_pids()
        state = serve.status().applications[deployment.config.application].status
        return state == "RUNNING" and len(pids) == NUM_REPLICAS and not old & set(pids)

    async with asyncio.timeout(300):
        while not await asyncio.to_thread(is_done):
            await asyncio.sleep(0.2)
    return deployment.replica_pids()


async def until_all(deployment: Deployment, holds: Callable[[dict[str, Any]], bool]) -> None:
    """Ask until each replica has answered that something holds."""
    names: set[str] = set()
    async with asyncio.timeout(300):
        while len(names) < NUM_REPLICAS:
            status = await asyncio.to_thread(deployment.status)
            if holds(status):
                names.add(status["replica"]["name"])
            await asyncio.sleep(0.05)


async def test_a_bad_bundle_changes_nothing_and_a_good_one_takes_over(tmp_path: Path) -> None:
    second = str(save_bundle(random_bundle("second", seed=1), tmp_path / "second"))
    (tmp_path / "bad").mkdir()
    with deployed(tmp_path) as deployment:
        await serve_deploy(deployment, {})
        pids = await until_new(deployment)  # from now on, the file alone changes
        async with watched(deployment) as cameras:
            playing = asyncio.create_task(cameras.play((600, 20)))
            for bad in ({"bundle": str(tmp_path / "bad")}, {"bundel": second}):
                await serve_deploy(deployment, bad)
                await until_all(
                    deployment,
                    lambda status: status["swap_error"] and status["model"].startswith("random@"),
                )
            await serve_deploy(deployment, {"bundle": second})
            await until_all(deployment, lambda status: status["model"].startswith("second@"))
            await serve_deploy(deployment, {})
            await until_all(
                deployment,
                lambda status: not status["swap_error"] and status["model"].startswith("random@"),
            )
            cameras.fleet.stop()
            await playing
            await cameras.assert_exactly_once()
            assert cameras.reasons() <= {"expired"}  # late, on a busy machine, and not wrong
            told = {str(each.model).split("@")[0] for each in cameras.decisions if not each.reason}
            assert told == {"random", "second"}
        assert deployment.replica_pids() == pids
        await assert_nothing_is_left(deployment)
