"""The renderer: the same seed, the same picture; each species shows what tells it apart."""

import importlib.util
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("anny") is None and not os.environ.get("CI"):
    pytest.skip("the extra `render` is not installed", allow_module_level=True)

from model.data.planes import crop_planes
from model.render import people
from model.render.attacks import BONA_FIDE, PRINTS, SPECIES
from model.render.holding import hold
from model.render.masks import draw_mask
from model.render.presentation import TROUBLES, Crop, RenderedFrame, Trouble, present
from model.render.view import View

# Warp and Anny warn while they load; neither is ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")


def shown(species: str, seed: int = 5) -> RenderedFrame:
    return next(present(species, 7, 8, seed))


def face(frame: RenderedFrame) -> tuple[slice, slice]:
    x, y, w, h = (round(each) for each in frame.face_box)
    return slice(max(0, y + h // 4), y + 3 * h // 4), slice(max(0, x + w // 4), x + 3 * w // 4)


def relief_mm(frame: RenderedFrame) -> float:
    """Return how far depth strays from the plane that fits the middle of the face best, or NaN."""
    depth = frame.depth[face(frame)].astype(float)
    rows, columns = np.nonzero(depth)
    if not len(rows):
        return float("nan")
    values = depth[rows, columns]
    plane = np.stack([rows, columns, np.ones_like(rows)], 1)
    fitted = plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
    return float(np.median(np.abs(values - fitted)))


@pytest.mark.parametrize("species", [BONA_FIDE, *SPECIES])
def test_a_seed_says_all(species: str) -> None:
    first, second = shown(species), shown(species)
    assert (first.rgb == second.rgb).all()
    assert (first.depth == second.depth).all()
    assert (first.ir == second.ir).all()
    assert first.face_box == second.face_box
    assert (shown(species, 6).rgb != first.rgb).any()
    assert (first.rgb.dtype, first.depth.dtype, first.ir.dtype) == (np.uint8, np.uint16, np.uint8)


def test_each_trouble_spoils_its_own_plane() -> None:
    def spoiled(trouble: Trouble) -> RenderedFrame:
        return next(present(BONA_FIDE, 7, 7, 5, trouble=trouble))

    fine, night, sun, unlit, dusk = map(spoiled, TROUBLES)
    assert night.rgb.mean() < 0.6 * fine.rgb.mean()
    assert unlit.ir.mean() < 0.6 * fine.ir.mean()
    assert unlit.about["emitter"] == 0
    assert dusk.rgb.mean() < 0.6 * fine.rgb.mean()
    assert dusk.ir.mean() < 0.6 * fine.ir.mean()
    # The sun hits two sensors.
    assert contrast(sun.ir) < 0.7 * contrast(fine.ir)


def test_the_sun_blinds_depth_sensors() -> None:
    def holes(trouble: Trouble) -> float:
        frames = [next(present(BONA_FIDE, 7, 7, seed, trouble=trouble)) for seed in range(8)]
        return float(np.mean([(frame.depth[face(frame)] == 0).mean() for frame in frames]))

    assert holes("sun") > 2 * holes("none")


def contrast(plane: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    return float(plane.std() / plane.mean())


def test_a_crop_shows_what_the_whole_picture_shows_there() -> None:
    whole = shown(BONA_FIDE)
    crop = next(present(BONA_FIDE, 7, 8, 5, crop=Crop(124, 0.2)))
    cut = crop_planes(whole.rgb, whole.depth, whole.ir, whole.face_box, 124, 0.2)
    assert cut.depth is not None
    middle = slice(124 // 4, 124 - 124 // 4)
    seen, same = cut.depth[middle, middle].astype(int), crop.depth[middle, middle].astype(int)
    both = (seen > 0) & (same > 0)
    # Each has its own noise.
    assert np.median(seen[both]) == pytest.approx(np.median(same[both]), abs=10)
    assert np.median(np.abs(seen[both] - same[both])) < 30
    assert crop.face_box[2] / 124 == pytest.approx(1 / 1.4, rel=0.5)


def test_a_face_has_relief_and_a_screen_has_none() -> None:
    def reliefs(species: str) -> list[float]:
        seeds = range(10)
        return [relief_mm(next(present(species, 7, 8, each, trouble="none"))) for each in seeds]

    assert np.nanmedian(reliefs(BONA_FIDE)) > 1.5 * np.nanmedian(reliefs("tablet"))


def test_framing_and_distance_are_the_same_for_all_that_is_shown() -> None:
    """Box and distance are drawn before anything depends on what is shown."""
    for species in (BONA_FIDE, *SPECIES):
        assert shown(species).about["distance_m"] == shown("mask").about["distance_m"]
    for species in (*PRINTS, "mask", "tablet"):
        off = []
        for seed in range(8):
            frame = next(present(species, 7, 8, seed, trouble="none"))
            depth = frame.depth[face(frame)]
            if depth.any():
                told_mm = frame.about["distance_m"] * 1000
                off.append(np.median(depth[depth > 0]) - told_mm)
        assert abs(np.median(off)) < 40


def test_instruments_have_the_size_they_are_sold_in() -> None:
    turn, at = np.eye(3, dtype=np.float32), np.array([0, 0, 0.5], np.float32)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        width, height = hold("phone", at, turn, rng).size_m
        assert 0.06 < width < 0.085
        assert 0.13 < height < 0.18
        assert hold("01_e_s", at, turn, rng).size_m[0] <= 0.3


def test_a_mask_has_an_edge_as_high_as_it_is_thick() -> None:
    wearer, target = people.head(3, 0), people.head(4, 0, is_bare=True)
    thick = draw_mask("mask", None, np.random.default_rng(0))
    thin = replace(thick, thick_m=0.0)
    apart = np.linalg.norm(
        thick.put_on(target, wearer).vertices - thin.put_on(target, wearer).vertices, axis=1
    )
    covered = apart > 0
    assert apart[covered] == pytest.approx(thick.thick_m, rel=0.01)
    assert 0.05 < covered.mean() < 0.9
    assert not (covered & (wearer.is_eye > 0.5)).any()


def test_a_sheet_keeps_light_from_what_is_behind_it() -> None:
    turn = np.eye(3, dtype=np.float32)
    view = View(64, 64.0, (32, 32), np.array([0, 0, 0.6], np.float32), turn)
    sheet = hold("tablet", np.array([0, 0, 0.5], np.float32), turn, np.random.default_rng(0))
    covers = np.isfinite(sheet.meet(view)[1])
    towards = np.array([0, 0, -1], np.float32)
    behind, beside, before = (
        np.array([[x, 0, z]], np.float32) for x, z in ((0, 0.7), (0.5, 0.7), (0, 0.4))
    )
    shadow = sheet.before(covers, view)
    assert shadow.blocks(behind, towards).all()
    assert not shadow.blocks(beside, towards).any()
    assert not shadow.blocks(before, towards).any()
    # Light comes through a hole.
    covers[28:36, 28:36] = False
    assert not sheet.before(covers, view).blocks(behind, towards).any()


def test_people_differ_in_hair_and_headwear() -> None:
    skins = [people.skin(number) for number in range(200)]
    assert 10 < sum(skin.hairline_m > 0.5 for skin in skins) < 60
    assert np.percentile([skin.hair_nir for skin in skins], [10, 90]) == pytest.approx(
        [0.11, 0.55], abs=0.06
    )
    kinds = [worn.kind for number in range(200) if (worn := people.headwear(number, 0))]
    assert set(kinds) == {"cap", "beanie", "hood"}
    assert min(kinds.count(kind) for kind in kinds) > 8
