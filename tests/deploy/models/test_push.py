"""A pushed bundle is where replicas find it, or nothing of it counts."""

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from deploy.models.push import PushFailed, push
from model.serving.folder import MANIFEST, SHIPPED, BundleError
from workers.replica.bundles import CACHE, resolve_bundle

NAME = "rendered-small"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


def test_what_is_pushed_is_fetched_and_pushed_once(tmp_path: Path) -> None:
    url, model = push(NAME, str(tmp_path / "store"))
    assert url.endswith(f"/{NAME}-{model.split('@')[1]}@{model.split('@')[1]}")
    folder = resolve_bundle(url)
    assert (folder / MANIFEST).read_bytes() == (SHIPPED / NAME / MANIFEST).read_bytes()
    (pushed,) = (tmp_path / "store").iterdir()
    before = {each.name: each.stat().st_mtime_ns for each in pushed.iterdir()}
    assert push(NAME, str(tmp_path / "store")) == (url, model)
    assert {each.name: each.stat().st_mtime_ns for each in pushed.iterdir()} == before


def test_what_is_cut_off_is_no_bundle_and_is_pushed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    place, told = "memory://store", MemoryFileSystem.pipe_file

    def break_at_manifest(self: MemoryFileSystem, path: str, *args: bytes) -> None:
        if path.endswith(MANIFEST):
            raise OSError("the line broke")
        told(self, path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "pipe_file", break_at_manifest)
        with pytest.raises(PushFailed, match=r"memory://store.*the line broke"):
            push(NAME, place)
    url, _ = push(NAME, place)
    assert fsspec.filesystem("memory").exists(f"{url.rpartition('@')[0]}/{MANIFEST}")


def test_another_file_under_its_hash_is_told(tmp_path: Path) -> None:
    push(NAME, str(tmp_path))
    (pushed,) = tmp_path.glob(f"{NAME}*")
    (pushed / "weights.safetensors").write_bytes(b"another one's")
    with pytest.raises(PushFailed, match=r"weights.safetensors is another file there"):
        push(NAME, str(tmp_path))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("https://models.example/x", "can't be written to"),
        ("http://u:geheim@models.example/x", "can't be written to"),
        ("nowhere://x", "nowhere"),
        ("/proc/here", "/proc/here"),
    ],
)
def test_where_nothing_can_be_written_one_line_says_so(place: str, told: str) -> None:
    with pytest.raises(PushFailed, match=told) as found:
        push(NAME, place)
    assert "geheim" not in str(found.value)
    assert len(str(found.value).splitlines()) == 1


def test_what_is_no_bundle_is_not_pushed(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        push(str(tmp_path), str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
