"""Preprocessing: what is cut, what is never blended, what is told to the network."""

import colorsys
from typing import Any

import numpy as np
import pytest
import torch

from model.data.planes import PlaneError, Planes, collate, crop_planes
from model.network.normalise import Normalise, PlaneTensors, face_relative, hsv, ycbcr

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

    def test_colour_spaces(self) -> None:
        rgb = torch.rand(1, 3, 8, 8)
        for at in range(8):
            expected = colorsys.rgb_to_hsv(*rgb[0, :, at, at].tolist())
            assert hsv(rgb)[0, :, at, at].tolist() == pytest.approx(expected, abs=1e-5)
        gray = ycbcr(torch.full((1, 3, 1, 1), 0.25)).flatten()
        assert gray.tolist() == pytest.approx([0.25, 0.5, 0.5])

    @pytest.mark.parametrize("mode", ["face_relative", "casia8"])
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
