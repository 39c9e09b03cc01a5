"""The renderer: the same seed, the same picture; each species shows what tells it apart."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("anny") is None and not os.environ.get("CI"):
    pytest.skip("the extra `render` is not installed", allow_module_level=True)

from model.lists import read_list
from model.render.attacks import BONA_FIDE, PRINTS, SCREENS, SPECIES
from model.render.dataset import RenderConfig, render_dataset
from model.render.presentation import RenderedFrame, present

# Warp and Anny warn while they load; neither is ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")


def shown(species: str, seed: int = 5) -> RenderedFrame:
    return next(present(species, 7, 8, seed))


def face(frame: RenderedFrame) -> tuple[slice, slice]:
    x, y, w, h = (round(each) for each in frame.face_box)
    return slice(max(0, y + h // 4), y + 3 * h // 4), slice(max(0, x + w // 4), x + 3 * w // 4)


def relief_mm(frame: RenderedFrame) -> float:
    """Return how far depth strays from the plane that fits the middle of the face best."""
    depth = frame.depth[face(frame)].astype(float)
    rows, columns = np.nonzero(depth)
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


def test_a_face_has_relief_and_a_flat_sheet_has_none() -> None:
    flat = [name for name in (*PRINTS, *SCREENS) if not name.endswith("_b")]
    faces = [relief_mm(shown(BONA_FIDE, seed)) for seed in range(6)]
    sheets = [relief_mm(shown(flat[seed % 3 * 2], seed)) for seed in range(6)]
    assert np.median(faces) > 1.5 * np.median(sheets)


def test_a_data_set_is_split_by_subject_and_resumed(tmp_path: Path) -> None:
    config = RenderConfig(
        tmp_path / "set", subjects=(2, 1, 1), bona_fide=1, of_each_print=1, processes=1
    )
    render_dataset(config)
    splits = {
        split: {
            entry.rgb.parent.name for entry in read_list(config.folder / f"grand_{split}_list.txt")
        }
        for split in ("train", "val", "test")
    }
    assert [len(each) for each in splits.values()] == [2, 1, 1]
    assert len(set.union(*splits.values())) == 4
    stamps = {path: path.stat().st_mtime_ns for path in config.folder.rglob("*_rgb.jpg")}
    render_dataset(config)
    assert stamps == {path: path.stat().st_mtime_ns for path in config.folder.rglob("*_rgb.jpg")}
    cross = read_list(config.folder / "cross-attack_train_list.txt")
    assert len(cross) == 2 * (1 + 3)
    with pytest.raises(FileExistsError, match="other settings"):
        render_dataset(RenderConfig(config.folder, subjects=(3, 1, 1)))
