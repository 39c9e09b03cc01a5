"""Bundles: what is saved is what is loaded, and whatever is wrong with a folder has a name."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from model.data.planes import Planes
from model.data.quality import ANY_QUALITY, QualityLimits
from model.serving.bundle import (
    Bundle,
    BundleCorrupt,
    BundleError,
    BundleMissing,
    BundleUnknown,
    SelfTestFailed,
    Threshold,
    find_bundle,
    load_bundle,
    save_bundle,
    selftest_rows,
    upgrade_bundle,
)
from model.serving.eager import eager_engine
from model.serving.engine import EngineError
from tests.bundles import SIZE, random_bundle


@cache
def pristine() -> Bundle:
    """Return a bundle that no test changes."""
    return random_bundle()


ALL = "rgb+depth+ir"
VALID = {"value": 0.5, "calibration": {}}
SHAPE = pristine().config.to_dict()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(pristine(), tmp_path_factory.mktemp("whole") / "bundle")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def edit_json(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)
    edit_json(folder, weights_sha256=sha256(path))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_saved_is_loaded(folder: Path) -> None:
    saved, loaded = pristine(), load_bundle(folder)
    assert loaded.config == saved.config
    assert loaded.thresholds == saved.thresholds
    assert loaded.model_id.startswith("random@")
    assert np.array_equal(loaded.selftest_scores, saved.selftest_scores)
    assert loaded.threshold_for(("ir", "rgb")) == saved.thresholds["rgb+ir"].value
    assert loaded.threshold_for(()) is None
    assert loaded.depth_kind == "millimetres"


class TestModelId:
    def test_it_is_the_hash_of_the_description(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        assert bundle.digest == sha256(folder / "bundle.json")
        assert bundle.model_id == f"random@{bundle.digest[:12]}"

    @pytest.mark.parametrize(
        "change",
        [
            {"crop_margin": 0.25},
            {"required": ("ir",), "thresholds": {ALL: pristine().thresholds[ALL]}},
            {"quality": replace(ANY_QUALITY, min_face_px=1)},
            {"about": {"training_data": "other"}},
            {"name": "other"},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_it_covers_each_field(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert digest_of(pristine(), tmp_path / "one") != digest_of(
            replace(pristine(), **change), tmp_path / "two"
        )

    def test_it_covers_one_threshold_in_its_last_digit(self, tmp_path: Path) -> None:
        bundle = pristine()
        value = float(np.nextafter(bundle.thresholds["rgb"].value, 1))
        other = replace(bundle, thresholds={**bundle.thresholds, "rgb": Threshold(value)})
        assert digest_of(bundle, tmp_path / "one") != digest_of(other, tmp_path / "two")

    def test_it_covers_the_self_test(self, tmp_path: Path) -> None:
        bundle = pristine()
        planes = replace(bundle.selftest, ir=bundle.selftest.ir ^ 1)
        other = replace(bundle, selftest=planes)
        assert digest_of(bundle, tmp_path / "one") != digest_of(other, tmp_path / "two")

    def test_the_same_content_has_the_same_id(self, tmp_path: Path) -> None:
        assert digest_of(pristine(), tmp_path / "one") == digest_of(pristine(), tmp_path / "two")

    def test_a_changed_bundle_has_none_until_it_is_saved(self, folder: Path) -> None:
        changed = replace(load_bundle(folder), crop_margin=0.3)
        assert changed.model_id == "random@unsaved"


def digest_of(bundle: Bundle, folder: Path) -> str:
    return load_bundle(save_bundle(bundle, folder)).digest


class TestRequired:
    def test_no_decision_without_a_required_modality(self, tmp_path: Path) -> None:
        bundle = pristine()
        kept = {key: each for key, each in bundle.thresholds.items() if "ir" in key.split("+")}
        strict = replace(bundle, required=("ir",), thresholds=kept)
        loaded = load_bundle(save_bundle(strict, tmp_path / "strict"))
        assert loaded.required == ("ir",)
        assert loaded.threshold_for(("rgb", "ir")) == kept["rgb+ir"].value
        assert loaded.threshold_for(("rgb", "depth")) is None

    def test_a_threshold_without_it_is_a_contradiction(self, tmp_path: Path) -> None:
        with pytest.raises(BundleCorrupt, match="of sets with ir in them"):
            save_bundle(replace(pristine(), required=("ir",)), tmp_path / "bundle")


@pytest.mark.parametrize(("mode", "kind"), [("face_relative", "millimetres"), ("casia8", "8-bit")])
def test_the_depth_kind_follows_from_the_depth_mode(tmp_path: Path, mode: str, kind: str) -> None:
    bundle = random_bundle()
    bundle.network.config = replace(bundle.config, depth_mode=mode)  # type: ignore[arg-type]
    folder = save_bundle(bundle, tmp_path / "bundle")
    assert json.loads((folder / "bundle.json").read_text())["depth_kind"] == kind
    assert load_bundle(folder).depth_kind == kind


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = replace(pristine(), thresholds={"thermal": pristine().thresholds["rgb"]})
    with pytest.raises(BundleCorrupt):
        save_bundle(bad, tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []
    save_bundle(pristine(), tmp_path / "good")
    with pytest.raises(FileExistsError):
        save_bundle(pristine(), tmp_path / "good")


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "selftest.npz"])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleMissing, match=name):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "selftest.npz"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x04N."])
def test_a_garbled_file(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(BundleCorrupt, match=name):
        load_bundle(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "0" * 64},
        {"weights_sha256": 5},
        {"selftest_sha256": "0" * 64},
        {"selftest_sha256": None},
        {"polarity": {"attack": 1, "bona_fide": 0}},
        {"polarity": {"attack": False, "bona_fide": True}},
        {"modalities": ["rgb", "ir", "depth"]},
        {"depth_kind": "8-bit"},
        {"depth_kind": None},
        {"required": ["ir", "ir"]},
        {"required": ["thermal"]},
        {"required": "rgb"},
        {"required": [["rgb"]]},
        {"about": "me"},
        {"unknown": 1},
        {"crop_margin": -1},
        {"crop_margin": "wide"},
        {"crop_margin": True},
        {"crop_margin": None},
        {"quality": {}},
        {"quality": {**ANY_QUALITY.to_dict(), "min_face_px": "wide"}},
        {"quality": {**ANY_QUALITY.to_dict(), "min_face_px": False}},
        {"quality": {**ANY_QUALITY.to_dict(), "min_face_px": -1}},
        {"quality": {**ANY_QUALITY.to_dict(), "min_ir": 3}},
        {"quality": {**ANY_QUALITY.to_dict(), "min_ir_brightness": 256}},
        {"thresholds": {}},
        {"thresholds": []},
        {"thresholds": {"rgb": {"value": 0.5, "calibration": {}}}},
        {"thresholds": {ALL: {"value": 1.5, "calibration": {}}}},
        {"thresholds": {ALL: {"value": -0.1, "calibration": {}}}},
        {"thresholds": {ALL: {"value": True, "calibration": {}}}},
        {"thresholds": {ALL: {"value": "0.5", "calibration": {}}}},
        {"thresholds": {ALL: {"value": 0.5}}},
        {"thresholds": {ALL: {"value": 0.5, "calibration": []}}},
        {"thresholds": {ALL: {"value": 0.5, "calibration": {}, "valeu": 0.6}}},
        {"thresholds": {ALL: 0.5}},
        {"thresholds": {ALL: VALID, "ir+rgb": VALID}},
        {"thresholds": {ALL: VALID, "thermal": VALID}},
        {"network": {"views": ["rgb"], "depth": 18}},
        {"network": {"views": ["rgb"], "layers": 18}},
        {"network": {**SHAPE, "depth": 18.0}},
        {"network": {**SHAPE, "width": True}},
        {"network": {**SHAPE, "width": 4}},
        {"network": {**SHAPE, "size": 64.5}},
        {"network": {**SHAPE, "size": 96}},
        {"network": {**SHAPE, "views": "rgb"}},
        {"network": {**SHAPE, "views": [["rgb"]]}},
        {"network": {**SHAPE, "views": ["ir", "depth"]}},
        {"network": {**SHAPE, "gate": []}},
        {"network": None},
        {"name": ""},
        {"name": 5},
        {"name": "a\nb"},
        {"name": "x" * 65},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_description_that_does_not_fit(folder: Path, changes: dict[str, Any]) -> None:
    edit_json(folder, **changes)
    with pytest.raises(BundleCorrupt, match=str(folder)):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": 2, "schema": 2}', "'schema' is there twice"),
        (b'{"schema": NaN}', "NaN is not a number"),
        (b'{"schema": -Infinity}', "not a number"),
        (b'{"schema": 1e999}', "too large"),
        (b'{"schema": ' + b"9" * 5000 + b"}", "more than 19 digits"),
        (b'{"schema": ' + b"[" * 100 + b"]" * 100 + b"}", "nested"),
        (b'{"schema": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion|nested"),
        (b'{"schema": "\\ud800"}', "surrogates"),
        (b'{"schema": "\xff"}', "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[]", "must be a JSON object"),
        (b" " * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
    ids=lambda value: value[:16].decode(errors="replace") if isinstance(value, bytes) else "",
)
def test_a_description_that_is_no_plain_json(folder: Path, content: bytes, message: str) -> None:
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleCorrupt, match=message):
        load_bundle(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "bundle.json", "selftest.npz"])
class TestFiles:
    def test_a_folder_in_place_of_a_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(BundleCorrupt, match=f"{name}: must be a regular file"):
            load_bundle(folder)

    def test_a_pipe_in_place_of_a_file(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(BundleCorrupt, match=f"{name}: must be a regular file"):
            load_bundle(folder)

    def test_a_link_to_itself(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(name)
        with pytest.raises(BundleCorrupt, match=f"{name}: can't be read: .*symbolic links"):
            load_bundle(folder)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, folder: Path, name: str) -> None:
        (folder / name).chmod(0)
        with pytest.raises(BundleCorrupt, match=f"{name}: can't be read: Permission denied"):
            load_bundle(folder)

    def test_half_a_file(self, folder: Path, name: str) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(BundleCorrupt, match=name):
            load_bundle(folder)


@pytest.mark.parametrize("name", ["a" * 300, "\0", "nowhere", "/dev/null"])
def test_a_name_that_is_no_folder(name: str) -> None:
    with pytest.raises(BundleError):
        find_bundle(name)
    with pytest.raises(BundleError):
        load_bundle(Path(name))


@pytest.mark.parametrize("schema", [3, 0, 2.0, True, None, "2"])
def test_an_unknown_version(folder: Path, schema: object) -> None:
    edit_json(folder, schema=schema)
    with pytest.raises(BundleUnknown, match="schema is "):
        load_bundle(folder)


class TestUpgrade:
    """A bundle of Livegate 0.1: schema 1."""

    @pytest.fixture
    def old(self, folder: Path) -> Path:
        path = folder / "bundle.json"
        content = json.loads(path.read_text())
        for name in ("selftest_sha256", "depth_kind", "required"):
            del content[name]
        path.write_text(json.dumps({**content, "schema": 1}))
        return folder

    def test_it_is_refused_with_what_to_do(self, old: Path) -> None:
        with pytest.raises(BundleUnknown, match=r"livegate upgrade .* NEW_FOLDER"):
            load_bundle(old)

    def test_the_new_one_decides_alike(self, old: Path, tmp_path: Path) -> None:
        new = load_bundle(upgrade_bundle(old, tmp_path / "new"))
        assert new.thresholds == pristine().thresholds
        assert new.weights_sha256 == sha256(old / "weights.safetensors")
        assert new.selftest_scores == pytest.approx(pristine().selftest_scores)
        with pytest.raises(FileExistsError):
            upgrade_bundle(old, tmp_path / "new")

    def test_what_schema_1_left_out_had_defaults(self, old: Path, tmp_path: Path) -> None:
        edit_json(old, quality={"min_face_px": 40})
        quality = load_bundle(upgrade_bundle(old, tmp_path / "new")).quality
        assert quality == QualityLimits(min_face_px=40)

    def test_only_schema_1_is_converted(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(BundleUnknown, match="only 1"):
            upgrade_bundle(folder, tmp_path / "new")

    def test_a_damaged_one_is_refused(self, old: Path, tmp_path: Path) -> None:
        edit_json(old, crop_margin=7)
        with pytest.raises(BundleCorrupt, match="crop_margin"):
            upgrade_bundle(old, tmp_path / "new")
        edit_json(old, network=5)
        with pytest.raises(BundleCorrupt, match="network"):
            upgrade_bundle(old, tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_weights_that_are_no_numbers(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["head.weight"].fill_(torch.nan))
    with pytest.raises(BundleCorrupt, match=r"head\.weight"):
        load_bundle(folder)


def test_weights_that_are_missing(folder: Path) -> None:
    edit_weights(folder, lambda weights: [weights.pop("head.weight")])
    with pytest.raises(BundleCorrupt, match=r"head\.weight"):
        load_bundle(folder)


def test_weights_of_another_type(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({k: v.half() for k, v in weights.items()}))
    with pytest.raises(BundleCorrupt, match=r"must be (float32|int64) .*, is float16"):
        load_bundle(folder)


def test_a_huge_network_is_refused_before_it_is_built(folder: Path) -> None:
    edit_json(folder, network={**SHAPE, "width": 4, "depth": 34})
    with pytest.raises(BundleCorrupt, match=r"weights\.safetensors"):
        load_bundle(folder)


def test_find_says_what_there_is(folder: Path) -> None:
    assert find_bundle(str(folder)) == folder.resolve()
    with pytest.raises(BundleMissing, match="no bundle folder"):
        find_bundle("nowhere")


class TestEngine:
    def test_the_self_test_guards_the_weights(self, folder: Path) -> None:
        edit_weights(folder, lambda weights: weights["head.weight"].mul_(-40))
        with pytest.raises(SelfTestFailed, match="off by"):
            eager_engine(load_bundle(folder))

    def test_a_network_without_scores_fails_the_self_test(self, folder: Path) -> None:
        # Finite, and yet the root of a negative variance is no number.
        edit_weights(folder, lambda weights: weights["top.0.first.norm.running_var"].fill_(-9))
        with pytest.raises(SelfTestFailed, match="not a number"):
            eager_engine(load_bundle(folder))

    def test_it_gives_the_network_s_scores(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        engine = eager_engine(bundle, max_batch=3)
        rows = selftest_rows(bundle.selftest)[:3]
        prediction = engine.predict(rows)
        assert prediction.scores == pytest.approx(bundle.selftest_scores[:3], abs=1e-3)
        odds = np.log(prediction.scores / (1 - prediction.scores))
        assert prediction.evidence.sum(1) == pytest.approx(odds, abs=1e-3)
        alone = np.concatenate([engine.predict([row]).scores for row in rows])
        assert alone == pytest.approx(prediction.scores, abs=1e-4)

    @pytest.mark.parametrize("present", [("rgb",), ("depth",), ("ir",), ("rgb", "ir")])
    def test_modalities_may_be_missing(self, folder: Path, present: tuple[str, ...]) -> None:
        bundle = load_bundle(folder)
        row = selftest_rows(bundle.selftest)[0]
        planes = Planes(**{name: getattr(row, name) for name in present})
        assert set(eager_engine(bundle).predict([planes]).evidence_of(0)) == {"+".join(present)}

    def test_evidence_tells_what_the_score_rests_on(self, tmp_path: Path) -> None:
        bundle = load_bundle(save_bundle(random_bundle(fusion="evidence"), tmp_path / "additive"))
        row = selftest_rows(bundle.selftest)[0]
        whole = eager_engine(bundle).predict([row])
        told = whole.evidence_of(0)
        assert set(told) == {"rgb", "depth", "ir", "rgb+depth", "rgb+ir", "depth+ir"}
        odds = np.log(whole.scores[0] / (1 - whole.scores[0]))
        assert sum(told.values()) == pytest.approx(odds, abs=1e-3)
        lost = eager_engine(load_bundle(tmp_path / "additive")).predict([Planes(depth=row.depth)])
        assert lost.evidence_of(0) == {"depth": pytest.approx(told["depth"], abs=1e-3)}

    def test_what_does_not_fit_is_refused(self, folder: Path) -> None:
        engine = eager_engine(load_bundle(folder), max_batch=2)
        row = Planes(ir=np.zeros((SIZE, SIZE), np.uint8))
        for planes in ([], [row] * 3, [Planes(ir=np.zeros((32, 32), np.uint8))]):
            with pytest.raises(ValueError, match=r"faces make a batch|planes must be"):
                engine.predict(planes)

    def test_a_score_that_is_no_number_is_an_error(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        engine = eager_engine(bundle)
        with torch.no_grad():
            bundle.network.head.bias.fill_(torch.nan)  # type: ignore[union-attr, operator]
        with pytest.raises(EngineError, match="not a number"):
            engine.predict([Planes(ir=np.zeros((SIZE, SIZE), np.uint8))])
