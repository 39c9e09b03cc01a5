"""A bundle is swapped under load, by what `serve deploy` does: nothing stops, nothing is lost."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploy.local.stack import _deploy
from loadtest.fleet import Phase
from model.serving.bundle import save_bundle
from tests.bundles import random_bundle
from tests.e2e.deployment import Deployment, deployed, watched
from tests.e2e.test_promises import assert_exactly_once, assert_nothing_is_left

NUM_REPLICAS = 2


async def deploy(deployment: Deployment, user_config: dict[str, Any]) -> None:
    options = {**deployment.config.options, "user_config": user_config}
    await asyncio.to_thread(_deploy, replace(deployment.config, options=options))


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
        pids = deployment.replica_pids()
        async with watched(deployment) as (fleet, ledger):
            is_over = False

            def phases() -> Any:
                while not is_over:
                    yield Phase(1, 5)

            playing = asyncio.create_task(fleet.play(phases))
            for bad in ({"bundle": str(tmp_path / "bad")}, {"bundel": second}):
                await deploy(deployment, bad)
                await until_all(
                    deployment,
                    lambda status: status["swap_error"] and status["model"].startswith("random@"),
                )
            await deploy(deployment, {"bundle": second})
            await until_all(deployment, lambda status: status["model"].startswith("second@"))
            await deploy(deployment, {})
            await until_all(
                deployment,
                lambda status: not status["swap_error"] and status["model"].startswith("random@"),
            )
            is_over = True
            await playing
            async with asyncio.timeout(180):
                while ledger.num_open:
                    await asyncio.sleep(0.02)
            assert_exactly_once(ledger)
            assert set(ledger.reasons()) <= {"expired"}  # late, on a busy machine, and not wrong
            told = {
                str(each.model).split("@")[0] for each in ledger.decided.values() if not each.reason
            }
            assert told == {"random", "second"}
        assert deployment.replica_pids() == pids
        await assert_nothing_is_left(deployment)
