"""A deployment without Ray: real replicas' bundles, told of a change at once or late."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.models.fleet import Replica, Snapshot
from model.errors import ModelError
from model.serving.predictor import Predictor
from workers.replica.models import Models
from workers.testing import ConstantPredictor


class Refusing(ModelError):
    """A self-test that fails on one machine only."""


class Deployment:
    """Is both control and fleet; its replicas load in a loop of their own, as in a process."""

    def __init__(self, num_replicas: int, first: str) -> None:
        self.set_configs: list[dict[str, Any]] = []
        self.refuse: Callable[[int, str], bool] = lambda *_: False
        self.on_set: Callable[[dict[str, Any]], None] = lambda _: None
        self.num_running = num_replicas
        self._config: dict[str, Any] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._replicas = [Models(self._opener(n), first, _changed) for n in range(num_replicas)]
        for each in self._replicas:
            self._run(each.begin({}))

    def user_config(self) -> dict[str, Any]:
        return dict(self._config)

    def set_user_config(self, user_config: dict[str, Any]) -> None:
        self.set_configs.append(user_config)
        self._config = user_config
        self.on_set(user_config)

        async def tell() -> None:
            for each in self._replicas:
                each.change(user_config)
            for each in self._replicas:
                await each.settled()

        self._run(tell())

    def look(self) -> Snapshot:
        rows = [{"name": f"replica-{n}", **each.told()} for n, each in enumerate(self._replicas)]
        return Snapshot(tuple(Replica(**row) for row in rows), self.num_running)

    def judging(self) -> set[str]:
        return {each.model.split("@")[0] for each in self.look().replicas}

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def _opener(self, number: int) -> Callable[[Path], Predictor]:
        def open_bundle(folder: Path) -> Predictor:
            name = folder.name.split("@")[0]
            if self.refuse(number, name):
                raise Refusing(f"the self-test of {name} fails here")
            digest = folder.name.rpartition("@")[2] if "@" in folder.name else "0"
            return ConstantPredictor(model_id=f"{name}@{digest}")

        return open_bundle


async def _changed(_: bool) -> None:
    pass


@contextmanager
def running(first: str, num_replicas: int = 3) -> Iterator[Deployment]:
    made = Deployment(num_replicas, first)
    try:
        yield made
    finally:
        made.close()
