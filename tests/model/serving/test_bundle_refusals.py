"""Bundles that are refused: whatever is wrong with a folder has a name."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from model.data.quality import ANY_QUALITY
from model.serving.bundle import (
    BundleCorrupt,
    BundleError,
    BundleMissing,
    BundleUnknown,
    find_bundle,
    load_bundle,
)
from tests.model.serving.folders import ALL, edit_json, edit_weights, pristine

VALID = {"value": 0.5, "calibration": {}}


SHAPE = pristine().config.to_dict()


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
