"""A rendered data set on disk: subjects in folders, and a protocol's lists beside them.

    subject-000123/0007_{rgb.jpg,depth.png,ir.jpg}    face crops, 124 px; depth 16-bit mm
    samples.jsonl                                     subject, species and seed of each sample
    grand_{train,val,test}_list.txt                   all species in all splits
    cross-attack_{train,val,test}_list.txt            trained on prints 4, 5, 6, tested on 1, 2, 3

No subject is in two splits, neither as the person before the camera nor as the one shown.
"""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
from rich.progress import Progress

from model.dataset import STORED_PX
from model.lists import ListEntry, write_list
from model.planes import Planes, crop_planes
from model.render.attacks import BONA_FIDE, MASKS, PRINTS, SCREENS
from model.render.presentation import RenderedFrame, present

CROP_MARGIN = 0.2
SPLITS = ("train", "val", "test")
_TRAIN_PRINTS, _TEST_PRINTS = PRINTS[3:], PRINTS[:3]
# A seed's last digits number the samples of a subject.
_MAX_SAMPLES = 1000
_ENDINGS = ("rgb.jpg", "depth.png", "ir.jpg")


@dataclass(frozen=True)
class RenderConfig:
    """What to render.

    Attributes:
        folder: where to; what is there already is kept and not rendered again.
        subjects: number of subjects in train, val and test.
        bona_fide: bona fide samples of each subject.
        of_each_print: samples of each of the six prints; as many of each screen and mask.
        seed: of pose, light, sensors and pictures. People are their numbers: subject 7 is the same
            person under every seed, so take other numbers, not another seed, for a fresh test set.
        processes: how many render at once.
    """

    folder: Path
    subjects: tuple[int, int, int] = (300, 40, 60)
    bona_fide: int = 12
    of_each_print: int = 3
    seed: int = 1
    processes: int = 2


def render_dataset(config: RenderConfig) -> Path:
    """Render what is missing, then write the lists; return the folder.

    Raises:
        FileExistsError: the folder holds another data set.
    """
    config.folder.mkdir(parents=True, exist_ok=True)
    _claim(config)
    todo = [
        (subject, split)
        for subject, split in _subjects(config)
        if not _folder(config, subject).is_dir()
    ]
    # Threads of torch do not survive a fork.
    pool = ProcessPoolExecutor(config.processes, mp_context=get_context("spawn"))
    with pool, Progress() as progress:
        bar = progress.add_task("rendering subjects", total=len(todo))
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
    for index, species in enumerate(_species(config)):
        seed = (config.seed * 10**6 + subject) * _MAX_SAMPLES + index
        holder = _neighbour(config, subject, split, index)
        person, target = (subject, subject) if species == BONA_FIDE else (holder, subject)
        frame = next(present(species, person, target, seed))
        name = f"{index:04d}"
        _write_crop(_crop(frame), partial / name)
        rows.append(
            {"name": name, "subject": subject, "holder": person, "species": species, "seed": seed}
        )
    (partial / "samples.json").write_text(json.dumps(rows), encoding="utf-8")
    partial.rename(final)


def _crop(frame: RenderedFrame) -> Planes:
    return crop_planes(frame.rgb, frame.depth, frame.ir, frame.face_box, STORED_PX, CROP_MARGIN)


def _write_crop(planes: Planes, stem: Path) -> None:
    assert planes.rgb is not None  # noqa: S101 - rendered frames have all modalities
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    cv2.imwrite(f"{stem}_rgb.jpg", cv2.cvtColor(planes.rgb, cv2.COLOR_RGB2BGR), quality)
    cv2.imwrite(f"{stem}_depth.png", planes.depth, [cv2.IMWRITE_PNG_COMPRESSION, 1])  # type: ignore[arg-type]
    cv2.imwrite(f"{stem}_ir.jpg", planes.ir, quality)  # type: ignore[arg-type]


def _species(config: RenderConfig) -> list[str]:
    attacks = [each for each in (*PRINTS, *SCREENS, *MASKS) for _ in range(config.of_each_print)]
    return [BONA_FIDE] * config.bona_fide + attacks


def _subjects(config: RenderConfig) -> Iterator[tuple[int, str]]:
    first = 0
    for count, split in zip(config.subjects, SPLITS, strict=True):
        yield from ((subject, split) for subject in range(first, first + count))
        first += count


def _neighbour(config: RenderConfig, subject: int, split: str, index: int) -> int:
    """Return who holds the attack: another subject of the same split."""
    own = [number for number, name in _subjects(config) if name == split]
    return own[(own.index(subject) + 1 + index % 5) % len(own)]


def _folder(config: RenderConfig, subject: int) -> Path:
    return config.folder / f"subject-{subject:06d}"


def _claim(config: RenderConfig) -> None:
    wanted = {
        "subjects": list(config.subjects),
        "bona_fide": config.bona_fide,
        "of_each_print": config.of_each_print,
        "seed": config.seed,
    }
    path = config.folder / "dataset.json"
    if not path.exists():
        path.write_text(json.dumps(wanted), encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != wanted:
        raise FileExistsError(
            f"{config.folder} holds a data set of other settings, see {path.name}"
        )


def _write_lists(config: RenderConfig) -> None:
    protocols: dict[str, dict[str, list[ListEntry]]] = {
        protocol: {split: [] for split in SPLITS} for protocol in ("grand", "cross-attack")
    }
    index_file = config.folder / "samples.jsonl"
    unfinished = index_file.with_suffix(".partial")
    with unfinished.open("w", encoding="utf-8") as index:
        for subject, split in _subjects(config):
            folder = _folder(config, subject)
            for row in json.loads((folder / "samples.json").read_text(encoding="utf-8")):
                stem = folder / row["name"]
                rgb, depth, ir = (Path(f"{stem}_{end}") for end in _ENDINGS)
                entry = ListEntry(rgb, depth, ir, int(row["species"] == BONA_FIDE))
                index.write(json.dumps({**row, "split": split}) + "\n")
                protocols["grand"][split].append(entry)
                allowed = _TRAIN_PRINTS if split == "train" else _TEST_PRINTS
                if row["species"] in (BONA_FIDE, *allowed):
                    protocols["cross-attack"][split].append(entry)
    unfinished.replace(index_file)
    for protocol, splits in protocols.items():
        for split, entries in splits.items():
            write_list(config.folder / f"{protocol}_{split}_list.txt", entries)
