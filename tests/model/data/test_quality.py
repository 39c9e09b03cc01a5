"""Quality gates: what they refuse, with which figures, and what they let pass."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from loadtest.samples import SampleFrame, load_samples
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
    return [seen(each.frames[0]) for each in load_samples() if each.is_bona_fide][:10]


def seen(frame: SampleFrame) -> Planes:
    return decode(Frame("-", 0, 0, frame.planes, face_box=frame.face_box), SIZE, BUNDLE.crop_margin)


def found(planes: Planes, face_px: float = 80) -> list[str]:
    return [fault.split()[0] for fault in faults(measure(planes, face_px), LIMITS)]


# What a bundle's limits, and its scores, were calibrated with: figures of two frames, as ever.
CALIBRATED = {
    "p000": {
        "face_inside": 1.0,
        "face_px": 67.1,
        "rgb_brightness": 119.46,
        "rgb_smoothness": 4.205,
        "ir_brightness": 128.212,
        "ir_smoothness": 3.557,
        "depth_holes": 0.026,
        "depth_agreement": 1.0,
        "depth_spread": 12.203,
    },
    "p023": {
        "face_inside": 1.0,
        "face_px": 68.7,
        "rgb_brightness": 199.688,
        "rgb_smoothness": 2.624,
        "ir_brightness": 53.56,
        "ir_smoothness": 4.671,
        "depth_holes": 0.094,
        "depth_agreement": 0.995,
        "depth_spread": 271.593,
    },
}


def test_figures_are_those_that_bundles_were_calibrated_with() -> None:
    for presentation in load_samples():
        if presentation.name in CALIBRATED:
            frame = presentation.frames[1]
            planes = decode(Frame("-", 0, 0, frame.planes, face_box=frame.face_box), 112, 0.2)
            assert measure(planes) == pytest.approx(CALIBRATED[presentation.name], abs=0.0015)


def test_a_plane_has_the_same_figures_whatever_else_is_there(faces: list[Planes]) -> None:
    """Or the limits would mean something else for frames that lack a modality."""
    for planes in faces:
        figures = measure(planes)
        for name in ("rgb", "depth", "ir"):
            alone = measure(
                replace(planes, **{each: None for each in {"rgb", "depth", "ir"} - {name}})
            )
            for figure, value in alone.items():
                assert figures[figure] == pytest.approx(value, abs=0.0015)


def test_good_frames_pass() -> None:
    """Attacks too: what they show is for the network to judge."""
    for presentation in load_samples():
        for frame in presentation.frames:
            assert found(seen(frame), min(frame.face_box[2:])) == []


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


@pytest.mark.parametrize("level", [60, 128, 200])
def test_a_plane_of_one_value(faces: list[Planes], level: int) -> None:
    flat = np.full((SIZE, SIZE, 3), level, np.uint8)
    assert found(replace(faces[0], rgb=flat)) == ["rgb_smoothness"]
    assert found(replace(faces[0], ir=flat[..., 0])) == ["ir_smoothness"]
    wall = np.full((SIZE, SIZE), 10 * level, np.uint16)
    assert found(replace(faces[0], depth=wall)) == ["depth_spread"]


@pytest.mark.parametrize("seed", range(3))
def test_a_plane_of_noise(faces: list[Planes], seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    assert found(replace(faces[0], rgb=noise)) == ["rgb_smoothness"]
    assert found(replace(faces[0], ir=noise[..., 0])) == ["ir_smoothness"]
    for low, high in ((300, 900), (1, 65_535), (500, 700)):
        depth = rng.integers(low, high, (SIZE, SIZE), np.uint16)
        assert found(replace(faces[0], depth=depth)) == ["depth_agreement"]
    grey_values = rng.integers(1, 256, (SIZE, SIZE), np.uint16)
    planes = replace(faces[0], depth=grey_values, depth_kind="8-bit")
    assert found(planes) == ["depth_agreement"]


@pytest.mark.parametrize("holes", [0.89, 0.95, 1.0])
def test_a_blinded_depth_sensor(faces: list[Planes], holes: float) -> None:
    depth = faces[0].depth
    assert depth is not None
    few = np.where(np.random.default_rng(0).random(depth.shape) < holes, 0, depth)
    assert "depth_holes" in found(replace(faces[0], depth=few.astype(np.uint16)))


def test_a_depth_sensor_in_the_sun_is_not_blind(faces: list[Planes]) -> None:
    for planes in faces:
        assert planes.depth is not None
        seen = np.random.default_rng(0).random(planes.depth.shape) > 0.75
        sunny = np.where(seen, planes.depth, 0).astype(np.uint16)
        assert found(replace(planes, depth=sunny)) == []


def test_a_face_too_far_away(faces: list[Planes]) -> None:
    (fault,) = faults(measure(faces[0], 12.0), LIMITS)
    assert fault == "face_px must be at least 24, is 12"


def test_a_face_of_too_few_px_in_one_plane(faces: list[Planes]) -> None:
    assert found(replace(faces[0], face_px=6.0)) == ["face_px"]


def test_a_face_that_is_cut_off(faces: list[Planes]) -> None:
    assert found(replace(faces[0], face_inside=0.4)) == ["face_inside"]


def test_a_modality_that_is_missing_has_no_figures(faces: list[Planes]) -> None:
    figures = measure(replace(faces[0], ir=None, rgb=None, face_px=None))
    assert figures.keys() == {"face_inside", "depth_holes", "depth_agreement", "depth_spread"}


@pytest.mark.parametrize(
    "values",
    [
        {"min_ir": 1},
        {"min_face_px": "8"},
        {"min_face_px": np.nan},
        {"min_face_px": True},
        {"min_face_px": -1},
        {"max_depth_holes": 10**400},
        {"max_depth_holes": 1.1},
        {"min_face_inside": 2},
        {"min_rgb_smoothness": 15.0},
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
