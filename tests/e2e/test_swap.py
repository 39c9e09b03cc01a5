"""A bundle is swapped under load, as `livegate model` and `serve deploy` do: nothing is lost."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deploy.local.config import CONFIG
from deploy.local.stack import change_user_config
from deploy.models.fleet import Fleet
from deploy.models.swap import SwapRefused, rollback, swap
from model.serving.bundle import save_bundle
from tests.bundles import random_bundle
from tests.e2e.deployment import Deployment, assert_nothing_is_left, deployed, watched

NUM_REPLICAS = 2


@dataclass
class InPlace:
    """The control of a deployment that this process has started, as `livegate up` does it."""

    deployment: Deployment
    asked: dict[str, Any] = field(default_factory=dict)

    def user_config(self) -> dict[str, Any]:
        return self.asked

    def set_user_config(self, user_config: dict[str, Any]) -> None:
        self.asked = user_config
        change_user_config(self.deployment.config, user_config)


async def swap_all(deployment: Deployment, good: Path, bad: Path) -> None:
    """Swap in all replicas of a deployment: what one refuses is undone, and there is a way back."""
    control, fleet = InPlace(deployment), Fleet(deployment.config.http_url)

    def run(do: Callable[..., str], *args: str) -> str:
        return do(control, fleet, *args, lambda _: None)

    pids = deployment.replica_pids()
    with pytest.raises(SwapRefused, match=r"self-test.*undone: random@.* as before"):
        await asyncio.to_thread(run, swap, str(bad), "")
    assert control.user_config() == {}
    assert (await asyncio.to_thread(run, swap, str(good), "")).startswith("second@")
    assert (await asyncio.to_thread(run, rollback)).startswith("random@")
    assert fleet.look().faults() == []
    assert deployment.replica_pids() == pids


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
    scores = np.array([0.1, 0.9, 0.1, 0.9], np.float32)
    wrong = replace(random_bundle("wrong", seed=2), selftest_scores=scores)
    (tmp_path / "bad").mkdir()
    with deployed(tmp_path) as deployment:
        bad = save_bundle(wrong, tmp_path / "wrong")
        await swap_all(deployment, tmp_path / "second", bad)
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
