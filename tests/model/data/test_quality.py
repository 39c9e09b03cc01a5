"""Quality gates: what they refuse, with which figures, and what they let pass."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from loadtest.samples import load_samples
from model.data.planes import Planes
from model.data.quality import QualityLimits, faults, measure
from model.errors import SettingError
from model.serving.bundle import find_bundle, load_bundle
from workers.replica.decode import decode
from workers.wire.frame import Frame

BUNDLE = load_bundle(find_bundle("rendered-small"))
LIMITS, SIZE = BUNDLE.quality, BUNDLE.config.size


@pytest.fixture(scope="module")
def faces() -> list[Planes]:
    """Frames of the sample set as the network sees them."""
    chosen = [each.frames[0] for each in load_samples() if each.is_bona_fide][:10]
    return [
        decode(Frame("-", 0, 0, frame.planes, face_box=frame.face_box), SIZE, BUNDLE.crop_margin)
        for frame in chosen
    ]


def found(planes: Planes, face_px: float = 80) -> list[str]:
    return [fault.split()[0] for fault in faults(measure(planes, face_px), LIMITS)]


def test_good_frames_pass(faces: list[Planes]) -> None:
    assert [found(planes) for planes in faces] == [[]] * len(faces)


def test_a_blurred_face(faces: list[Planes]) -> None:
    for planes in faces:
        assert planes.rgb is not None
        blurred = cv2.GaussianBlur(planes.rgb, (0, 0), 6 * SIZE / 112)
        assert found(replace(planes, rgb=blurred)) == ["rgb_smoothness"]


def test_exposure(faces: list[Planes]) -> None:
    planes = faces[0]
    for level in (0, 255):
        flat = np.full((SIZE, SIZE, 3), level, np.uint8)
        assert "rgb_brightness" in found(replace(planes, rgb=flat))
        assert "ir_brightness" in found(replace(planes, ir=flat[..., 0]))


def test_an_emitter_that_did_not_light_up(faces: list[Planes]) -> None:
    noise = np.random.default_rng(0).normal(18, 9, (SIZE, SIZE)).clip(0, 255).astype(np.uint8)
    assert found(replace(faces[0], ir=noise)) == ["ir_smoothness"]


def test_a_blinded_depth_sensor(faces: list[Planes]) -> None:
    depth = faces[0].depth
    assert depth is not None
    few = np.where(np.random.default_rng(0).random(depth.shape) < 0.95, 0, depth)
    assert found(replace(faces[0], depth=few.astype(np.uint16))) == ["depth_holes"]


def test_a_face_too_far_away(faces: list[Planes]) -> None:
    (fault,) = faults(measure(faces[0], 12.0), LIMITS)
    assert fault == "face_px must be at least 24, is 12"


def test_a_modality_that_is_missing_has_no_figures(faces: list[Planes]) -> None:
    figures = measure(replace(faces[0], ir=None, rgb=None), None)
    assert figures.keys() == {"depth_holes"}


@pytest.mark.parametrize(
    "values",
    [
        {"min_ir": 1},
        {"min_face_px": "8"},
        {"min_face_px": np.nan},
        {"min_face_px": True},
        {"min_face_px": -1},
        {"max_depth_holes": 10**400},
        {"min_rgb_brightness": 200, "max_rgb_brightness": 100},
    ],
    ids=lambda values: str(values)[:40],
)
def test_limits_that_can_not_be_used(values: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="quality limit"):
        QualityLimits.from_dict({**QualityLimits().to_dict(), **values})


def test_a_limit_that_is_left_out_has_no_default() -> None:
    values = QualityLimits().to_dict()
    del values["min_face_px"]
    with pytest.raises(SettingError, match=r"quality limits must be described by .*min_face_px"):
        QualityLimits.from_dict(values)
