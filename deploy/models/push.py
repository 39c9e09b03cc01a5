"""A bundle is put where replicas fetch it from: checked, under its hash, whole or not at all."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.errors import DeployError
from model.serving.engine import open_engine
from model.serving.folder import MANIFEST, find_bundle
from model.serving.served import MAX_BYTES, read_bundle, sha256
from workers.replica.bundles import shown


class PushFailed(DeployError):
    """A bundle can't be put there; the message says why, and nothing of it counts."""


def push(bundle: str, place: str) -> tuple[str, str]:
    """Copy a bundle to a folder, or to whatever fsspec can write to.

    Its manifest is written last, so what is cut off is no bundle. What is there already under this
    hash is left alone.

    Args:
        bundle: a folder, or the name of a shipped bundle; it must pass its self-test.
        place: a folder, `s3://bucket/path`, `gs://bucket/path`.

    Returns:
        How replicas name it, and its model id.

    Raises:
        model.serving.folder.BundleError: it can't be used.
        PushFailed: it can't be written, or is not what was written.
    """
    folder = find_bundle(bundle)
    served = read_bundle(folder)
    open_engine(folder, max_batch=1)
    name, _, digest = served.model_id.rpartition("@")
    root = place.rstrip("/") if "://" in place else Path(place).resolve().as_uri()
    target = f"{root}/{_file_name(name)}-{digest}"
    url = f"{target}@{digest}"
    filesystem, path = _filesystem(target)
    contents = {each: (folder / each).read_bytes() for each in MAX_BYTES if each != MANIFEST}
    contents[MANIFEST] = (folder / MANIFEST).read_bytes()
    try:
        if not filesystem.exists(f"{path}/{MANIFEST}"):
            filesystem.makedirs(path, exist_ok=True)
            for each, content in contents.items():
                filesystem.pipe_file(f"{path}/{each}", content)
        there = {each: sha256(filesystem.cat_file(f"{path}/{each}")) for each in contents}
    except Exception as error:
        # Each kind of place has errors of its own; whatever it is, it is not there.
        raise PushFailed(f"{shown(target)}: {type(error).__name__}: {error!s:.200}") from error
    other = [each for each, digest in there.items() if digest != sha256(contents[each])]
    if other:
        raise PushFailed(f"{shown(target)}: {other[0]} is another file there: remove it")
    return url, served.model_id


def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # noqa: PLC0415 - takes a moment

    if urlsplit(url).scheme in ("http", "https"):
        raise PushFailed(f"{shown(url)}: can't be written to: push to a folder, s3:// or gs://")
    try:
        filesystem, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise PushFailed(f"{shown(url)}: {error}") from error
    return filesystem, str(path)


def _file_name(name: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "-" for each in name)
