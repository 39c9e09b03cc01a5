"""A rendered data set: its splits, its protocols and its face boxes."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

if importlib.util.find_spec("anny") is None and not os.environ.get("CI"):
    pytest.skip("the extra `render` is not installed", allow_module_level=True)

from model.data.lists import read_list
from model.data.readers import read_samples
from model.render.attacks import BONA_FIDE, PRINTS, SPECIES
from model.render.dataset import RenderConfig, render_dataset

# Warp and Anny warn while they load; neither is ours to fix.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_data_set_is_split_by_subject_and_resumed(tmp_path: Path) -> None:
    config = RenderConfig(
        tmp_path / "set",
        subjects=(2, 1, 1),
        bona_fide=1,
        of_each_print=1,
        of_each_other=1,
        of_each_non_face=1,
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
    for sample in read_samples(config.folder / "grand_test_list.txt"):
        x, y, w, h = sample.face_box or (0, 0, 0, 0)
        # The box lies in the middle, with room around it to move it.
        assert (x + w / 2, y + h / 2) == pytest.approx((80, 80), abs=1)
        assert max(w, h) == pytest.approx(160 / 1.8, abs=1)
    with pytest.raises(FileExistsError, match="other settings"):
        render_dataset(RenderConfig(config.folder, subjects=(3, 1, 1)))
