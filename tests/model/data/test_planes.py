"""Preprocessing: what is cut, what is never blended, what is told to the network."""

import colorsys
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from model.data.planes import PlaneError, Planes, collate, crop_planes, in_millimetres
from model.network.normalise import Normalise, PlaneTensors, face_filled, face_relative, hsv, ycbcr

RGB = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
DEPTH = np.random.default_rng(1).choice(np.array([0, 500, 900], np.uint16), (40, 40))
IR = RGB[..., 0].copy()


class TestCrop:
    def test_the_square_covers_the_box_and_its_margin(self) -> None:
        plane = np.zeros((100, 100), np.uint8)
        plane[30:70, 40:60] = 255
        cut = crop_planes(None, None, plane, (40, 30, 20, 40), 56, 0.2).ir
        assert cut is not None
        # 40 px high, a margin of 8 px on each side: 56 px in all, so nothing is resized.
        assert cut[8:48, 18:38].min() == 255
        assert cut.sum() == plane.sum()

    def test_what_lies_outside_is_black(self) -> None:
        cut = crop_planes(np.full((40, 40, 3), 200, np.uint8), None, None, (-20, 0, 40, 40), 40, 0)
        assert cut.rgb is not None
        assert (cut.rgb[:, :20] == 0).all()
        assert (cut.rgb[:, 20:] == 200).all()

    def test_what_lies_inside_is_where_it_was(self) -> None:
        """All corners and edges of a plane, as if the border were there."""
        plane = np.random.default_rng(2).integers(1, 255, (60, 60, 3), np.uint8)
        padded = np.pad(plane, ((60, 60), (60, 60), (0, 0)))
        for size in (20, 40):
            for x, y in ((-20, -20), (-10, 10), (40, -10), (44, 44), (10, 42), (-10, -10)):
                box, same = (x, y, 40, 40), (x + 60, y + 60, 40, 40)
                cut = crop_planes(plane, None, None, box, size, 0.0).rgb
                wanted = crop_planes(padded, None, None, same, size, 0.0).rgb
                assert cut is not None
                assert wanted is not None
                assert np.array_equal(cut, wanted)

    def test_a_border_is_never_made(self) -> None:
        plane, grey = np.full((1000, 1000, 3), 90, np.uint8), np.full((1000, 1000), 90, np.uint8)
        tracemalloc.start()
        try:
            for box in ((-3900, -3900, 4000, 4000), (-1500, -1500, 4000, 4000), (999, 0, 1000, 1)):
                cut = crop_planes(plane, grey, grey, box, 112, 1.0)
                assert cut.rgb is not None
                assert cut.rgb.shape == (112, 112, 3)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_a_box_that_hardly_touches_the_plane(self) -> None:
        for box in ((39.9, 39.9, 5, 5), (-4.9, 0, 5, 5), (0, -4.999, 5, 5)):
            cut = crop_planes(RGB, DEPTH, IR, box, 32, 0.0)
            assert cut.present == ("rgb", "depth", "ir")
            assert cut.face_px is not None
            assert cut.face_px < 0.2
            assert cut.face_inside < 0.2

    def test_planes_of_one_scene_have_one_aspect_ratio(self) -> None:
        box = (5, 5, 20, 20)
        odd = np.zeros((13, 14), np.uint8)  # a third of 40 px, rounded up and down
        assert crop_planes(RGB, None, odd, box, 32, 0.0).ir is not None
        with pytest.raises(PlaneError, match=r"rgb is 40 x 40 px and depth 30 x 40"):
            crop_planes(RGB, DEPTH[:30], None, box, 32, 0.0)
        # Crops that are made of each plane by itself are squeezed into the square alike.
        assert crop_planes(RGB, DEPTH[:30], None, None, 32, 0.0).depth is not None

    def test_how_much_of_the_face_there_is(self) -> None:
        big = np.zeros((400, 400), np.uint8)
        cut = crop_planes(RGB, None, big, (10, 10, 20, 24), 32, 0.2)
        assert (cut.face_px, cut.face_inside) == (20, 1)
        small = crop_planes(RGB, None, np.zeros((10, 10), np.uint8), (10, 10, 20, 24), 32, 0.2)
        assert small.face_px == 5
        outside = crop_planes(RGB, None, None, (-10, 10, 20, 20), 32, 0.2)
        assert (outside.face_px, outside.face_inside) == (10, 0.5)
        crop = crop_planes(RGB, DEPTH[:30], None, None, 32, 0.2)
        assert (crop.face_px, crop.face_inside) == (30, 1)

    def test_the_kind_of_depth(self) -> None:
        assert crop_planes(None, DEPTH, None, None, 32, 0.0).depth_kind == "millimetres"
        counts = crop_planes(None, IR, None, None, 32, 0.0)
        assert counts.depth_kind == "8-bit"
        assert in_millimetres(counts, 4.0) is counts

    def test_depths_are_never_blended(self) -> None:
        for size in (17, 32, 90):
            cut = crop_planes(None, DEPTH, None, (3, 3, 30, 30), size, 0.1).depth
            assert cut is not None
            assert set(np.unique(cut).tolist()) <= {0, 500, 900}

    def test_planes_of_other_sizes_show_the_same_part(self) -> None:
        small = np.zeros((40, 40), np.uint8)
        small[10:20, 10:20] = 255
        big = np.kron(small, np.ones((3, 3), np.uint8))
        cut = crop_planes(np.dstack([small] * 3), None, big, (10, 10, 10, 10), 20, 0.5)
        assert cut.rgb is not None
        assert cut.ir is not None
        assert np.abs(cut.rgb[..., 0].astype(int) - cut.ir).mean() < 12

    def test_without_a_box_the_whole_plane_is_taken(self) -> None:
        assert np.array_equal(crop_planes(RGB, None, None, None, 40, 0.2).rgb, RGB)

    @pytest.mark.parametrize(
        ("planes", "box"),
        [
            ((None, None, None), None),
            ((IR, None, None), None),
            ((RGB.astype(np.float32), None, None), None),
            ((None, DEPTH.astype(np.int32), None), None),
            ((None, None, DEPTH), None),
            ((RGB[:0], None, None), None),
            ((RGB, None, None), (40, 0, 5, 5)),
            ((RGB, None, None), (-9, 0, 5, 5)),
            ((RGB, None, None), (0, 0, 1e6, 1)),
            ((RGB, None, None), (float("nan"), 0, 5, 5)),
            ((RGB, None, None), (0, 0, float("inf"), 5)),
            ((RGB, None, None), (float("-inf"), 0, float("inf"), 5)),
            ((RGB, None, None), (5, 5, -3, -3)),
        ],
    )
    def test_what_can_not_be_cut_is_refused(self, planes: Any, box: Any) -> None:
        with pytest.raises(PlaneError):
            crop_planes(*planes, box, 32, 0.2)


class TestCollate:
    def test_missing_planes_are_zero_and_marked(self) -> None:
        batch = collate([Planes(rgb=RGB), Planes(depth=DEPTH, ir=IR)])
        assert batch.present.tolist() == [[True, False, False], [False, True, True]]
        assert not batch.depth[0].any()
        assert np.array_equal(batch.ir[1], IR)

    @pytest.mark.parametrize(
        "planes",
        [
            [],
            [Planes()],
            [Planes(ir=IR), Planes(ir=IR[:32, :32])],
            [Planes(ir=IR.astype(np.uint16))],
            [Planes(rgb=IR)],
        ],
    )
    def test_what_does_not_fit_is_refused(self, planes: list[Planes]) -> None:
        with pytest.raises(PlaneError):
            collate(planes)


class TestNormalise:
    def test_depth_is_told_relative_to_the_face(self) -> None:
        depth = torch.full((1, 1, 8, 8), 600.0)
        depth[0, 0, 0] = torch.tensor([0, 300, 525, 600, 675, 750, 900, 5000.0])
        told = face_relative(depth)[0, 0, 0]
        assert told.tolist() == [-1, 1, 0.5, 0, -0.5, -1, -1, -1]

    def test_it_does_not_matter_how_far_away_the_face_is(self) -> None:
        depth = torch.randint(500, 640, (2, 1, 16, 16)).float()
        assert torch.allclose(face_relative(depth), face_relative(depth + 250))

    def test_a_plane_of_holes_is_finite(self) -> None:
        assert (face_relative(torch.zeros(1, 1, 8, 8)) == -1).all()

    def test_holes_are_filled_from_around_and_what_is_known_stays(self) -> None:
        depth = torch.full((2, 1, 23, 23), 600.0)
        depth[:, :, :, 12:] = 675
        holed = depth.clone()
        holed[0, :, 2:9, 1:8] = 0
        holed[0, :, 5:20, 15:22] = 0
        holed[1] = 0
        told, whole = face_filled(holed), face_filled(depth)
        assert torch.allclose(told[0], whole[0], atol=0.05)
        assert torch.equal(told[holed > 0], whole[holed > 0])
        assert (told[1] == 0).all()

    def test_how_many_holes_there_are_says_nothing(self) -> None:
        rows = torch.linspace(560, 640, 32).view(1, 1, 32, 1).expand(1, 1, 32, 32)
        salt = torch.where(torch.rand(1, 1, 32, 32) < 0.3, torch.zeros(()), rows)
        assert (face_filled(salt) - face_filled(rows)).abs().max() < 0.1

    def test_colour_spaces(self) -> None:
        rgb = torch.rand(1, 3, 8, 8)
        for at in range(8):
            expected = colorsys.rgb_to_hsv(*rgb[0, :, at, at].tolist())
            assert hsv(rgb)[0, :, at, at].tolist() == pytest.approx(expected, abs=1e-5)
        gray = ycbcr(torch.full((1, 3, 1, 1), 0.25)).flatten()
        assert gray.tolist() == pytest.approx([0.25, 0.5, 0.5])

    @pytest.mark.parametrize("mode", ["face_filled", "face_relative", "casia8"])
    def test_views_are_bounded(self, mode: Any) -> None:
        stored = PlaneTensors(
            torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8),
            torch.randint(0, 256, (2, 8, 8)).to(torch.uint16),
            torch.randint(0, 256, (2, 8, 8), dtype=torch.uint8),
            torch.ones(2, 3, dtype=torch.bool),
        )
        views = ("rgb", "depth", "ir", "hsv", "ycbcr")
        for view in Normalise(views, mode)(stored):
            assert view.abs().max() <= 1.001
