from pathlib import Path

import pytest

from model.data.lists import ListEntry, ListError, read_list, write_list


@pytest.fixture
def entry(tmp_path: Path) -> ListEntry:
    files = [tmp_path / kind / "1.png" for kind in ("rgb", "depth", "ir")]
    for file in files:
        file.parent.mkdir()
        file.touch()
    return ListEntry(*files, label=1)


def test_a_written_list_reads_back(tmp_path: Path, entry: ListEntry) -> None:
    attack = ListEntry(entry.rgb, entry.depth, entry.ir, label=0)

    write_list(tmp_path / "train_list.txt", [entry, attack])

    assert read_list(tmp_path / "train_list.txt") == [entry, attack]
    text = (tmp_path / "train_list.txt").read_text()
    assert text.splitlines()[0] == "rgb/1.png depth/1.png ir/1.png 1"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rgb/1.png depth/1.png ir/1.png", "3 columns.*without labels"),
        ("rgb/1.png depth/1.png ir/1.png 1 1", "5 columns"),
        ("rgb/1.png depth/1.png ir/1.png 2", "label must be 0 or 1"),
        ("rgb/1.png depth/1.png ir/1.png bona_fide", "label must be 0 or 1"),
        ("rgb/1.png depth/2.png ir/1.png 1", "the depth file .*2.png is not there"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, entry: ListEntry, line: str, says: str) -> None:
    bad = tmp_path / "train_list.txt"
    write_list(bad, [entry])
    bad.write_text(bad.read_text() + line + "\n")

    with pytest.raises(ListError, match=rf"train_list\.txt:2: {says}"):
        read_list(bad)


def test_a_byte_order_mark_is_no_part_of_a_path(tmp_path: Path, entry: ListEntry) -> None:
    path = tmp_path / "train_list.txt"
    write_list(path, [entry])
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_list(path) == [entry]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "val_list.txt").write_text(text)

    with pytest.raises(ListError, match="has no samples"):
        read_list(tmp_path / "val_list.txt")


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ListError, match="can't be read"):
        read_list(tmp_path / "val_list.txt")


def test_nothing_is_written_of_a_bad_list(tmp_path: Path, entry: ListEntry) -> None:
    outside = ListEntry(Path("/rgb.png"), entry.depth, entry.ir, label=0)

    with pytest.raises(ListError, match=r"test_list\.txt:2: /rgb\.png does not lie below"):
        write_list(tmp_path / "test_list.txt", [entry, outside])

    assert not list(tmp_path.glob("*.txt"))
    assert not list(tmp_path.glob(".*"))
