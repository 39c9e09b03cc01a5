"""What a camera started by hand publishes: the sample set, a folder of pictures, or a list file."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, zip_longest
from pathlib import Path

from loadtest.errors import LoadtestError
from loadtest.samples import load_samples
from model.data.lists import read_list
from model.data.planes import MODALITIES
from workers.wire.frame import Codec, EncodedPlane

RENDERED = "rendered"
_CODECS: dict[str, Codec] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


class SourceError(LoadtestError):
    """There is nothing to publish; the message says what was looked for, and where."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A frame to publish.

    Attributes:
        planes: encoded, as they are published.
        face_box: (x, y, w, h) px; None: the planes are face crops.
        name: presentation it is of.
        is_bona_fide: the truth; None where the source does not tell.
    """

    planes: dict[str, EncodedPlane]
    face_box: tuple[float, float, float, float] | None
    name: str
    is_bona_fide: bool | None = None


def open_source(source: str, depth_unit_mm: float = 1.0) -> Iterator[SourceFrame]:
    """Return the frames of a source, over and over.

    Args:
        source: `rendered`; or a folder with the folders `rgb`, `depth` and `ir` (one at least),
            whose files go together by name; or a CASIA-SURF list file.
        depth_unit_mm: millimetres a count of 16-bit depth.

    Raises:
        SourceError: there is no such source, or nothing in it.
        model.data.lists.ListError: the list file breaks a rule.
    """
    if source == RENDERED:
        presentations = load_samples()
        random.Random(0).shuffle(presentations)  # noqa: S311 - bona fide and attacks in turn
        return cycle(
            [
                SourceFrame(
                    frame.planes, frame.face_box, presentation.name, presentation.is_bona_fide
                )
                for presentation in presentations
                for frame in presentation.frames
            ]
        )
    path = Path(source)
    if path.is_dir():
        return _folder(path, depth_unit_mm)
    if path.is_file():
        entries = read_list(path)
        files = [{"rgb": each.rgb, "depth": each.depth, "ir": each.ir} for each in entries]
        return _files(files, depth_unit_mm, [each.label == 1 for each in entries])
    raise SourceError(f"{source}: neither `{RENDERED}`, nor a folder, nor a list file")


def _folder(folder: Path, depth_unit_mm: float) -> Iterator[SourceFrame]:
    by_stem: dict[str, dict[str, Path]] = {}
    for modality in MODALITIES:
        for file in sorted((folder / modality).glob("*")):
            if file.suffix.lower() in _CODECS:
                by_stem.setdefault(file.stem, {})[modality] = file
    if not by_stem:
        raise SourceError(f"{folder}: no .jpg or .png in its folders rgb, depth or ir")
    return _files([by_stem[stem] for stem in sorted(by_stem)], depth_unit_mm)


def _files(
    frames: list[dict[str, Path]], depth_unit_mm: float, truths: Sequence[bool | None] = ()
) -> Iterator[SourceFrame]:
    """Read each frame when its turn comes: a list may name more pictures than fit in memory."""
    for files, truth in cycle(zip_longest(frames, truths)):
        planes = {}
        for modality, file in files.items():
            codec = _CODECS.get(file.suffix.lower())
            if codec is None:
                raise SourceError(f"{file}: not a .jpg or .png file")
            unit_mm = depth_unit_mm if modality == "depth" else 1.0
            planes[modality] = EncodedPlane(codec, file.read_bytes(), unit_mm=unit_mm)
        yield SourceFrame(planes, None, next(iter(files.values())).stem, truth)
