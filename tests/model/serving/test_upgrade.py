"""Bundles of an older schema: refused, and converted by the command that the refusal names."""

import json
from pathlib import Path

import pytest

from model.data.quality import QualityLimits
from model.serving.bundle import (
    BundleCorrupt,
    BundleUnknown,
    load_bundle,
    upgrade_bundle,
)
from tests.model.serving.folders import edit_json, pristine, sha256


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
