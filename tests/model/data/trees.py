"""Pictures and lists for made-up data sets."""

from pathlib import Path

import cv2
import numpy as np


def picture(path: Path, level: int, color: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 32, 3) if color else (40, 32), level, np.uint8))


def pictures(root: Path, *names: str) -> None:
    """Write pictures whose level says which modality they are."""
    for name in names:
        levels = {"depth": 60, "ir": 120}
        level = next((value for word, value in levels.items() if f"{word}/" in name), 200)
        picture(root / name, level, color=level == 200)


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
