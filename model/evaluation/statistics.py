"""Evaluation of data before any network: simple figures of a face crop, by which no class may show.

Each figure is one number a sample that takes no look at what a face is. Where one of them tells a
species from bona fide, a network learns it instead, and it is gone with the next sensor, SDK or
camera set-up. `model.evaluation.audit` says for each how well it tells them apart.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import Planes

# Nearer to the face than this, a pixel is of what stands there, not of the background, mm.
_FOREGROUND_MM = 150
_REGIONS: dict[str, Callable[[int], tuple[slice, slice]]] = {
    "all": lambda size: (slice(0, size), slice(0, size)),
    "upper": lambda size: (slice(0, size // 3), slice(0, size)),
    "lower": lambda size: (slice(size - size // 3, size), slice(0, size)),
    "middle": lambda size: (slice(size // 4, size - size // 4),) * 2,
}

Plane = NDArray[np.uint8] | NDArray[np.uint16]


def describe(planes: Planes, file_bytes: Sequence[int] = ()) -> dict[str, float]:
    """Return the simple figures of one face crop.

    Args:
        planes: the crop, as the network takes it.
        file_bytes: sizes of the files of RGB, depth and IR, where each has its own.

    Returns:
        By name: `holes_*` shares of pixels without depth, by region; `distance_mm`; `*_noise`, what
        a median filter takes away, in the planes' own units; `*_brightness` and `*_contrast`, mean
        and standard deviation, 0 to 255; `rgb_saturation`, 0 to 255; `*_sharpness`, variance of
        the Laplacian over that of the picture; `framing_*`, how much of the crop stands as near
        as the face, [0, 1], and where the middle of that is, -0.5 to 0.5; `*_file_bytes`. A figure
        that a plane does not have is NaN.
    """
    figures: dict[str, float] = {}
    if planes.depth is not None:
        figures |= _depth_figures(planes.depth)
    if planes.rgb is not None:
        figures |= _light_figures("rgb", np.asarray(cv2.cvtColor(planes.rgb, cv2.COLOR_RGB2GRAY)))
        spread = planes.rgb.max(2).astype(np.float32) - planes.rgb.min(2)
        figures["rgb_saturation"] = float(spread.mean())
    if planes.ir is not None:
        figures |= _light_figures("ir", planes.ir)
    for name, count in zip(("rgb", "depth", "ir"), file_bytes, strict=False):
        figures[f"{name}_file_bytes"] = float(count)
    return figures


def _depth_figures(depth: NDArray[np.uint16]) -> dict[str, float]:
    size = len(depth)
    is_hole = depth == 0
    figures = {f"holes_{name}": float(is_hole[at(size)].mean()) for name, at in _REGIONS.items()}
    middle = depth[_REGIONS["middle"](size)]
    face_mm = float(np.median(middle[middle > 0])) if middle.any() else np.nan
    figures["distance_mm"] = face_mm
    figures["depth_noise"] = _noise(middle, middle > 0)
    is_near = ~is_hole & (np.abs(depth.astype(np.float32) - face_mm) < _FOREGROUND_MM)
    rows, columns = np.nonzero(is_near)
    known = max(1, int((~is_hole).sum()))
    figures["framing_near"] = len(rows) / known
    figures["framing_x"] = float(columns.mean() / size - 0.5) if len(rows) else np.nan
    figures["framing_y"] = float(rows.mean() / size - 0.5) if len(rows) else np.nan
    return figures


def _light_figures(name: str, plane: NDArray[np.uint8]) -> dict[str, float]:
    middle = plane[_REGIONS["middle"](len(plane))]
    face = middle.astype(np.float32)
    edges = cv2.Laplacian(face, cv2.CV_32F)
    return {
        f"{name}_brightness": float(plane.mean()),
        f"{name}_brightness_middle": float(middle.mean()),
        f"{name}_contrast": float(plane.std()),
        f"{name}_noise": _noise(middle, np.ones(middle.shape, np.bool_)),
        f"{name}_sharpness": float(edges.var() / (face.var() + 1)),
    }


def _noise(plane: Plane, known: NDArray[np.bool_]) -> float:
    """Return the mean of what a median filter of 3 px takes away, where there is something.

    The largest quarter is left out: edges and rims of holes are no noise.
    """
    if not known.any():
        return float("nan")
    taken = np.abs(plane.astype(np.float32) - cv2.medianBlur(plane, 3).astype(np.float32))[known]
    return float(np.sort(taken)[: max(1, len(taken) * 3 // 4)].mean())
