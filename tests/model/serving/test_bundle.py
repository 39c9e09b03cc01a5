"""Bundles: what is saved is what is loaded, under an id that is the hash of all of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.data.quality import ANY_QUALITY
from model.serving.bundle import (
    Bundle,
    BundleCorrupt,
    BundleMissing,
    Threshold,
    find_bundle,
    load_bundle,
    save_bundle,
)
from tests.bundles import random_bundle
from tests.model.serving.folders import ALL, pristine, sha256


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


def test_find_says_what_there_is(folder: Path) -> None:
    assert find_bundle(str(folder)) == folder.resolve()
    with pytest.raises(BundleMissing, match="no bundle folder"):
        find_bundle("nowhere")
