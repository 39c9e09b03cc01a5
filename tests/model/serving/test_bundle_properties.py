"""Damaged bundles: each one is loaded, or refused with a `BundleError`; nothing else comes out."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.serving.bundle import Bundle, BundleError, load_bundle, save_bundle
from tests.bundles import random_bundle

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["rgb", "rgb+depth+ir", "8-bit", "0" * 64, 0.5, 18, 34, 112]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(random_bundle(), tmp_path_factory.mktemp("whole") / "bundle")


@contextmanager
def copied(whole: Path) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        yield Path(shutil.copytree(whole, Path(name) / "bundle"))


def loaded(folder: Path) -> Bundle | None:
    try:
        return load_bundle(folder)
    except BundleError as error:
        message = str(error)
    message.encode("utf-8")
    assert str(folder) in message
    return None


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    value[path[0]] = put(value[path[0]], path[1:], new)
    return value


@FEW
@given(data=st.data())
def test_any_value_anywhere_in_the_description(whole: Path, data: st.DataObject) -> None:
    content = json.loads((whole / "bundle.json").read_text())
    path = data.draw(st.sampled_from(list(places(content))[1:]))
    changed = put(content, path, data.draw(JSON))
    with copied(whole) as folder:
        (folder / "bundle.json").write_text(json.dumps(changed))
        bundle = loaded(folder)
        if bundle is not None:
            assert (
                bundle.digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
            )


@FEW
@given(name=st.sampled_from(["weights.safetensors", "selftest.npz"]), data=st.data())
def test_any_bytes_anywhere_in_the_other_files(whole: Path, name: str, data: st.DataObject) -> None:
    content = bytearray((whole / name).read_bytes())
    # Headers and directories are at the ends: there the damage is interesting.
    edge = st.integers(0, 3000) | st.integers(-800, -1)
    for at in data.draw(st.lists(edge, min_size=1, max_size=4)):
        new = data.draw(st.binary(min_size=1, max_size=8))
        start = at % len(content)
        content[start : start + data.draw(st.integers(0, 8))] = new
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    with copied(whole) as folder:
        (folder / name).write_bytes(content)
        about = json.loads((folder / "bundle.json").read_text())
        field = "weights_sha256" if name.startswith("weights") else "selftest_sha256"
        about[field] = hashlib.sha256(content).hexdigest()
        (folder / "bundle.json").write_text(json.dumps(about))
        loaded(folder)
