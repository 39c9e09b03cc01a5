"""Extras: what a command needs beyond the base install, and the command that installs it.

What belongs to an extra stands in `pyproject.toml` alone; here it is read from the metadata of the
installed package.
"""

import json
import shlex
import sys
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from typing import ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.errors import DeployError

PACKAGE = "livegate"

_P = ParamSpec("_P")
_R = TypeVar("_R")


class MissingExtra(DeployError):
    """An extra is not installed; the message has the command that installs it."""

    def __init__(self, extra: str, missing: list[str]) -> None:
        """Name the extra, and the distributions that are missing."""
        super().__init__(
            f"the extra `{extra}` is not installed ({', '.join(missing)} missing): "
            f"{install_command(extra)}"
        )


def needs(extra: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a command say what to install, before it does anything, where `extra` is missing."""

    def decorate(command: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(command)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if missing := [name for name in _distributions(extra) if not _is_installed(name)]:
                raise MissingExtra(extra, missing)
            return command(*args, **kwargs)

        return checked

    return decorate


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """Return what to say of a module that turned out to be missing; None: it is of no extra.

    For what only some input of a command needs, such as the reader of one kind of file.
    """
    module = canonicalize_name((error.name or "").partition(".")[0])
    extras = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    having = [extra for extra in extras if module in _distributions(extra)]
    if not having:
        return None
    smallest = min(having, key=lambda extra: len(_distributions(extra)))
    return MissingExtra(smallest, [module])


def install_command(extra: str) -> str:
    """Return a shell command that adds `extra` to the environment that is running."""
    target = f"{PACKAGE}[{extra}]"
    origin = json.loads(metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        target = f"-e {shlex.quote(unquote(urlsplit(origin['url']).path) + f'[{extra}]')}"
    else:
        target = shlex.quote(target)
    return f"{shlex.quote(sys.executable)} -m pip install {target}"


def _distributions(extra: str) -> list[str]:
    """Return the names of all that an extra requires, those of extras that it includes too."""
    names: dict[str, None] = {}
    for text in metadata.requires(PACKAGE) or []:
        requirement = Requirement(text)
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.name == PACKAGE:
            for included in sorted(requirement.extras):
                names |= dict.fromkeys(_distributions(included))
        else:
            names[canonicalize_name(requirement.name)] = None
    return list(names)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
