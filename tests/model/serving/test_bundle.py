"""Bundles: what is saved is what is loaded, and anything that is off is refused by name."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from model.data.planes import MODALITIES, Planes
from model.serving.bundle import (
    BundleCorrupt,
    BundleMissing,
    BundleUnknown,
    SelfTestFailed,
    find_bundle,
    load_bundle,
    save_bundle,
    selftest_rows,
)
from model.serving.engine import Engine, EngineError
from tests.bundles import SIZE, random_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_bundle(random_bundle(), tmp_path / "bundle")


def edit_json(folder: Path, **changes: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "weights.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)
    import hashlib  # noqa: PLC0415

    edit_json(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_what_is_saved_is_loaded(folder: Path) -> None:
    saved, loaded = random_bundle(), load_bundle(folder)
    assert loaded.config == saved.config
    assert loaded.thresholds == saved.thresholds
    assert loaded.model_id.startswith("random@")
    assert np.array_equal(loaded.selftest_scores, saved.selftest_scores)
    assert loaded.threshold_for(("ir", "rgb")) == saved.thresholds["rgb+ir"].value
    assert loaded.threshold_for(()) is None


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = replace(random_bundle(), thresholds={"thermal": random_bundle().thresholds["rgb"]})
    with pytest.raises(BundleCorrupt):
        save_bundle(bad, tmp_path / "bad")
    assert list(tmp_path.iterdir()) == []
    save_bundle(random_bundle(), tmp_path / "good")
    with pytest.raises(FileExistsError):
        save_bundle(random_bundle(), tmp_path / "good")


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
        {"polarity": {"attack": 1, "bona_fide": 0}},
        {"modalities": ["rgb", "ir", "depth"]},
        {"crop_margin": -1},
        {"crop_margin": "wide"},
        {"quality": {"min_face_px": "wide"}},
        {"quality": {"min_ir": 3}},
        {"thresholds": {}},
        {"thresholds": {"rgb": {"value": 1.5, "calibration": {}}}},
        {"thresholds": {"ir+rgb": {"value": 0.5, "calibration": {}}}},
        {"network": {"views": ["rgb"], "depth": 18}},
        {"network": {"views": ["rgb"], "layers": 18}},
        {"name": ""},
        {"name": 5},
    ],
    ids=str,
)
def test_a_description_that_does_not_fit(folder: Path, changes: dict[str, Any]) -> None:
    edit_json(folder, **changes)
    with pytest.raises(BundleCorrupt):
        load_bundle(folder)


def test_an_unknown_version(folder: Path) -> None:
    edit_json(folder, schema=2)
    with pytest.raises(BundleUnknown, match="schema is 2"):
        load_bundle(folder)


def test_weights_that_are_no_numbers(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["head.weight"].fill_(torch.nan))
    with pytest.raises(BundleCorrupt, match=r"head\.weight"):
        load_bundle(folder)


def test_weights_that_are_missing(folder: Path) -> None:
    edit_weights(folder, lambda weights: [weights.pop("head.weight")])
    with pytest.raises(BundleCorrupt, match=r"head\.weight"):
        load_bundle(folder)


def test_find_says_what_there_is(folder: Path) -> None:
    assert find_bundle(str(folder)) == folder.resolve()
    with pytest.raises(BundleMissing, match="no bundle folder"):
        find_bundle("nowhere")


class TestEngine:
    def test_the_self_test_guards_the_weights(self, folder: Path) -> None:
        edit_weights(folder, lambda weights: weights["head.weight"].mul_(-40))
        with pytest.raises(SelfTestFailed, match="off by"):
            Engine(load_bundle(folder))

    def test_it_gives_the_network_s_scores(self, folder: Path) -> None:
        bundle = load_bundle(folder)
        engine = Engine(bundle, max_batch=3)
        rows = selftest_rows(bundle.selftest)[:3]
        prediction = engine.predict(rows)
        assert prediction.scores == pytest.approx(bundle.selftest_scores[:3], abs=1e-3)
        assert prediction.shares.sum(1) == pytest.approx([1, 1, 1], abs=1e-5)
        alone = np.concatenate([engine.predict([row]).scores for row in rows])
        assert alone == pytest.approx(prediction.scores, abs=1e-4)

    @pytest.mark.parametrize("present", [("rgb",), ("depth",), ("ir",), ("rgb", "ir")])
    def test_modalities_may_be_missing(self, folder: Path, present: tuple[str, ...]) -> None:
        bundle = load_bundle(folder)
        row = selftest_rows(bundle.selftest)[0]
        planes = Planes(**{name: getattr(row, name) for name in present})
        shares = dict(zip(MODALITIES, Engine(bundle).predict([planes]).shares[0], strict=True))
        assert {name for name, share in shares.items() if share > 0} <= set(present)

    def test_what_does_not_fit_is_refused(self, folder: Path) -> None:
        engine = Engine(load_bundle(folder), max_batch=2)
        row = Planes(ir=np.zeros((SIZE, SIZE), np.uint8))
        for planes in ([], [row] * 3, [Planes(ir=np.zeros((32, 32), np.uint8))]):
            with pytest.raises(ValueError, match=r"faces make a batch|planes must be"):
                engine.predict(planes)

    def test_a_score_that_is_no_number_is_an_error(self, folder: Path) -> None:
        engine = Engine(load_bundle(folder))
        with torch.no_grad():
            engine._network.head.bias.fill_(torch.nan)
        with pytest.raises(EngineError, match="not a number"):
            engine.predict([Planes(ir=np.zeros((SIZE, SIZE), np.uint8))])
