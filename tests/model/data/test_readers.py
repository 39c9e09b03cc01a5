"""The readers of CeFA, WMCA and PADISI, on tiny trees of their exact format, right and wrong."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from model.data.dataset import load_dataset
from model.data.lists import ListError
from model.data.readers import DatasetError, read_samples
from tests.model.data.trees import pictures, write


class TestCefa:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        for video in ("1_001_1_1_1", "1_001_3_1_4"):
            for each in ("profile", "depth", "ir"):
                for number in (1, 2):
                    pictures(tmp_path, f"train/{video}/{each}/000{number}.jpg")
        return tmp_path

    def test_videos(self, root: Path) -> None:
        path = write(root / "4@1_train.txt", "train/1_001_1_1_1 0", "train/1_001_3_1_4 1")
        samples = read_samples(path)
        assert [each.species for each in samples] == ["bona_fide"] * 2 + ["screen"] * 2
        rgb, depth, ir = samples[0].load()
        assert [abs(int(each.mean()) - level) < 3 for each, level in ((depth, 60), (ir, 120))]
        assert rgb.shape == (40, 32, 3)

    def test_images(self, root: Path) -> None:
        path = write(root / "4@1_dev.txt", "train/1_001_3_1_4/profile/0001.jpg 1")
        (sample,) = read_samples(path)
        assert (sample.label, sample.species) == (0, "screen")

    def test_swapped_polarity(self, root: Path) -> None:
        path = write(root / "4@1_train.txt", "train/1_001_1_1_1 1")
        with pytest.raises(ListError, match="0 must be bona fide; swap the labels"):
            read_samples(path)

    def test_a_name_that_says_nothing(self, root: Path) -> None:
        path = write(root / "4@1_train.txt", "train/somebody 1")
        with pytest.raises(ListError, match="polarity can't be checked"):
            read_samples(path)

    def test_what_file_managers_leave_behind(self, root: Path) -> None:
        folder = root / "train/1_001_1_1_1/profile"
        for name in (".DS_Store", "._0001.jpg", "Thumbs.db", "desktop.ini", ".directory"):
            (folder / name).write_bytes(b"no picture")
        (folder / "@eaDir").mkdir()
        samples = read_samples(write(root / "4@1_train.txt", "train/1_001_1_1_1 0"))
        assert [each.name[-8:] for each in samples] == ["0001.jpg", "0002.jpg"]

    def test_a_video_without_pictures(self, root: Path) -> None:
        for file in (root / "train/1_001_1_1_1/profile").iterdir():
            file.rename(file.with_name(f".{file.name}"))
        with pytest.raises(ListError, match=r"train.txt:1: .*profile has no pictures"):
            read_samples(write(root / "4@1_train.txt", "train/1_001_1_1_1 0"))

    def test_an_image_that_is_missing(self, root: Path) -> None:
        (root / "train/1_001_1_1_1/ir/0002.jpg").unlink()
        path = write(root / "4@1_train.txt", "train/1_001_1_1_1 0")
        with pytest.raises(ListError, match=r"ir/0002.jpg is not there"):
            read_samples(path)


class TestWmca:
    def write(self, path: Path, channels: int) -> None:
        array = np.stack([np.full((128, 128), 10 * each, np.uint8) for each in range(channels)])
        with h5py.File(path, "w") as file:
            for number in (0, 10, 2):
                file.create_group(f"Frame_{number}").create_dataset("array", data=array)

    @pytest.mark.parametrize("channels", [4, 6])
    def test_types_come_from_the_names(self, tmp_path: Path, channels: int) -> None:
        names = ["035_01_000_0_00.hdf5", "018_02_000_3_10.hdf5", "530_03_001_2_18.hdf5"]
        for name in names:
            self.write(tmp_path / name, channels)
        samples = read_samples(write(tmp_path / "train.txt", *names))
        assert [each.species for each in samples[::3]] == ["bona_fide", "photo", "fake_face"]
        assert [each.name.rsplit("_", 1)[1] for each in samples[:3]] == ["0", "2", "10"]
        rgb, depth, ir = samples[0].load()
        assert (depth[0, 0], ir[0, 0]) == (10 * (channels - 3), 10 * (channels - 2))
        assert rgb[0, 0].tolist() == ([0, 0, 0] if channels == 4 else [0, 10, 20])
        assert len(load_dataset(tmp_path / "train.txt", 112)) == 9

    def test_other_channels_are_refused(self, tmp_path: Path) -> None:
        self.write(tmp_path / "035_01_000_0_00.hdf5", 5)
        sample, *_ = read_samples(write(tmp_path / "train.txt", "035_01_000_0_00.hdf5"))
        with pytest.raises(DatasetError, match="4 or 6"):
            sample.load()

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        name = "035_01_000_0_00.hdf5"
        (tmp_path / name).write_bytes(b"no HDF5")
        with pytest.raises(DatasetError, match="can't be read as HDF5"):
            read_samples(write(tmp_path / "train.txt", name))
        with h5py.File(tmp_path / name, "w") as file:
            file.create_group("Frame_0")
        (sample,) = read_samples(tmp_path / "train.txt")
        with pytest.raises(DatasetError, match="Frame_0 has no readable `array`"):
            sample.load()

    def test_other_names_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ListError, match="client_session_presenter_type_pai"):
            read_samples(write(tmp_path / "train.txt", "somebody.hdf5"))


class TestPadisi:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        rows = [("t1", "r1", "neutral", "m00000"), ("t2", "r1", "glasses", "m50602")]
        (tmp_path / "multi_channel").mkdir()
        for transaction, trial, name, _ in rows:
            data = np.zeros((1, 22, 64, 48), np.float32)
            data[0, :5] = np.array([0.1, 0.2, 0.3, 0.5, 700 / 65535])[:, None, None]
            file = tmp_path / "multi_channel" / f"ID_{transaction}_{trial}_{name}.npz"
            np.savez_compressed(file, data=data)
        self.write_table(
            tmp_path / "padisi_USC_FACE_ground_truth.csv",
            [["transaction_id", "trial_id", "trial_name", "ground_truth"], *map(list, rows)],
        )
        return self.write_table(
            tmp_path / "part0.csv",
            [
                ["transaction_id", "trial_id", "trial_name", "partition_name"],
                ["t1", "r1", "neutral", "train"],
                ["t2", "r1", "glasses", "test"],
            ],
        )

    def write_table(self, path: Path, rows: list[list[str]]) -> Path:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        return path

    def test_a_part(self, table: Path) -> None:
        (sample,) = read_samples(table.with_name("part0.csv#train"))
        assert (sample.label, sample.species) == (1, "bona_fide")
        rgb, depth, ir = sample.load()
        assert rgb[0, 0].tolist() == [round(0.3 * 255), round(0.2 * 255), round(0.1 * 255)]
        assert (depth[0, 0], ir[0, 0]) == (700, 128)
        (attack,) = read_samples(table.with_name("part0.csv#test"))
        assert (attack.label, attack.species) == (0, "code_06")

    def test_a_part_that_is_not_there(self, table: Path) -> None:
        with pytest.raises(ListError, match="there are test, train"):
            read_samples(table.with_name("part0.csv#valid"))

    def test_a_file_that_is_none(self, table: Path) -> None:
        (table.parent / "multi_channel" / "ID_t1_r1_neutral.npz").write_bytes(b"PK no zip")
        (sample,) = read_samples(table.with_name("part0.csv#train"))
        with pytest.raises(DatasetError, match=r"ID_t1_r1_neutral.npz: can't be read"):
            sample.load()

    def test_a_file_that_is_not_there(self, table: Path) -> None:
        (table.parent / "multi_channel" / "ID_t1_r1_neutral.npz").unlink()
        with pytest.raises(ListError, match=r"part0.csv:2: ID_t1_r1_neutral.npz is in none of"):
            read_samples(table.with_name("part0.csv#train"))


def test_what_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="wanted 4"):
        read_samples(write(tmp_path / "list.txt", "a b c d e"))
    with pytest.raises(ListError, match="can't be read"):
        read_samples(tmp_path / "missing.txt")
    with pytest.raises(ListError, match="no samples"):
        read_samples(write(tmp_path / "empty.txt"))
