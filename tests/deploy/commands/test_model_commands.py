"""The commands of the model engineer, on pictures and a network small enough for a test."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deploy.commands import main as cli
from deploy.commands.model import UserError
from model.errors import ModelError, SettingError
from model.serving.bundle import BundleUnknown, load_bundle
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


def test_calibrate_on_bona_fide_alone(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "test_list.txt").read_text().splitlines()
    site = folder / "site_list.txt"
    site.write_text("".join(f"{line}\n" for line in lines if line.endswith(" 1")))
    args = (site, tmp_path / "site", "--bundle", folder / "bundle", "--require", "rgb")
    result = run("calibrate", *args, "--bpcer", 0.1)
    assert result.exit_code == 0, result.output
    assert re.search(r"rgb\+depth\+ir +threshold 0\.\d+ +APCER unknown +BPCER 0\.0", result.stdout)
    assert load_bundle(tmp_path / "site").required == ("rgb",)
    assert load_bundle(tmp_path / "site").name == "site"


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
