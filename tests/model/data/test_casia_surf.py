"""The reader of CASIA-SURF, on a tiny tree of its exact format, right and wrong."""

from pathlib import Path

import pytest

from model.data.dataset import load_dataset
from model.data.lists import ListError
from model.data.readers import DatasetError, read_samples
from tests.model.data.trees import pictures, write

CASIA = "Training/{part}/CLKJ_AS0005/{kind}.rssdk/{modality}/31.jpg"


def casia_line(part: str, kind: str, label: int, order: str = "color depth ir") -> str:
    names = [CASIA.format(part=part, kind=kind, modality=each) for each in order.split()]
    return " ".join([*names, str(label)])


class TestCasiaSurf:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for part, kind in (("real_part", "real"), ("fake_part", "06_enm_b")):
            pictures(
                tmp_path,
                *(
                    CASIA.format(part=part, kind=kind, modality=each)
                    for each in ("color", "depth", "ir")
                ),
            )
        return tmp_path

    def test_official_lists(self, root: Path) -> None:
        path = write(
            root / "train_list.txt",
            casia_line("real_part", "real", 1),
            casia_line("fake_part", "06_enm_b", 0),
        )
        dataset = load_dataset(path, 112)
        assert dataset.species == ("bona_fide", "06_enm_b")
        assert dataset.label.tolist() == [1, 0]
        assert abs(int(dataset.planes.depth[0].mean()) - 60) < 3
        assert abs(int(dataset.planes.ir[0].mean()) - 120) < 3

    def test_lists_whose_paths_say_nothing(self, root: Path) -> None:
        names = [f"Val/0000/000000-{each}.jpg" for each in ("color", "depth", "ir")]
        pictures(root, *names)
        samples = read_samples(write(root / "val_private_list.txt", " ".join([*names, "0"])))
        assert [(each.label, each.species) for each in samples] == [(0, "attack")]

    def test_swapped_columns(self, root: Path) -> None:
        path = write(root / "train_list.txt", casia_line("real_part", "real", 1, "color ir depth"))
        with pytest.raises(ListError, match=r"train_list.txt:1: the depth column .* is of ir"):
            read_samples(path)

    def test_swapped_polarity(self, root: Path) -> None:
        path = write(root / "train_list.txt", casia_line("fake_part", "06_enm_b", 1))
        with pytest.raises(ListError, match=r":1: .* an attack \(06_enm_b\).* 1 must be bona fide"):
            read_samples(path)

    def test_the_full_release_has_lists_of_its_own(self, root: Path) -> None:
        names = [
            CASIA.format(part=part, kind=kind, modality="color")
            for part, kind in (("real_part", "real"), ("fake_part", "06_enm_b"))
        ]
        path = write(root / "CASIA_SURF@p1_image_train.txt", f"{names[0]} 0", f"{names[1]} 1")
        dataset = load_dataset(path, 112)
        assert dataset.label.tolist() == [1, 0]
        assert dataset.species == ("bona_fide", "06_enm_b")
        assert abs(int(dataset.planes.depth[1].mean()) - 60) < 3
        wrong = write(root / "CASIA_SURF@p1_image_dev.txt", f"{names[0]} 1")
        with pytest.raises(ListError, match="0 must be bona fide"):
            read_samples(wrong)

    def test_an_error_names_its_line_past_empty_ones(self, root: Path) -> None:
        good, bad = casia_line("real_part", "real", 1), casia_line("real_part", "real", 0)
        with pytest.raises(ListError, match=r"train_list.txt:4: .* swap the labels"):
            read_samples(write(root / "train_list.txt", good, "", "", bad))

    def test_a_sample_counts_once(self, root: Path) -> None:
        line = casia_line("real_part", "real", 1)
        with pytest.raises(ListError, match=r"list.txt:3: .* is in .*list.txt:1 already"):
            read_samples(write(root / "train_list.txt", line, "", line))

    def test_lists_may_lie_elsewhere(self, root: Path) -> None:
        (root / "lists").mkdir()
        names = casia_line("fake_part", "06_enm_b", 0).split()
        line = " ".join([*(str(root / name) for name in names[:3]), "0"])
        (sample,) = read_samples(write(root / "lists" / "train_list.txt", line))
        assert sample.species == "06_enm_b"

    def test_an_index_that_is_none(self, root: Path) -> None:
        (root / "samples.jsonl").write_text("[1, 2]")
        path = write(root / "train_list.txt", casia_line("real_part", "real", 1))
        with pytest.raises(ListError, match=r"samples.jsonl: is no index"):
            read_samples(path)

    def test_a_picture_that_can_not_be_read(self, root: Path) -> None:
        path = write(root / "train_list.txt", casia_line("real_part", "real", 1))
        broken = root / CASIA.format(part="real_part", kind="real", modality="ir")
        broken.write_bytes(b"no picture")
        (sample,) = read_samples(path)
        with pytest.raises(DatasetError, match=r"ir/31.jpg"):
            sample.load()
