"""The commands of the model engineer, on pictures and a network small enough for a test."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from deploy.commands import main as cli
from deploy.commands.model import UserError
from model.data.dataset import load_dataset
from model.data.planes import MODALITIES, PlaneError
from model.data.quality import ANY_QUALITY
from model.errors import ModelError, SettingError
from model.evaluation.drift import DriftError
from model.evaluation.scoring import score
from model.serving.bundle import BundleUnknown, load_bundle, save_bundle
from tests.model.pictures import learned_bundle, training_config, write_set


def run(*args: object) -> Result:
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


def error_of(*args: object) -> BaseException | None:
    result = run(*args)
    assert result.exit_code == 1
    return result.exception


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    learned_bundle(training_config(folder))
    write_set(folder, "test", 80, 5)
    return folder


def test_evaluate_prints_json_and_writes_a_report(folder: Path, tmp_path: Path) -> None:
    args = (folder / "test_list.txt", "--bundle", folder / "bundle", "--report", tmp_path / "out")
    result = run("evaluate", *args)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["bundle_sha256"] == load_bundle(folder / "bundle").digest
    assert figures["subsets"]["rgb+depth+ir"]["EER"] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Made by <code>livegate" in page
    assert isinstance(error_of("evaluate", *args), FileExistsError)


class TestJudge:
    def files(self, folder: Path, number: int, *names: str) -> list[object]:
        endings = {"rgb": "jpg", "depth": "png", "ir": "jpg"}
        pairs = ((f"--{name}", folder / f"test-{number}_{name}.{endings[name]}") for name in names)
        return [*(each for pair in pairs for each in pair), "--bundle", folder / "bundle"]

    def judged(self, *args: object) -> dict[str, Any]:
        result = run("judge", *args)
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def test_a_decision_with_what_it_rests_on(self, folder: Path, tmp_path: Path) -> None:
        # The pictures are noise in colour: gates that let them through.
        bundle = replace(load_bundle(folder / "bundle"), quality=ANY_QUALITY)
        save_bundle(bundle, tmp_path / "open")
        # The box whose square is the 112 px in the middle of the pictures, as evaluation cuts them.
        side = 112 / (1 + 2 * bundle.crop_margin)
        box = ["--face-box", 62 - side / 2, 62 - side / 2, side, side]
        scores = score(bundle.network, load_dataset(folder / "test_list.txt", 112), MODALITIES)
        for number, decision in ((0, "attack"), (1, "bona_fide")):
            args = [*self.files(folder, number, "rgb", "depth", "ir")[:-1], tmp_path / "open"]
            found = self.judged(*args, *box)
            assert found["score"] == pytest.approx(scores[number], abs=1e-3)
            assert (found["decision"], found["reason"], found["faults"]) == (decision, None, [])
            assert (found["score"] >= found["threshold"]) == (decision == "bona_fide")
            odds = np.log(found["score"] / (1 - found["score"]))
            assert sum(found["evidence"].values()) == pytest.approx(odds, rel=1e-2)
        found = self.judged(*self.files(folder, 1, "rgb")[:-1], tmp_path / "open")
        assert found["modalities"] == ["rgb"]

    def test_a_quality_fault_is_no_decision(self, folder: Path) -> None:
        args = self.files(folder, 1, "rgb", "depth", "ir")
        found = self.judged(*args, "--face-box", 10, 10, 20, 20)
        assert (found["decision"], found["reason"]) == ("no_decision", "low_quality")
        assert "face_px must be at least 24, is 20" in found["faults"]

    def test_depth_of_another_kind_is_refused(self, folder: Path) -> None:
        args = self.files(folder, 1, "rgb", "ir")
        depth = folder / "test-1_ir.jpg"  # 8 bits
        error = error_of("judge", *args, "--depth", depth)
        assert isinstance(error, PlaneError)
        assert "depth is 8-bit" in str(error)

    def test_a_picture_that_is_not_there(self, folder: Path) -> None:
        error = error_of("judge", "--ir", folder / "nothing.png")
        assert isinstance(error, PlaneError)
        assert "nothing.png can't be read: No such file" in str(error)
        assert isinstance(error_of("judge"), UserError)


def test_calibrate_on_bona_fide_alone(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "test_list.txt").read_text().splitlines()
    site = folder / "site_list.txt"
    site.write_text("".join(f"{line}\n" for line in lines if line.endswith(" 1")))
    args = (site, tmp_path / "site", "--bundle", folder / "bundle", "--require", "rgb")
    result = run("calibrate", *args, "--bpcer", 0.1, "--jitter", 0)
    assert result.exit_code == 0, result.output
    assert re.search(r"rgb\+depth\+ir +threshold 0\.\d+ +APCER unknown +BPCER 0\.0", result.stdout)
    assert load_bundle(tmp_path / "site").required == ("rgb",)
    assert load_bundle(tmp_path / "site").name == "site"


def test_a_bundle_is_no_better_than_itself(folder: Path) -> None:
    args = (folder / "test_list.txt", folder / "bundle", folder / "bundle")
    result = run("compare", *args, "--composites", "split")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[2:]
    assert {line.split()[0] for line in lines} >= {"EER", "BPCER", "APCER"}
    assert all("+0.000% to +0.000%" in line and "*" not in line for line in lines)


def test_drift_takes_a_calibrated_bundle(folder: Path) -> None:
    site = folder / "recent_list.txt"
    lines = (folder / "test_list.txt").read_text().splitlines()
    site.write_text("".join(f"{line}\n" for line in lines if line.endswith(" 1")))
    error = error_of("drift", site, "--bundle", folder / "bundle")
    assert isinstance(error, DriftError)
    assert "calibrate it first" in str(error)


def test_upgrade(folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in (folder / "bundle").iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    about = json.loads((old / "bundle.json").read_text())
    (old / "bundle.json").write_text(json.dumps({**about, "schema": 1}))
    error = error_of("evaluate", folder / "test_list.txt", "--bundle", old)
    assert isinstance(error, BundleUnknown)
    assert f"livegate upgrade {old}" in str(error)
    for name in ("selftest_sha256", "depth_kind", "required"):
        del about[name]
    (old / "bundle.json").write_text(json.dumps({**about, "schema": 1}))
    result = run("upgrade", old, tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert load_bundle(tmp_path / "new").model_id in result.stdout


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        (["calibrate", "a", "b"], UserError, "either --apcer or --bpcer"),
        (["calibrate", "a", "b", "--apcer", "0.1", "--bpcer", "0.1"], UserError, "one target"),
        (["evaluate", "a", "--bundle", "nowhere"], ModelError, "nowhere"),
        (["evaluate", "nowhere.txt"], ModelError, "nowhere.txt"),
        (["upgrade", "nowhere", "new"], ModelError, "nowhere"),
        (["train", "a", "b", "c", "--views", "rgb,thermal"], SettingError, "views must be one of"),
        (["train", "a", "b", "c", "--width", "nan"], SettingError, "width must be a number"),
        (["train", "a", "b", "c", "--abc", "margin"], SettingError, "abc must be one of"),
        (["train", "a", "b", "c", "--size", "9"], SettingError, "size must be a whole number"),
        (["ablate", "a", "b", "c", "d", "--variants", "vit"], SettingError, "variants must be one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_user_can_mend_is_an_error_of_ours(
    args: list[str], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(*args)
    assert isinstance(error, kind)
    assert message in str(error)
    assert list(tmp_path.iterdir()) == []
