"""A training run of a few made-up pictures."""

from pathlib import Path

import pytest

from model.training.recipe import TrainingConfig
from tests.model.pictures import training_config


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    return training_config(tmp_path)
