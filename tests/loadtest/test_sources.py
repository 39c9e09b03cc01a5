"""What a camera can play: the sample set, a folder, a list."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from loadtest.samples import SampleError, load_samples
from loadtest.sources import SourceError, open_source
from workers.client.camera import jpeg, png
from workers.replica.decode import decode
from workers.wire.frame import Frame


def write_frames(folder: Path, count: int = 3) -> None:
    for modality in ("rgb", "depth", "ir"):
        (folder / modality).mkdir(parents=True)
    for number in range(count):
        stem = f"{number:03d}"
        rgb = np.full((32, 32, 3), number, np.uint8)
        (folder / "rgb" / f"{stem}.jpg").write_bytes(jpeg(rgb).data)
        (folder / "depth" / f"{stem}.png").write_bytes(png(np.full((32, 32), 500, np.uint16)).data)
        (folder / "ir" / f"{stem}.jpg").write_bytes(jpeg(rgb[..., 0]).data)


def test_the_sample_set_is_whole_and_decodes() -> None:
    samples = load_samples()
    assert len(samples) >= 50
    assert {each.is_bona_fide for each in samples} == {True, False}
    assert len({each.species for each in samples}) == 12
    for sample in samples:
        assert sample.is_bona_fide == (sample.species == "bona_fide")
        for frame in sample.frames:
            planes = decode(Frame("c", 1, 1, frame.planes, None, frame.face_box), 112, 0.13)
            assert planes.present == ("rgb", "depth", "ir")


@pytest.mark.parametrize("text", ["", "{}", "[{}]", '[{"id": 1, "frames": []}]'])
def test_a_broken_sample_set_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(SampleError, match=r"samples\.json"):
        load_samples(tmp_path)


def test_a_folder_plays_over_and_over(tmp_path: Path) -> None:
    write_frames(tmp_path)
    names = [frame.name for frame in islice(open_source(str(tmp_path)), 7)]
    assert names == ["000", "001", "002"] * 2 + ["000"]


def test_a_list_plays_its_files(tmp_path: Path) -> None:
    write_frames(tmp_path)
    line = "rgb/{0}.jpg depth/{0}.png ir/{0}.jpg 1\n"
    (tmp_path / "list.txt").write_text(line.format("002") + line.format("001"))
    first, second = islice(open_source(str(tmp_path / "list.txt"), depth_unit_mm=0.5), 2)
    assert (first.name, second.name) == ("002", "001")
    assert first.planes["depth"].unit_mm == 0.5
    assert set(first.planes) == {"rgb", "depth", "ir"}


def test_where_there_is_nothing_it_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="rgb, depth or ir"):
        open_source(str(tmp_path))
    with pytest.raises(SourceError, match="neither"):
        open_source(str(tmp_path / "gone"))
