"""A swap: all replicas, or none; and the way back."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.models import swap as swapping
from deploy.models.fleet import Replica, Snapshot
from deploy.models.swap import NotSwapped, SwapRefused, pinned, rollback, swap
from deploy.models.trial import drop, try_out
from model.serving.folder import SHIPPED
from tests.deploy.models.deployment import Deployment, running
from workers.replica.bundles import CACHE


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setattr(swapping, "_POLL_S", 0.01)


@pytest.fixture
def bundles(tmp_path: Path) -> dict[str, str]:
    """Bundles by name, each with its hash."""
    found = {}
    for name in ("first", "second", "third"):
        folder = shutil.copytree(SHIPPED / "rendered-small", tmp_path / name)
        with (folder / "bundle.json").open("a") as manifest:
            manifest.write(" " * (1 + len(found)))
        digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()[:12]
        found[name] = f"{folder.as_uri()}@{digest}"
    return found


@pytest.fixture
def deployment(bundles: dict[str, str]) -> Iterator[Deployment]:
    with running(bundles["first"]) as made:
        yield made


def digest_of(bundle: str) -> str:
    return bundle.rpartition("@")[2]


def test_all_replicas_take_it_and_the_way_back_is_kept(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    told: list[str] = []
    digest = digest_of(bundles["second"])
    judges = swap(deployment, deployment, bundles["second"], digest, told.append)
    assert judges == f"second@{digest}"
    assert deployment.judging() == {"second"}
    assert deployment.user_config() == {"bundle": bundles["second"], "previous": bundles["first"]}
    assert [line.split(":")[0] for line in told] == [f"replica-{n}" for n in (0, 1, 2)] * 2
    assert rollback(deployment, deployment, told.append).startswith("first@")
    assert deployment.user_config() == {"bundle": bundles["first"], "previous": bundles["second"]}


def test_where_one_refuses_it_no_replica_ever_judges_with_it(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    swap(deployment, deployment, bundles["second"], "", lambda _: None)
    before = deployment.user_config()
    deployment.refuse = lambda number, name: (number, name) == (1, "third")
    deployment.set_configs.clear()
    with pytest.raises(
        SwapRefused, match=r"replica-1: Refusing.*undone: second@.* as before"
    ) as no:
        swap(deployment, deployment, bundles["third"], "", lambda _: None)
    assert len(str(no.value).splitlines()) == 1
    assert deployment.user_config() == before
    assert [each.get("bundle") for each in deployment.set_configs] == [bundles["second"]] * 2
    assert (deployment.judging(), deployment.look().faults()) == ({"second"}, [])


def test_another_bundle_than_was_meant_is_not_taken(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    with pytest.raises(SwapRefused, match=r"is second@.* there, not site-7@0123"):
        swap(deployment, deployment, bundles["second"], "site-7@0123456789ab", lambda _: None)
    assert deployment.user_config() == {}
    assert deployment.judging() == {"first"}


def test_a_replica_that_says_nothing_is_not_waited_for_for_ever(
    deployment: Deployment, bundles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "_PATIENCE_S", 0.2)
    deployment.num_running = 4
    with pytest.raises(SwapRefused, match=r"3 of 4 replicas took it up.*going back is not done"):
        swap(deployment, deployment, bundles["second"], "", lambda _: None)
    assert deployment.user_config() == {}
    assert deployment.judging() == {"first"}


def test_what_was_tried_goes_on_until_it_takes_over(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    tried = {"candidate": {"bundle": bundles["second"], "shadow": 0.0, "canary": 0.5}}
    deployment.set_user_config(tried)
    deployment.set_configs.clear()
    swap(deployment, deployment, bundles["second"], "", lambda _: None)
    assert deployment.set_configs[0] == tried
    assert deployment.user_config() == {"bundle": bundles["second"], "previous": bundles["first"]}


def test_a_candidate_is_tried_and_dropped(deployment: Deployment, bundles: dict[str, str]) -> None:
    for shares in ({"shadow": 0.1}, {"canary": 0.5}):
        try_out(deployment, deployment, bundles["second"], "", lambda _: None, **shares)
    tried = {"bundle": bundles["second"], "shadow": 0.1, "canary": 0.5}
    assert deployment.user_config() == {"candidate": tried}
    assert {each.candidate for each in deployment.look().replicas} == {
        f"second@{digest_of(bundles['second'])}"
    }
    assert deployment.judging() == {"first"}
    try_out(deployment, deployment, bundles["third"], "", lambda _: None, shadow=0.2)
    before = {"candidate": {"bundle": bundles["third"], "shadow": 0.2}}
    assert deployment.user_config() == before
    with pytest.raises(SwapRefused, match=r"is first@.* there, not 0123"):
        try_out(deployment, deployment, bundles["first"], "0123456789ab", lambda _: None, canary=1)
    assert deployment.user_config() == before
    drop(deployment, deployment, lambda _: None)
    assert deployment.user_config() == {}
    with pytest.raises(NotSwapped, match="no candidate"):
        drop(deployment, deployment, lambda _: None)


def test_two_who_swap_at_once_are_told_apart(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    def meddle(config: dict[str, Any]) -> None:
        if "candidate" in config:
            deployment._config = {"bundle": bundles["third"]}

    deployment.on_set = meddle
    with pytest.raises(NotSwapped, match="somebody else"):
        swap(deployment, deployment, bundles["second"], "", lambda _: None)
    assert deployment.judging() == {"first"}


def test_there_is_not_always_something_to_do(
    deployment: Deployment, bundles: dict[str, str]
) -> None:
    with pytest.raises(NotSwapped, match="nothing to go back to"):
        rollback(deployment, deployment, lambda _: None)
    with pytest.raises(NotSwapped, match="judges already"):
        swap(deployment, deployment, bundles["first"], "", lambda _: None)


def test_a_folder_is_named_with_its_hash_and_nothing_else_is() -> None:
    assert pinned("/models/a b", "x@0123456789ab") == "file:///models/a%20b@0123456789ab"
    assert pinned("rendered-small", "x@01") == "rendered-small"
    assert pinned("s3://m/x@0123456789ab", "x@0123456789ab") == "s3://m/x@0123456789ab"


ONE = Replica("one", {}, "ready", "", "b", "m@1", "graph on cpu")


@pytest.mark.parametrize(
    ("replicas", "running", "told"),
    [
        ((ONE,), 1, ""),
        ((ONE,), None, ""),
        ((ONE, replace(ONE, name="two", model="m@2")), 2, "2 different bundles decide"),
        ((ONE, replace(ONE, name="two", candidate="m@2")), 2, "2 different candidates"),
        ((ONE, replace(ONE, name="two", asked={"bundle": "x"})), 2, "2 different configs"),
        ((replace(ONE, state="refused", error="why"),), 1, "one: why"),
        ((replace(ONE, state="loading"),), 1, "1 still load"),
        ((ONE,), 2, "1 of 2 replicas tell"),
        ((), 0, "0 of . replicas tell"),
    ],
)
def test_what_is_not_right_is_told(
    replicas: tuple[Replica, ...], running: int | None, told: str
) -> None:
    faults = Snapshot(replicas, running).faults()
    assert len(faults) == bool(told)
    assert "".join(faults).startswith(told.split(".", maxsplit=1)[0])
