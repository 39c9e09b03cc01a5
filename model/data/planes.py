"""From a camera's planes to the network's input: the one preprocessing of training and serving.

Crop and resize happen on the CPU, in OpenCV (which releases the interpreter lock); everything that
scales values is a part of the network, `model/network/normalise.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

MODALITIES = ("rgb", "depth", "ir")

_MAX_BOX = 4

Image = NDArray[Any]
Box = tuple[float, float, float, float]
# What a stored depth value stands for: a distance, or a grey value such as CASIA-SURF's.
DepthKind = Literal["millimetres", "8-bit"]


class PlaneError(ModelError):
    """A plane is not what its modality says; the message names the plane and the rule."""


@dataclass(frozen=True, slots=True)
class Planes:
    """One face as the network takes it; a modality that is missing is None.

    Attributes:
        rgb: (S, S, 3) uint8, RGB order.
        depth: (S, S) uint16 mm, 0 = hole; or 8-bit values as CASIA-SURF stores them, widened.
        ir: (S, S) uint8.
    """

    rgb: NDArray[np.uint8] | None = None
    depth: NDArray[np.uint16] | None = None
    ir: NDArray[np.uint8] | None = None

    @property
    def present(self) -> tuple[str, ...]:
        """The modalities that are there, in the order of `MODALITIES`."""
        return tuple(name for name in MODALITIES if getattr(self, name) is not None)


@dataclass(frozen=True, slots=True)
class PlaneBatch:
    """Several faces, stacked; the plane of a missing modality is all zero.

    Attributes:
        rgb: (B, S, S, 3) uint8.
        depth: (B, S, S) uint16.
        ir: (B, S, S) uint8.
        present: (B, 3) bool, columns in the order of `MODALITIES`.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    ir: NDArray[np.uint8]
    present: NDArray[np.bool_]


def crop_planes(
    rgb: Image | None,
    depth: Image | None,
    ir: Image | None,
    face_box: Box | None,
    size: int,
    margin: float,
) -> Planes:
    """Cut the face out of planes that are registered to each other, and resize it.

    Args:
        rgb: (H, W, 3) uint8, RGB order, or None.
        depth: (H', W') uint16 mm with 0 = hole, or uint8 as CASIA-SURF stores depth, or None.
        ir: (H'', W'') uint8, or None. The planes show the same scene; their sizes may differ.
        face_box: (x, y, w, h) in px of the RGB plane, or of the first plane there is without
            one; None: the planes are face crops already and are only resized.
        size: side S of the result, px.
        margin: part of the box's longer side that is added on each of the four sides.

    Returns:
        Square planes of S px. What the square covers outside a plane is black, and a hole in
        depth.

    Raises:
        PlaneError: no plane, a wrong type or shape, or a box that lies outside.
    """
    given = {"rgb": rgb, "depth": depth, "ir": ir}
    planes = {name: plane for name, plane in given.items() if plane is not None}
    if not planes:
        raise PlaneError("there is no plane at all")
    for name, plane in planes.items():
        _check(name, plane)
    height, width = next(iter(planes.values())).shape[:2]
    square = None
    if face_box is not None:
        x, y, w, h = face_box
        if not (x < width and y < height and x + w > 0 and y + h > 0):
            raise PlaneError(f"face_box {face_box} lies outside the {width} x {height} px plane")
        if not max(w, h) <= _MAX_BOX * max(width, height):
            # The border around the plane would cost gigabytes.
            raise PlaneError(f"face_box {face_box} is far larger than {width} x {height} px")
        left, top, side, _ = square_around(face_box, margin)
        # In parts of the plane, so that it fits planes of other sizes.
        square = (left / width, top / height, side / width, side / height)
    cut: dict[str, Any] = {name: _cut(plane, square, size, name) for name, plane in planes.items()}
    return Planes(**cut)


def square_around(box: Box, margin: float) -> Box:
    """Return the square, (x, y, side, side) px, that is cut out for a face box.

    Args:
        box: (x, y, w, h) px.
        margin: part of the box's longer side that is added on each of the four sides.
    """
    x, y, w, h = box
    side = max(w, h) * (1 + 2 * margin)
    return x + w / 2 - side / 2, y + h / 2 - side / 2, side, side


def collate(planes: Sequence[Planes]) -> PlaneBatch:
    """Stack faces of one size.

    Raises:
        PlaneError: there is none, or one has no plane, or their sizes or types differ.
    """
    sides = {
        plane.shape[0]
        for each in planes
        for plane in (each.rgb, each.depth, each.ir)
        if plane is not None
    }
    if len(sides) != 1 or not all(each.present for each in planes):
        raise PlaneError(f"a batch needs faces of one size, each with a plane; sizes: {sides}")
    (side,) = sides
    shape = (len(planes), side, side)
    batch = PlaneBatch(
        rgb=np.zeros((*shape, 3), np.uint8),
        depth=np.zeros(shape, np.uint16),
        ir=np.zeros(shape, np.uint8),
        present=np.zeros((len(planes), len(MODALITIES)), np.bool_),
    )
    for row, each in enumerate(planes):
        for column, name in enumerate(MODALITIES):
            plane, target = getattr(each, name), getattr(batch, name)
            if plane is None:
                continue
            if plane.dtype != target.dtype or plane.shape != target.shape[1:]:
                raise PlaneError(
                    f"{name} must be {target.shape[1:]} {target.dtype}, "
                    f"is {plane.shape} {plane.dtype}"
                )
            target[row] = plane
            batch.present[row, column] = True
    return batch


def _check(name: str, plane: Image) -> None:
    channels = 3 if name == "rgb" else 1
    found = plane.shape[2] if plane.ndim == 3 else 1
    if plane.ndim not in (2, 3) or found != channels or 0 in plane.shape:
        raise PlaneError(f"{name} must have {channels} channel(s), has the shape {plane.shape}")
    allowed = (np.uint8, np.uint16) if name == "depth" else (np.uint8,)
    if plane.dtype not in allowed:
        raise PlaneError(
            f"{name} must be uint8{' or uint16' * (name == 'depth')}, is {plane.dtype}"
        )


def _cut(plane: Image, square: Box | None, size: int, name: str) -> Image:
    if square is not None:
        plane = _window(plane, square)
    if name == "depth":
        # Never blend a surface with a hole, or with another surface: that makes depths which
        # nothing in the scene has.
        resized = cv2.resize(plane, (size, size), interpolation=cv2.INTER_NEAREST)
        return resized.astype(np.uint16, copy=False)
    shrinks = min(plane.shape[:2]) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(plane, (size, size), interpolation=method)
    return resized.astype(np.uint8, copy=False)


def _window(plane: Image, square: Box) -> Image:
    height, width = plane.shape[:2]
    left, top = round(square[0] * width), round(square[1] * height)
    right = max(left + 1, round((square[0] + square[2]) * width))
    bottom = max(top + 1, round((square[1] + square[3]) * height))
    inside = plane[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    borders = (max(0, -top), max(0, bottom - height), max(0, -left), max(0, right - width))
    if any(borders):
        inside = cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=0)
    return np.ascontiguousarray(inside)
