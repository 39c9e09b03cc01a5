"""The bundles of a replica: all that is asked for takes over, or nothing does."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.errors import ModelError
from model.serving.folder import SHIPPED
from model.serving.predictor import Predictor
from workers.replica.models import Models, is_in_share
from workers.testing import ConstantPredictor


class Loader:
    """Opens folders as predictors, which are told apart by their folders' names."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def open(self, folder: Path) -> Predictor:
        self.may_go_on.wait(60)
        self.opened.append(folder.name)
        if folder.name == "broken":
            raise ModelError("its self-test fails")
        return ConstantPredictor(model_id=f"{folder.name}@0")


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, str]:
    """Folders of bundles, each of another digest."""
    found = {}
    for name in ("first", "second", "third", "broken"):
        folder = shutil.copytree(SHIPPED / "rendered-small", tmp_path / name)
        with (folder / "bundle.json").open("a") as manifest:
            manifest.write(" " * (1 + len(found)))
        found[name] = str(folder)
    return found


def models(loader: Loader, bundles: dict[str, str], told: list[bool] | None = None) -> Models:
    async def on_change(is_done: bool) -> None:
        if told is not None:
            told.append(is_done)

    return Models(loader.open, bundles["first"], on_change)


def working(made: Models) -> tuple[str, str]:
    told = made.told()
    return told["model"].split("@")[0], told["candidate"].split("@")[0]


async def test_a_candidate_takes_over_without_being_loaded_again(
    loader: Loader, bundles: dict[str, str]
) -> None:
    told: list[bool] = []
    made = models(loader, bundles, told)
    await made.begin({})
    made.change({"candidate": {"bundle": bundles["second"]}})
    await made.settled()
    assert working(made) == ("first", "second")
    staged = made.candidate
    made.change({"bundle": bundles["second"], "previous": bundles["first"]})
    await made.settled()
    assert working(made) == ("second", "")
    assert made.deciding is staged
    assert loader.opened == ["first", "second"]
    assert told == [True, True]


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundle": "broken"},
        {"bundle": "second", "candidate": {"bundle": "broken"}},
        {"bundle": "second", "candidate": {"bundle": "third", "canary": 1.5}},
        {"bundle": "nowhere"},
        {"bundel": "second"},
    ],
)
async def test_what_is_refused_changes_nothing_at_all(
    wrong: dict[str, Any], loader: Loader, bundles: dict[str, str]
) -> None:
    told: list[bool] = []
    made = models(loader, bundles, told)
    await made.begin({"candidate": {"bundle": bundles["third"], "canary": 1.0}})

    def named(config: dict[str, Any]) -> dict[str, Any]:
        return {
            name: named(value) if isinstance(value, dict) else bundles.get(value, value)
            for name, value in config.items()
        }

    made.change(named(wrong))
    await made.settled()
    assert working(made) == ("first", "third")
    assert made.predictor_for("gate-1") is made.candidate
    assert (made.state, told) == ("refused", [False])
    assert made.error
    made.change({})
    await made.settled()
    assert (made.state, made.error) == ("ready", "")
    with pytest.raises((ModelError, ValidationError)):
        await models(loader, bundles).begin(named(wrong))


async def test_the_last_change_counts_whatever_is_loaded_meanwhile(
    loader: Loader, bundles: dict[str, str]
) -> None:
    told: list[bool] = []
    made = models(loader, bundles, told)
    await made.begin({})
    loader.may_go_on.clear()
    for name in ("broken", "second", "third"):
        made.change({"bundle": bundles[name]})
    assert (made.state, working(made)) == ("loading", ("first", ""))
    loader.may_go_on.set()
    await made.settled()
    assert working(made) == ("third", "")
    assert told == [True]


async def test_a_canary_is_a_share_of_the_cameras_by_name(
    loader: Loader, bundles: dict[str, str]
) -> None:
    made = models(loader, bundles)
    cameras = [f"gate-{number}" for number in range(2000)]
    before: set[str] = set()
    for share in (0.0, 0.1, 0.5, 1.0):
        made.change({"candidate": {"bundle": bundles["second"], "canary": share}})
        await made.settled()
        chosen = {each for each in cameras if made.predictor_for(each) is made.candidate}
        assert before <= chosen
        assert abs(len(chosen) / len(cameras) - share) < 0.03
        assert chosen == {each for each in cameras if is_in_share(each, share)}
        before = chosen
    assert len(before) == len(cameras)
