"""Bundles from elsewhere: fetched once, checked by their hash, kept on this machine.

    rendered-small                                   one that is shipped
    /models/site-7                                   a folder
    https://models.example/site-7@17b8e32e7c9f       a folder behind fsspec: https, s3, gs, file

The digits after the last `@` are the first ones of the bundle's digest, 12 or more of 64, as model
ids have them: whoever may write to the place can't put another bundle there. s3 and gs need s3fs
and gcsfs, which are not installed with Livegate, and take credentials as those say.
"""

import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from model.errors import ModelError
from model.serving.folder import (
    MANIFEST,
    BundleCorrupt,
    BundleError,
    BundleMissing,
    cache_home,
    find_bundle,
)
from model.serving.served import MAX_BYTES, read_bundle

_DIGEST = re.compile(r"[0-9a-f]{12,64}")
_SCHEMES = ("https", "http", "s3", "gs", "file")
CACHE = "LIVEGATE_BUNDLE_CACHE"


def resolve_bundle(name: str) -> Path:
    """Return the folder of a bundle on this machine, fetched if it is elsewhere.

    Args:
        name: of one that is shipped, a folder, or a URL with `@` and digits of its digest.

    Raises:
        model.serving.folder.BundleError: it can't be found or fetched, or is another one than
            its digest says; nothing of it is kept then.
    """
    if "://" not in name:
        return find_bundle(name)
    url, _, digest = name.rpartition("@")
    if not _DIGEST.fullmatch(digest):
        raise BundleMissing(
            f"{shown(name)}: must end with @ and 12 or more digits of the bundle's digest, as in "
            "its model id: sha256sum bundle.json tells it"
        )
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise BundleMissing(f"{shown(url)}: must begin with {', '.join(_SCHEMES)} and ://")
    if parts.username or parts.password:
        raise BundleMissing(f"{shown(url)}: holds a user: credentials belong in the environment")
    folder = _cache() / f"{Path(parts.path).name or 'bundle'}@{digest}"
    if not folder.is_dir():
        _fetch(url, digest, folder)
    _check(folder, digest, url)
    return folder


def _cache() -> Path:
    given = os.environ.get(CACHE)
    return Path(given) if given else cache_home() / "bundles"


def _fetch(url: str, digest: str, folder: Path) -> None:
    """Put a bundle into its folder, whole or not at all; another replica may do so just now."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".fetching-", dir=folder.parent))
    except OSError as error:
        raise BundleMissing(f"{folder.parent}: {error.strerror}: set {CACHE}") from error
    try:
        for name, max_bytes in MAX_BYTES.items():
            (partial / name).write_bytes(_read(f"{url.rstrip('/')}/{name}", max_bytes))
            if name == MANIFEST:
                _check(partial, digest, url)
        try:
            read_bundle(partial)
        except BundleError as error:
            told = str(error).replace(str(partial), shown(url))
            raise type(error)(told) from error
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _read(url: str, max_bytes: int) -> bytes:
    import fsspec  # noqa: PLC0415 - a bundle that is here needs none of it

    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read(max_bytes + 1)
    except ImportError as error:
        raise BundleMissing(f"{shown(url)}: {error}") from error
    except FileNotFoundError as error:
        raise BundleMissing(f"{shown(url)}: is not there, or can't be reached") from error
    except ModelError:
        raise
    except Exception as error:
        # Each kind of place has errors of its own; whatever it is, there is no bundle.
        raise BundleMissing(
            f"{shown(url)}: can't be fetched: {type(error).__name__}: {error!s:.200}"
        ) from error
    if len(content) > max_bytes:
        raise BundleCorrupt(f"{shown(url)}: must be at most {max_bytes} bytes")
    return content


def _check(folder: Path, digest: str, url: str) -> None:
    found = _sha256(folder / MANIFEST)
    if not found.startswith(digest):
        raise BundleCorrupt(
            f"{shown(url)}: is bundle {found[:12]}, not {digest[:12]}: somebody put another one "
            "there, or the digest is another one's"
        )


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleCorrupt(f"{path}: can't be read: {error.strerror}") from error


def shown(url: str) -> str:
    """Return a URL without what may be secret in it."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:200]
