"""Environments with a wheel of this project, what it requires, and nothing else.

Nothing is downloaded: what other packages an environment has are links to those that run the
tests. So a dependency that is not declared is missing there, as it is for a user.
"""

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[1]
PACKAGES = ("model", "workers", "loadtest", "deploy")
_FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE", "ray_config.yaml")


def copy_sources(folder: Path) -> Path:
    """Copy what a build reads, so that it leaves nothing in the checkout."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__", "benchmarks")
        shutil.copytree(CHECKOUT / package, folder / package, symlinks=True, ignore=ignored)
    for name in _FILES:
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def build_wheel(sources: Path, to: Path) -> Path:
    """Build a wheel, as `pip install .` does."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(to), str(sources))
    (wheel,) = to.glob("*.whl")
    return wheel


def build_sdist(sources: Path, to: Path) -> Path:
    """Build an sdist, and return the folder of what is in it."""
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(to)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=sources, check=True, capture_output=True)
    (archive,) = to.glob("*.tar.gz")
    shutil.unpack_archive(archive, to, filter="data")
    return to / archive.name.removesuffix(".tar.gz")


def environment(folder: Path, requirements: Iterable[str], wheel: Path | None = None) -> Path:
    """Make an environment, and return the folder of its commands.

    Args:
        folder: where to.
        requirements: what is linked, with all that it requires; `livegate` is the wheel's.
        wheel: what is installed for real.
    """
    venv.create(folder, with_pip=False)
    commands = folder / "bin"
    (site,) = (folder / "lib").glob("python*/site-packages")
    if wheel is not None:
        python = str(commands / "python")
        _pip("--python", python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    linked: set[tuple[str, frozenset[str]]] = set()
    open_ = [Requirement(text) for text in requirements]
    while open_:
        requirement = open_.pop()
        name, extras = requirement.name, frozenset(requirement.extras)
        if (name, extras) in linked:
            continue
        linked.add((name, extras))
        found = metadata.distributions(name=name, path=[str(site)])
        distribution = next(iter(found), None) or metadata.distribution(name)
        if not Path(str(distribution.locate_file(""))).samefile(site):
            _link(distribution, site)
        open_ += _required(distribution, extras)
    return commands


def _required(distribution: metadata.Distribution, extras: Iterable[str]) -> Iterable[Requirement]:
    for text in distribution.requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _link(distribution: metadata.Distribution, site: Path) -> None:
    for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(str(distribution.locate_file(top)))


def _pip(*args: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *args]
    subprocess.run(command, check=True, capture_output=True)
