"""The bench that the tests of a replica share."""

from pathlib import Path

import pytest

from tests.workers.replica.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
