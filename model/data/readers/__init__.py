"""Data sets as they are distributed, read in place: their lists, polarities and column orders.

    rgb depth ir label      CASIA-SURF, official (train_list.txt, *_private_list.txt) and rendered
                            sets; 1 = bona fide
    color/0001.jpg label    the CASIA family's protocol lists (CASIA_SURF@p1_image_train.txt,
                            CASIA_CeFA@p4.1_image_train.txt); 0 = bona fide
    1_001_1_1_1 label       CeFA's lists of videos (4@1_train.txt); 0 = bona fide
    018_02_000_3_10.hdf5    WMCA, preprocessed: gray or RGB, depth, infrared, thermal in one file
    part0.csv#train         PADISI-Face: a partition file and the part of it that is meant

Polarity differs between these families, and public loaders have swapped columns. So whatever a path
says of its own sample (`real_part`, the PAI number in its name, `depth` in its folder) is held
against the list, and a list that contradicts its paths is refused.

Sources: the read-me files of CASIA-FAS-Dataset, of PADISI_USC_Dataset and of bob.db.batl.
"""

from pathlib import Path

from model.data.lists import ListError, read_lines
from model.data.readers import casia, padisi, wmca
from model.data.readers.sample import DatasetError, Sample

__all__ = ["DatasetError", "Sample", "read_samples"]


def read_samples(path: Path) -> list[Sample]:
    """Return the samples that a list names; nothing is decoded yet.

    Raises:
        model.data.lists.ListError: the list is none of the known ones, breaks a rule of its family,
            contradicts its own paths, names a sample twice, or is empty.
        DatasetError: a container that holds several samples can't be read.
    """
    if padisi.is_partition(path):
        samples = list(padisi.read(path))
    else:
        lines = read_lines(path)
        first = lines[0][1].split() if lines else []
        if wmca.is_file_name(first):
            samples = list(wmca.read(path, lines))
        elif len(first) == 2:
            samples = list(casia.read_two_columns(path, lines))
        else:
            samples = list(casia.read_four_columns(path, lines))
    if not samples:
        raise ListError(f"{path}: has no samples")
    first_at: dict[str, str] = {}
    for sample in samples:
        if first_at.setdefault(sample.name, sample.where) != sample.where:
            raise ListError(
                f"{sample.where}: {sample.name} is in {first_at[sample.name]} already: rates and "
                "intervals count each sample once; take one of the lines out"
            )
    return samples
