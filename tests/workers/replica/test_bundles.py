"""Bundles from elsewhere: the one that was meant, whole, or none."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from model.serving.folder import SHIPPED, BundleCorrupt, BundleError, BundleMissing
from workers.replica.bundles import CACHE, resolve_bundle

NAME = "rendered-small"
DIGEST = hashlib.sha256((SHIPPED / NAME / "bundle.json").read_bytes()).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED / NAME, tmp_path / "place" / NAME))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(place: Path) -> Iterator[str]:
    handler = partial(Quiet, directory=str(place.parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{NAME}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_here_is_found_as_ever(place: Path, cache: Path) -> None:
    assert resolve_bundle(NAME) == (SHIPPED / NAME).resolve()
    assert resolve_bundle(str(place)) == place.resolve()
    assert not cache.exists()


def test_a_bundle_is_fetched_once(url: str, place: Path, cache: Path) -> None:
    folder = resolve_bundle(f"{url}@{DIGEST[:12]}")
    assert folder == cache / f"{NAME}@{DIGEST[:12]}"
    for name in ("bundle.json", "weights.safetensors", "selftest.npz"):
        assert (folder / name).read_bytes() == (SHIPPED / NAME / name).read_bytes()
    shutil.rmtree(place)
    assert resolve_bundle(f"{url}@{DIGEST[:12]}") == folder
    assert [each.name for each in cache.iterdir()] == [folder.name]


def test_a_bundle_of_another_digest_is_refused_and_not_kept(url: str, cache: Path) -> None:
    with pytest.raises(BundleCorrupt, match=f"is bundle {DIGEST[:12]}, not 0123456789ab"):
        resolve_bundle(f"{url}@0123456789ab")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "selftest.npz"])
def test_a_file_that_was_exchanged_is_refused(name: str, place: Path, cache: Path) -> None:
    content = bytearray((place / name).read_bytes())
    content[-1] ^= 1
    (place / name).write_bytes(bytes(content))
    with pytest.raises(BundleCorrupt, match=f"{name} is not the file"):
        resolve_bundle(f"file://{place}@{DIGEST}")
    assert list(cache.iterdir()) == []


def test_a_file_that_is_missing_is_told(place: Path, cache: Path) -> None:
    (place / "selftest.npz").unlink()
    with pytest.raises(BundleMissing, match=r"selftest.npz: is not there"):
        resolve_bundle(f"file://{place}@{DIGEST}")
    assert list(cache.iterdir()) == []


def test_what_lies_in_the_cache_is_checked_again(url: str, cache: Path) -> None:
    folder = resolve_bundle(f"{url}@{DIGEST[:12]}")
    (folder / "bundle.json").write_text("{}")
    with pytest.raises(BundleCorrupt):
        resolve_bundle(f"{url}@{DIGEST[:12]}")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("https://models.example/site-7", "must end with @"),
        ("https://models.example/site-7@17b8", "must end with @"),
        ("https://models.example/site-7@17B8E32E7C9F", "must end with @"),
        ("ftp://models.example/site-7@17b8e32e7c9f", "must begin with https"),
        ("https://u:geheim@models.example/site-7@17b8e32e7c9f", "credentials belong"),
        ("https://u:geheim@models.example/site-7", "must end with @"),
        ("http://127.0.0.1:1/site-7@17b8e32e7c9f", "be reached"),
        ("s3://no-such-bucket/site-7@17b8e32e7c9f", "s3fs|be fetched"),
    ],
)
def test_what_can_not_be_fetched_is_one_line_without_secrets(
    name: str, told: str, cache: Path
) -> None:
    with pytest.raises(BundleError, match=told) as found:
        resolve_bundle(name)
    assert isinstance(found.value, ModelError)
    assert "geheim" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1
