"""The renderer: the same seed, the same picture; each species shows what tells it apart."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("anny") is None and not os.environ.get("CI"):
    pytest.skip("the extra `render` is not installed", allow_module_level=True)

from model.data.lists import read_list
from model.data.planes import crop_planes
from model.render.attacks import BONA_FIDE, PRINTS, SPECIES
from model.render.dataset import RenderConfig, render_dataset
from model.render.presentation import TROUBLES, Crop, RenderedFrame, Trouble, present

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


def test_each_trouble_spoils_its_own_plane() -> None:
    def spoiled(trouble: Trouble) -> RenderedFrame:
        return next(present(BONA_FIDE, 7, 7, 5, trouble=trouble))

    fine, night, sun, unlit = map(spoiled, TROUBLES)
    assert night.rgb.mean() < 0.6 * fine.rgb.mean()
    assert (sun.depth[face(sun)] == 0).mean() > 3 * (fine.depth[face(fine)] == 0).mean()
    assert unlit.ir.mean() < 0.6 * fine.ir.mean()
    assert unlit.about["emitter"] == 0


def test_a_crop_shows_what_the_whole_picture_shows_there() -> None:
    whole = shown(BONA_FIDE)
    crop = next(present(BONA_FIDE, 7, 8, 5, crop=Crop(124, 0.2)))
    cut = crop_planes(whole.rgb, whole.depth, whole.ir, whole.face_box, 124, 0.2)
    assert cut.depth is not None
    both = (cut.depth > 0) & (crop.depth > 0)
    assert np.median(np.abs(cut.depth[both].astype(int) - crop.depth[both])) < 10
    assert crop.face_box[2] / 124 == pytest.approx(1 / 1.4, rel=0.5)


def test_a_face_has_relief_and_a_screen_has_none() -> None:
    def reliefs(species: str) -> list[float]:
        seeds = range(6)
        return [relief_mm(next(present(species, 7, 8, each, trouble="none"))) for each in seeds]

    assert np.median(reliefs(BONA_FIDE)) > 1.5 * np.median(reliefs("tablet"))


def test_a_data_set_is_split_by_subject_and_resumed(tmp_path: Path) -> None:
    config = RenderConfig(
        tmp_path / "set",
        subjects=(2, 1, 1),
        bona_fide=1,
        of_each_print=1,
        of_each_other=1,
        of_each_test_print=2,
        processes=1,
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
    rows = [json.loads(line) for line in (config.folder / "samples.jsonl").open()]
    of = {f"subject-{row['subject']:06d}/{row['name']}_rgb.jpg": row for row in rows}

    def protocol(name: str) -> tuple[set[str], set[str]]:
        """Return the species, and the depth sensors, that a list has."""
        entries = read_list(config.folder / f"{name}_list.txt")
        found = [of[entry.rgb.relative_to(config.folder).as_posix()] for entry in entries]
        return {row["species"] for row in found}, {row["sensor"] for row in found}

    assert protocol("grand_test")[0] == {BONA_FIDE, *SPECIES}
    assert protocol("cross-attack_train")[0] == {BONA_FIDE, *PRINTS[3:]}
    assert protocol("cross-attack_test")[0] == {BONA_FIDE, *PRINTS[:3]}
    assert protocol("without-phone_train")[0] == {BONA_FIDE, *SPECIES} - {"phone"}
    assert protocol("without-print_test")[0] == {BONA_FIDE, *PRINTS}
    assert protocol("sensor-shift_train")[1] == {"stereo"}
    assert protocol("sensor-shift_test")[1] == {"tof"}
    with pytest.raises(FileExistsError, match="other settings"):
        render_dataset(RenderConfig(config.folder, subjects=(3, 1, 1)))
