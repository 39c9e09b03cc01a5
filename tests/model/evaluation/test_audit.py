"""The audit: it finds what was planted, excuses what is physical, and says when it can't tell."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from deploy.commands.data import app
from model.data.lists import ListEntry, write_list
from model.data.planes import Planes
from model.evaluation.audit import AuditError, auc, audit, compare, physical
from model.evaluation.statistics import describe

COUNT = 60


def write_set(folder: Path, *, holes: float = 0.0, quality: int = 90) -> Path:
    """Write noise of one kind for both classes, but for attacks' holes and JPEG quality."""
    rng = np.random.default_rng(0)
    entries = []
    for number in range(2 * COUNT):
        label = number % 2
        depth = rng.normal(600, 20, (80, 80))
        depth[rng.random((80, 80)) < (0.05 if label else 0.05 + holes)] = 0
        jpeg = [cv2.IMWRITE_JPEG_QUALITY, 90 if label else quality]
        stem = folder / str(number)
        rgb, ir = (rng.integers(0, 256, shape, np.uint8) for shape in ((80, 80, 3), (80, 80)))
        files = {
            name: Path(f"{stem}_{name}.{'png' if name == 'depth' else 'jpg'}")
            for name in ("rgb", "depth", "ir")
        }
        cv2.imwrite(str(files["rgb"]), rgb, jpeg)
        cv2.imwrite(str(files["depth"]), depth.clip(0).astype(np.uint16))
        cv2.imwrite(str(files["ir"]), ir, jpeg)
        entries.append(ListEntry(**files, label=label))
    path = folder / "some_list.txt"
    write_list(path, entries)
    return path


def test_a_set_whose_classes_are_alike_has_no_finding(tmp_path: Path) -> None:
    found = audit(write_set(tmp_path), 64)
    assert found.counts == {"attack": COUNT, "bona_fide": COUNT}
    assert found.findings() == []


@pytest.mark.parametrize(
    ("leak", "figures"),
    [
        ({"holes": 0.05}, {"holes_all", "holes_upper", "holes_lower", "holes_middle"}),
        ({"quality": 60}, {"rgb_file_bytes", "ir_file_bytes"}),
    ],
)
def test_what_leaks_is_found(tmp_path: Path, leak: dict[str, Any], figures: set[str]) -> None:
    told = {each.split()[0] for each in audit(write_set(tmp_path, **leak), 64).findings()}
    assert figures <= told


def test_auc_is_that_of_scikit_learn_whichever_class_is_larger() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.integers(0, 9, 50).astype(float), rng.integers(2, 12, 70).astype(float)
    expected = roc_auc_score([0] * 50 + [1] * 70, [*one, *other])
    assert auc(one, other) == pytest.approx(expected)
    assert auc(other, one) == pytest.approx(expected)


def test_too_few_samples_tell_nothing() -> None:
    few = [{"holes_all": 0.0}] * 39
    with pytest.raises(AuditError, match="39 bona fide"):
        compare([*few, *few * 2], ["bona_fide"] * 39 + ["phone"] * 78)
    rows = [{"holes_all": float(number)} for number in range(140)]
    found = compare(rows, ["bona_fide"] * 50 + ["phone"] * 50 + ["mask"] * 40)
    assert found.findings()[0].startswith("holes_all tells")
    rare = compare(rows, ["bona_fide"] * 50 + ["phone"] * 80 + ["mask"] * 10)
    assert np.isnan(rare.auc[0, rare.species.index("mask")])


def test_what_is_in_a_species_nature_is_no_finding_but_is_shown() -> None:
    rows = [{"ir_brightness_middle": float(number)} for number in range(150)]
    found = compare(rows, ["bona_fide"] * 50 + ["phone"] * 50 + ["mask"] * 50)
    assert [each.split()[2] for each in found.findings()] == ["mask", "all"]
    assert physical("holes_upper", "phone") is None
    phone, mask = (
        found.table().splitlines()[1].split()[1:][at : at + 2]
        for at in (2 * found.species.index(name) for name in ("phone", "mask"))
    )
    assert phone == ["1.000", "."]
    assert mask == ["1.000", "*"]


def test_figures_are_what_they_say() -> None:
    depth = np.full((90, 90), 700, np.uint16)
    depth[:30, :45] = 0
    depth[:, 80:] = 2000
    rgb = np.full((90, 90, 3), (10, 60, 110), np.uint8)
    figures = describe(Planes(rgb=rgb, depth=depth, ir=rgb[..., 1].copy()), (3, 4, 5))
    assert figures["holes_upper"] == pytest.approx(0.5)
    assert figures["holes_lower"] == 0
    assert figures["distance_mm"] == 700
    assert figures["framing_near"] == pytest.approx(1 - 900 / (8100 - 1350), abs=0.01)
    assert figures["rgb_saturation"] == 100
    assert figures["ir_brightness"] == 60
    assert figures["ir_noise"] == 0
    assert figures["depth_file_bytes"] == 4
    assert "ir_noise" not in describe(Planes(rgb=rgb))


def test_the_command_says_by_its_exit_status_whether_there_are_findings(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    run = CliRunner().invoke(app, ["audit", str(path), "--size", "64"])
    assert run.exit_code == 0, run.output
    assert "findings: 0" in run.output
    leaking = tmp_path / "leaking"
    leaking.mkdir()
    picture = tmp_path / "audit.png"
    command = ["audit", str(write_set(leaking, holes=0.1)), "--picture", str(picture)]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 1
    assert "holes_all tells attack apart: AUC 1.000" in run.output
    assert cv2.imread(str(picture)) is not None
