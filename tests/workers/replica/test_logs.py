"""What is logged in a replica: all of it arrives, nothing again and again, and no password."""

import importlib
import json
import logging
import pkgutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import model.serving
import workers
from deploy.local.environment import import_ray
from tests.workers.replica.bench import Bench, decide_all
from workers.replica.logs import Relay, log_with_serve
from workers.testing import ConstantPredictor


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def serve() -> Iterator[Kept]:
    """Serve's logger, with what hangs on it; conftest undoes what a replica does to ours."""
    import_ray()
    kept, logger = Kept(), logging.getLogger("ray.serve")
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    log_with_serve()
    yield kept
    logger.removeHandler(kept)
    logger.setLevel(before)


def relay(burst: int = 5) -> tuple[logging.Logger, Kept]:
    kept, target, ours = Kept(), logging.getLogger("target"), logging.getLogger("ours")
    target.handlers, ours.handlers = [kept], [Relay(target, 3600, burst)]
    for each in (target, ours):
        each.propagate = False
        each.setLevel(logging.INFO)
    return ours, kept


def test_each_of_our_loggers_reaches_serve(serve: Kept) -> None:
    names = set()
    for package in (workers, model.serving):
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(each.name)
            for found in vars(module).values():
                if isinstance(found, logging.Logger):
                    names.add(found.name)
                    found.info("from %s", module.__name__)
    assert len(names) > 15
    assert {record.name for record in serve.records} == names
    assert not [name for name in names if name.split(".")[0] not in ("workers", "model")]
    logging.getLogger("workers.app").debug("below Serve's level")
    assert "below Serve's level" not in serve.texts


async def test_a_line_about_a_frame_names_camera_and_seq(
    serve: Kept, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._common.formatters import JSONFormatter  # noqa: PLC0415

    class Failing(ConstantPredictor):
        def predict(self, planes: Any) -> Any:
            raise RuntimeError("redis://worker:geheim@10.0.0.1:6379/0 is not what it should be")

    bench.add(seq=17)
    await decide_all(bench, bench.replica(predictor=Failing()))
    (record,) = [each for each in serve.records if each.levelno >= logging.ERROR]
    told = json.loads(JSONFormatter().format(record))
    assert (told["camera"], told["seq"], told["levelname"]) == ("gate-1", 17, "ERROR")
    assert "geheim" not in str(told)
    assert "RuntimeError" in told["exc_text"]


def test_what_is_logged_again_and_again_is_held_back_and_counted() -> None:
    ours, kept = relay(burst=3)
    for number in range(50):
        ours.warning("the server is away: %d", number)
        ours.info("a decision about replicas: %d", number)
        if number < 2:
            ours.error("another line of code")
    warned = [record for record in kept.records if record.levelno == logging.WARNING]
    assert [record.args or record.getMessage() for record in warned[:3]] == [
        f"the server is away: {number}" for number in range(3)
    ]
    assert len([each for each in kept.records if each.levelno == logging.INFO]) == 50
    assert kept.texts.count("another line of code") == 2
    for timer in [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        timer.cancel()
        timer.function(*timer.args, **timer.kwargs)
    (told,) = [each for each in kept.records if hasattr(each, "held_back")]
    assert told.held_back == 47
    assert told.getMessage().endswith("47 more like: the server is away: 0")
    ours.warning("the server is away: %d", 51)
    assert kept.texts[-1] == "the server is away: 51"


def test_no_line_has_a_password_or_is_long() -> None:
    ours, kept = relay()
    ours.error("%s: refused", "rediss+sentinel://user:geheim@a,b:26379/name?x=1")
    ours.error("can't use %s and redis://:geheim@h:1/0", "redis://u:geheim@h:1/0")
    ours.error("with args beginning with: %r", b"\x00" * 10_000)
    assert not [text for text in kept.texts if "geheim" in text]
    assert max(map(len, kept.texts)) < 2100
