"""Tampering changes what it says, where it says, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from model.data.planes import crop_planes
from model.data.quality import QualityLimits, faults, measure
from model.data.tampering import (
    Face,
    box_moved,
    ellipsoid,
    grey_as_ir,
    holes_filled,
    noised,
    replaced,
    shaded_ellipse,
    shifted,
    with_holes,
)


def some_face(seed: int = 0, side: int = 80) -> Face:
    """Return noise with a bright, near square where the face is; colour has twice the px."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(40, 60, (2 * side, 2 * side, 3), np.uint8)
    depth = rng.integers(900, 910, (side, side)).astype(np.uint16)
    ir = rng.integers(40, 60, (side, side), np.uint8)
    x, y, w, h = (each * side // 80 for each in (30, 20, 20, 40))
    rgb[2 * y : 2 * (y + h), 2 * x : 2 * (x + w)] += 100
    depth[y : y + h, x : x + w] -= 300
    ir[y : y + h, x : x + w] += 100
    return Face("bona_fide", rgb, depth, ir, (2 * x, 2 * y, 2 * w, 2 * h))


FACE, OTHER = some_face(), some_face(1)
RNG = np.random.default_rng(5)


def test_holes_are_filled_from_the_nearest_pixel() -> None:
    depth = FACE.depth.copy()
    depth[25:30, 32:36] = 0
    depth[70:] = 0
    face = replace(FACE, depth=depth)
    filled = holes_filled()(face, OTHER, RNG).depth
    assert (filled[depth > 0] == depth[depth > 0]).all()
    assert (filled[25:30, 32:36] < 620).all()
    assert (filled[70:] >= 900).all()
    upper = holes_filled(1 / 3)(face, OTHER, RNG).depth
    assert (upper[25:30] > 0).all()
    assert (upper[70:] == 0).all()
    blind = replace(FACE, depth=np.zeros_like(depth))
    assert (holes_filled()(blind, OTHER, RNG).depth == 0).all()


def test_holes_are_added_in_their_share_and_region() -> None:
    holes = with_holes(0.2)(FACE, OTHER, RNG).depth == 0
    assert holes.mean() == pytest.approx(0.2, abs=0.01)
    upper = with_holes(0.3, 1 / 3)(FACE, OTHER, RNG).depth == 0
    assert not upper[20 + 14 :].any()
    assert upper[: 20 + 13].mean() > 0.1


def test_a_moved_box_stays_within_its_bounds() -> None:
    for _ in range(50):
        moved = box_moved(0.1, 0.2)(FACE, OTHER, RNG)
        x, y, w, h = moved.box
        assert 0.8 * 40 <= w <= 1.2 * 40
        assert w / h == pytest.approx(0.5)
        assert abs(x + w / 2 - 80) <= 8
        assert abs(y + h / 2 - 80) <= 8
        assert moved.rgb is FACE.rgb


@pytest.mark.parametrize("name", ["rgb", "depth", "ir"])
def test_one_plane_changes_and_no_other(name: str) -> None:
    for change in (noised(name), replaced(name), shifted(name, 0.25)):
        changed = change(FACE, OTHER, RNG)
        for each in ("rgb", "depth", "ir"):
            same = np.array_equal(getattr(changed, each), getattr(FACE, each))
            assert same == (each != name)
        plane = getattr(changed, name)
        assert plane.shape == getattr(FACE, name).shape
        assert plane.dtype == getattr(FACE, name).dtype


def test_the_face_of_a_replaced_plane_lies_where_the_own_one_does() -> None:
    larger = some_face(2, 160)
    for name in ("rgb", "depth", "ir"):
        far = replace(larger, depth=larger.depth + np.uint16(400))
        own, put = getattr(FACE, name), getattr(replaced(name)(FACE, far, RNG), name)
        inside = slice(24, 56) if name != "rgb" else slice(48, 112)
        scale = 2 if name == "rgb" else 1
        columns = slice(33 * scale, 47 * scale)
        assert np.median(put[inside, columns]) == pytest.approx(
            np.median(own[inside, columns]), abs=12
        )


def test_a_shift_is_as_long_as_it_says() -> None:
    moved = shifted("ir", 0.25)(FACE, OTHER, RNG).ir
    before, after = (np.argwhere(plane > 100).mean(0) for plane in (FACE.ir, moved))
    assert np.hypot(*(after - before)) == pytest.approx(10, abs=1)


def test_colour_turned_grey_is_sent_as_infrared() -> None:
    grey = grey_as_ir(FACE, OTHER, RNG)
    assert np.array_equal(grey.rgb, FACE.rgb)
    assert np.median(grey.ir[60:100, 70:90]) == pytest.approx(150, abs=8)


def test_what_is_invented_passes_the_gates() -> None:
    for seed in range(20):
        face = shaded_ellipse(some_face(0, 160), OTHER, np.random.default_rng(seed))
        planes = crop_planes(face.rgb, face.depth, face.ir, face.box, 112, 0.13)
        assert not faults(measure(planes, None), QualityLimits())
    depth = ellipsoid(FACE, OTHER, RNG).depth
    assert depth[40, 40] == pytest.approx(depth.min(), abs=1)
