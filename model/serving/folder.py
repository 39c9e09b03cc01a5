"""Bundle folders and their files, each read once, whole and within bounds; nothing is unpickled.

This module does not import torch: who only looks for a bundle need not wait for it.
"""

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from model.errors import ModelError

SHIPPED = Path(__file__).parents[1] / "bundles"
MANIFEST = "bundle.json"
_MAX_DEPTH = 32
_MAX_DIGITS = 19


def cache_home() -> Path:
    """Return where Livegate keeps on this machine what it can make or fetch again."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "livegate"


class BundleError(ModelError):
    """A bundle can't be used; the message names the folder, the file and the rule."""


class BundleMissing(BundleError):
    """There is no such bundle, or one of its files is missing."""


class BundleCorrupt(BundleError):
    """A file of the bundle can't be read, breaks a rule, or contradicts another file."""


class BundleUnknown(BundleError):
    """The bundle was written for another version of this software."""


class SelfTestFailed(BundleError):
    """The network no longer gives the scores that it was released with."""


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle.

    Args:
        name: a folder, or the name of a shipped bundle.

    Raises:
        BundleMissing: it is neither.
        BundleCorrupt: the folder can't be looked into.
    """
    for folder in (Path(name), SHIPPED / name):
        try:
            if (folder / MANIFEST).is_file():
                return folder.resolve()
        except OSError as error:
            raise BundleCorrupt(f"{folder}: can't be read: {error.strerror}") from error
    shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob(f"*/{MANIFEST}")))
    raise BundleMissing(f"{name}: no bundle folder, and none that is shipped ({shipped or 'none'})")


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        BundleMissing: there is no such file.
        BundleCorrupt: it is no regular file, is larger than `max_bytes`, or can't be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device could be read for ever
            raise BundleCorrupt(f"{path}: must be a regular file")
        if status.st_size > max_bytes:
            raise BundleCorrupt(f"{path}: must be at most {max_bytes} bytes, is {status.st_size}")
        with path.open("rb") as file:
            return file.read(status.st_size)
    except FileNotFoundError as error:
        raise BundleMissing(f"{path.parent}: {path.name} is missing") from error
    except OSError as error:
        raise BundleCorrupt(f"{path}: can't be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise BundleMissing(f"{path.parent!r:.80}: {error}") from error


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object in a file's content.

    Stricter than `json.loads`: no key twice, no NaN, no number that a float or a 64-bit integer
    does not hold, no lone surrogate, and no deep nesting.

    Args:
        path: the file, for messages.
        content: its bytes, UTF-8.

    Raises:
        BundleCorrupt: it breaks a rule.
    """
    try:
        found = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_number,
        )
        _check_depth(found, _MAX_DEPTH)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise BundleCorrupt(f"{path}: can't be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise BundleCorrupt(f"{path}: must be a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{max(keys, key=keys.count)!r:.80} is there twice")
    return found


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"{text:.20}... has more than {_MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is too large")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _check_depth(value: object, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not left:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    for each in value.values() if isinstance(value, dict) else value:
        _check_depth(each, left - 1)
