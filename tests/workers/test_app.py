"""The application without Serve around it: with which bundle a replica works."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from model.errors import ModelError
from model.serving.bundle import save_bundle
from tests.bundles import random_bundle
from workers import app
from workers.replica.telemetry import NoMetrics
from workers.settings import StreamSettings, WorkerSettings
from workers.stream.layout import StreamError


@pytest.fixture
def settings(stream_settings: StreamSettings, tmp_path: Path) -> WorkerSettings:
    bundle = save_bundle(random_bundle("first", seed=0), tmp_path / "first")
    save_bundle(random_bundle("second", seed=1), tmp_path / "second")
    return WorkerSettings(stream=stream_settings, bundle=str(bundle), allow_unsigned=True)


@pytest.fixture
async def worker(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    replica_id = SimpleNamespace(unique_id="replica")
    context = SimpleNamespace(replica_id=replica_id)
    monkeypatch.setattr(app.serve, "get_replica_context", lambda: context)
    # The class as it is written, without what Serve puts around it.
    (written,) = [
        each
        for each in app.Worker.func_or_class.__mro__
        if each.__qualname__ == "Worker" and "reconfigure" in vars(each)
    ]
    for name, double in {"metrics": NoMetrics(), "replica_states": dict}.items():
        monkeypatch.setitem(written.__init__.__globals__, name, double)
    # Serve awaits `__del__`; the garbage collector would not.
    made = object.__new__(type("Worker", (written,), {"__del__": lambda _: None}))
    await written.__init__(made, settings)
    yield made
    await written.__del__(made)


async def test_a_bundle_that_fails_keeps_the_old_one_at_work(worker: Any, tmp_path: Path) -> None:
    await worker.reconfigure({})
    for wrong in ({"bundle": str(tmp_path / "nowhere")}, {"bundle": 5}, {"bundel": "second"}):
        await worker.reconfigure(wrong)
        await worker._lineup.models.settled()
        status = await worker.status()
        assert status["model"].startswith("first@")
        assert status["swap_error"]
    await worker.reconfigure({"bundle": str(tmp_path / "second")})
    await worker._lineup.models.settled()
    status = await worker.status()
    assert (status["model"].split("@")[0], status["swap_error"]) == ("second", "")
    assert status["replica"]["swaps_failed"] == 3


async def test_without_the_setting_the_first_bundle_is_back(worker: Any, tmp_path: Path) -> None:
    await worker.reconfigure({"bundle": str(tmp_path / "second")})
    await worker.reconfigure({})
    await worker._lineup.models.settled()
    assert (await worker.status())["model"].startswith("first@")


async def test_a_new_replica_begins_with_the_bundle_that_took_over(
    worker: Any, tmp_path: Path
) -> None:
    await worker.reconfigure({"bundle": str(tmp_path / "second")})
    assert (await worker.status())["model"].startswith("second@")


async def test_a_new_replica_does_not_begin_with_a_bundle_that_fails(
    worker: Any, tmp_path: Path
) -> None:
    with pytest.raises(ModelError):
        await worker.reconfigure({"bundle": str(tmp_path / "nowhere")})


async def test_a_server_that_can_not_be_used_fails_the_start_by_name(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> list[str]:
        raise StreamError("frames wait in 8 partitions")

    monkeypatch.setattr("workers.stream.redis_stream.lay_out", refuse)
    with pytest.raises(StreamError, match="8 partitions"):
        await worker.reconfigure({})
