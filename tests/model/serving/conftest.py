"""A bundle on disk, and a copy of it for each test to damage."""

import shutil
from pathlib import Path

import pytest

from model.serving.bundle import (
    save_bundle,
)
from tests.model.serving.folders import pristine


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(pristine(), tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))
