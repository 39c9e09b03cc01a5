"""Ablation of networks small enough for a test, and its table."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import SettingError
from model.evaluation.metrics import equal_error
from model.runs.stamp import StampMismatch
from model.training.ablation import AblationConfig, ablate, missing_runs, write_table
from model.training.ablation_table import SUM
from model.training.recipe import TrainingConfig
from tests.model.pictures import training_config


def test_an_interrupted_ablation_continues(tmp_path: Path) -> None:
    # Twice the steps of the other tests: each network must have learnt something.
    recipe = replace(training_config(tmp_path), epochs=10, batch=8)
    plan = AblationConfig(
        recipe,
        recipe.val,
        tmp_path / "runs",
        ("rgb", "depth", "ir", "mmfcnn-abc-0.1"),
        (0,),
        composites=("split",),
    )
    first = replace(plan, variants=("rgb", "depth"))
    assert sorted(ablate(first)) == ["depth-0", "rgb-0"]
    assert sorted(ablate(plan)) == ["ir-0", "mmfcnn-abc-0.1-0"]
    rows = {row["variant"]: row for row in write_table(plan)}
    assert list(rows) == ["rgb", "depth", "ir", "mmfcnn-abc-0.1", SUM]
    parameters = [rows[name]["parameters"] for name in ("rgb", "depth", "ir")]
    assert rows[SUM]["parameters"] == sum(parameters)
    mmfcnn = rows["mmfcnn-abc-0.1"]
    assert {"EER", "EER split", "EER without-ir", "gain EER split"} <= mmfcnn.keys()
    rest = [np.load(plan.folder / f"{name}-0.npz") for name in ("rgb", "depth")]
    summed = sum(each["all"].astype(np.float64) for each in rest)
    is_listed = ~np.char.startswith(rest[0]["species"], "split")
    rate, _ = equal_error(summed[is_listed], rest[0]["label"][is_listed])
    assert rows[SUM]["EER without-ir"]["rate"] == pytest.approx(rate, abs=1e-6)
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
