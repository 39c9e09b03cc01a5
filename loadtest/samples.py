"""The shipped sample set: rendered presentations that simulated cameras play.

The set is described in `loadtest/samples/README.md`; its subjects are none that the shipped
model bundle was trained or calibrated on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.errors import LoadtestError
from workers.wire.frame import EncodedPlane

SAMPLES = Path(__file__).parent / "samples"


class SampleError(LoadtestError):
    """The sample set can't be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class SampleFrame:
    """One camera frame.

    Attributes:
        planes: encoded, as they are published.
        face_box: (x, y, w, h) px in the RGB plane.
    """

    planes: dict[str, EncodedPlane]
    face_box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Presentation:
    """One person, or one attack, before a camera.

    Attributes:
        name: which one of the set.
        species: the PAI species, or `bona_fide`.
        is_bona_fide: the ground truth.
        frames: consecutive frames.
    """

    name: str
    species: str
    is_bona_fide: bool
    frames: tuple[SampleFrame, ...]


def load_samples(folder: Path = SAMPLES) -> list[Presentation]:
    """Return the presentations in `folder`.

    Raises:
        SampleError: the index or a file that it names is missing or broken.
    """
    index = folder / "samples.json"
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        presentations = [_presentation(folder, row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SampleError(f"{index}: not a sample set: {error!r}") from error
    if not presentations:
        raise SampleError(f"{index}: has no presentations")
    return presentations


def _presentation(folder: Path, row: dict[str, Any]) -> Presentation:
    frames = row["frames"]
    if not isinstance(frames, list) or not frames:
        raise ValueError(f"presentation {row['id']} has no frames")
    return Presentation(
        name=str(row["id"]),
        species=str(row["species"]),
        is_bona_fide=row["label"] == 1,
        frames=tuple(_frame(folder, frame) for frame in frames),
    )


def _frame(folder: Path, row: dict[str, Any]) -> SampleFrame:
    planes = {
        modality: EncodedPlane(
            "png" if str(row[modality]).endswith(".png") else "jpeg",
            (folder / str(row[modality])).read_bytes(),
        )
        for modality in ("rgb", "depth", "ir")
    }
    x, y, w, h = map(float, row["face_box"])
    return SampleFrame(planes, (x, y, w, h))
