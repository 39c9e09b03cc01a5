"""A rendered data set on disk: subjects in folders, and a protocol's lists beside them.

    subject-000123/0007_{rgb.jpg,depth.png,ir.jpg}    face and surroundings; depth 16-bit mm
    samples.jsonl                     subject, species, face box, seed and scene of each sample
    PROTOCOL_{train,val,test}_list.txt

Protocols: `grand` has all species in all splits. `cross-attack` is trained on prints 4, 5 and 6 and
tested on prints 1, 2 and 3. `without-SPECIES` is tested on a species, or on all prints, that it was
not trained on. `sensor-shift` is trained on stereo depth and tested on time of flight.

No subject is in two splits, neither as the person before the camera nor as the one shown.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import Progress

from model.data.lists import ListEntry, write_list
from model.errors import SettingError
from model.render.attacks import BONA_FIDE, NON_FACES, OTHERS, PRINTS, SPECIES
from model.render.heads import template
from model.render.presentation import Crop, RenderedFrame, present
from model.runs.processes import processes
from model.runs.stamp import check_stamp

# More than a network sees, so that training can move the box.
CROP_PX, CROP_MARGIN = 160, 0.4
SPLITS = ("train", "val", "test")
_TRAIN_PRINTS, _TEST_PRINTS = PRINTS[3:], PRINTS[:3]
# A seed's last digits number the samples of a subject.
_MAX_SAMPLES = 1000
# Ways to write depth, as different as encoders are; all fast.
_PNG_STRATEGIES = (
    cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_STRATEGY_FILTERED,
)
_PNG_FILTERS = (cv2.IMWRITE_PNG_FILTER_SUB, cv2.IMWRITE_PNG_FILTER_UP, cv2.IMWRITE_PNG_FILTER_NONE)
_ENDINGS = ("rgb.jpg", "depth.png", "ir.jpg")


@dataclass(frozen=True)
class RenderConfig:
    """What to render.

    Attributes:
        folder: where to; what is there already is kept and not rendered again.
        subjects: number of subjects in train, val and test.
        bona_fide: bona fide samples of each subject.
        of_each_print: samples of each of the six prints.
        of_each_other: samples of each other species.
        of_each_non_face: samples of what is no face at all.
        of_each_test_print: samples of prints 1, 2 and 3 of each subject in test: TPR@FPR=1e-3
            takes 3,000 of them, and its interval more.
        seed: of pose, light, sensors and pictures. People are their numbers: subject 7 is the same
            person under every seed, so take other numbers, not another seed, for a fresh test set.
        processes: how many render at once.
    """

    folder: Path
    subjects: tuple[int, int, int] = (1000, 100, 300)
    bona_fide: int = 16
    of_each_print: int = 3
    of_each_other: int = 3
    of_each_non_face: int = 2
    of_each_test_print: int = 20
    seed: int = 1
    processes: int = 2

    def __post_init__(self) -> None:
        """Refuse a split that nobody is in."""
        if min(self.subjects) < 1:
            raise SettingError("subjects", "at least 1 in each of train, val, test", self.subjects)


def render_dataset(config: RenderConfig) -> Path:
    """Render what is missing, then write the lists; return the folder.

    Raises:
        FileExistsError: the folder holds another data set.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    _claim(config)
    todo = [
        (subject, split)
        for subject, split in _everyone(config)
        if not _folder(config, subject).is_dir()
    ]
    with processes(config.processes) as pool, Progress() as progress:
        bar = progress.add_task("preparing the head, once", total=len(todo))
        # On a new machine this takes minutes, and leaves a file that two must not write at once.
        if todo:
            pool.submit(template).result()
        progress.update(bar, description="rendering subjects")
        for done in as_completed([pool.submit(render_subject, config, *each) for each in todo]):
            done.result()
            progress.advance(bar)
    _write_lists(config)
    return config.folder


def render_subject(config: RenderConfig, subject: int, split: str) -> None:
    """Render all samples that show a subject's face, whole or not at all."""
    final = _folder(config, subject)
    partial = final.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    rows = []
    crop = Crop(CROP_PX, CROP_MARGIN)
    for index, species in enumerate(_species(config, split)):
        seed = (config.seed * 10**6 + subject) * _MAX_SAMPLES + index
        holder = _neighbour(config, subject, split, index)
        person, target = (subject, subject) if species == BONA_FIDE else (holder, subject)
        frame = next(present(species, person, target, seed, crop=crop))
        row = {"name": f"{index:04d}", "subject": subject, "holder": person, "species": species}
        _write(frame, partial / str(row["name"]), np.random.default_rng([seed, 10]))
        rows.append({**row, "face_box": frame.face_box, "seed": seed, **frame.about})
    (partial / "samples.json").write_text(json.dumps(rows), encoding="utf-8")
    partial.rename(final)


def _write(frame: RenderedFrame, stem: Path, rng: np.random.Generator) -> None:
    # Encoders differ from file to file, not from species to species: no size says anything.
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(78, 98))]
    strategy, filters = int(rng.choice(_PNG_STRATEGIES)), int(rng.choice(_PNG_FILTERS))
    png = [cv2.IMWRITE_PNG_STRATEGY, strategy, cv2.IMWRITE_PNG_FILTER, filters]
    cv2.imwrite(f"{stem}_rgb.jpg", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR), quality)
    cv2.imwrite(f"{stem}_depth.png", frame.depth, png)
    cv2.imwrite(f"{stem}_ir.jpg", frame.ir, quality)


def _species(config: RenderConfig, split: str) -> list[str]:
    def count(species: str) -> int:
        if species in OTHERS:
            return config.of_each_other
        if species in NON_FACES:
            return config.of_each_non_face
        many = split == "test" and species in _TEST_PRINTS
        return config.of_each_test_print if many else config.of_each_print

    attacks = [species for species in SPECIES for _ in range(count(species))]
    return [BONA_FIDE] * config.bona_fide + attacks


def _everyone(config: RenderConfig) -> Iterator[tuple[int, str]]:
    return ((subject, split) for split in SPLITS for subject in _subjects(config, split))


def _subjects(config: RenderConfig, split: str) -> range:
    at = SPLITS.index(split)
    first = sum(config.subjects[:at])
    return range(first, first + config.subjects[at])


def _neighbour(config: RenderConfig, subject: int, split: str, index: int) -> int:
    """Return who holds the attack: another subject of the same split."""
    own = _subjects(config, split)
    return own[(own.index(subject) + 1 + index % 5) % len(own)]


def _folder(config: RenderConfig, subject: int) -> Path:
    return config.folder / f"subject-{subject:06d}"


def _claim(config: RenderConfig) -> None:
    wanted = {
        "subjects": list(config.subjects),
        "bona_fide": config.bona_fide,
        "of_each_print": config.of_each_print,
        "of_each_other": config.of_each_other,
        "of_each_non_face": config.of_each_non_face,
        "of_each_test_print": config.of_each_test_print,
        "seed": config.seed,
    }
    check_stamp(config.folder / "dataset.json", wanted, "a data set of other settings")


def _write_lists(config: RenderConfig) -> None:
    lists: dict[tuple[str, str], list[ListEntry]] = {
        (protocol, split): [] for protocol in _PROTOCOLS for split in SPLITS
    }
    index_file = config.folder / "samples.jsonl"
    unfinished = index_file.with_suffix(".partial")
    with unfinished.open("w", encoding="utf-8") as index:
        for subject, split in _everyone(config):
            folder = _folder(config, subject)
            for row in json.loads((folder / "samples.json").read_text(encoding="utf-8")):
                stem = folder / row["name"]
                rgb, depth, ir = (Path(f"{stem}_{end}") for end in _ENDINGS)
                entry = ListEntry(rgb, depth, ir, int(row["species"] == BONA_FIDE))
                index.write(json.dumps({**row, "split": split}) + "\n")
                for protocol, takes in _PROTOCOLS.items():
                    if takes(row, split):
                        lists[protocol, split].append(entry)
    unfinished.replace(index_file)
    for (protocol, split), entries in lists.items():
        write_list(config.folder / f"{protocol}_{split}_list.txt", entries)


def _takes_cross_attack(row: dict[str, Any], split: str) -> bool:
    return row["species"] in (BONA_FIDE, *(_TRAIN_PRINTS if split == "train" else _TEST_PRINTS))


def _takes_sensor_shift(row: dict[str, Any], split: str) -> bool:
    return bool(row["sensor"] == ("tof" if split == "test" else "stereo"))


def _without(left_out: tuple[str, ...]) -> Callable[[dict[str, Any], str], bool]:
    def takes(row: dict[str, Any], split: str) -> bool:
        is_left_out = row["species"] in left_out
        return row["species"] == BONA_FIDE or is_left_out == (split == "test")

    return takes


_PROTOCOLS: dict[str, Callable[[dict[str, Any], str], bool]] = {
    "grand": lambda _row, _split: True,
    "cross-attack": _takes_cross_attack,
    "sensor-shift": _takes_sensor_shift,
    "without-print": _without(PRINTS),
    **{f"without-{species}": _without((species,)) for species in OTHERS},
}
