"""Ablation of networks small enough for a test, and its table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import SettingError
from model.evaluation.metrics import equal_error
from model.runs.stamp import StampMismatch
from model.training.ablation import LATE, AblationConfig, ablate, missing_runs, write_table
from model.training.training import TrainingConfig
from tests.model.pictures import training_config


def test_an_interrupted_ablation_continues(tmp_path: Path) -> None:
    # Twice the steps of the other tests: each network must have learnt something.
    recipe = replace(training_config(tmp_path), epochs=10, batch=8)
    plan = AblationConfig(
        recipe, recipe.val, tmp_path / "runs", ("rgb", "depth", "ir", "mmfcnn-abc-batch"), (0,)
    )
    first = replace(plan, variants=("rgb", "depth"))
    assert sorted(ablate(first)) == ["depth-0", "rgb-0"]
    assert sorted(ablate(plan)) == ["ir-0", "mmfcnn-abc-batch-0"]
    rows = {row["variant"]: row for row in write_table(plan)}
    assert list(rows) == ["rgb", "depth", "ir", "mmfcnn-abc-batch", LATE]
    parameters = [rows[name]["parameters"]["mean"] for name in ("rgb", "depth", "ir")]
    assert rows[LATE]["parameters"]["mean"] == sum(parameters)
    assert "ACER without-ir" in rows["mmfcnn-abc-batch"]
    rest = [np.load(plan.folder / f"{name}-0.npz") for name in ("rgb", "depth")]
    mean = sum(1 / (1 + np.exp(-each["all"].astype(np.float64))) for each in rest) / 2
    rate, _ = equal_error(mean, rest[0]["label"])
    assert rows[LATE]["EER without-ir"]["mean"] == pytest.approx(rate, abs=1e-6)
    table = (plan.folder / "table.md").read_text()
    assert table.count("\n") == 2 + 5
    assert missing_runs(plan) == []
    with pytest.raises(StampMismatch, match=r"another recipe \(epochs\)"):
        list(ablate(replace(plan, recipe=replace(recipe, epochs=11))))


@pytest.mark.parametrize(
    "fields", [{"variants": ("rgb", "vit")}, {"seeds": (0, -1)}, {"processes": 0}], ids=str
)
def test_an_ablation_that_can_not_be_run_is_refused(fields: dict[str, Any]) -> None:
    here = Path()
    plan = AblationConfig(TrainingConfig(here, here, here), here, here)
    with pytest.raises(SettingError) as raised:
        replace(plan, **fields)
    assert raised.value.field in fields
