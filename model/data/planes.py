"""From a camera's planes to the network's input: the one preprocessing of training and serving.

Crop and resize happen on the CPU, in OpenCV (which releases the interpreter lock); everything that
scales values is a part of the network, `model/network/normalise.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

MODALITIES = ("rgb", "depth", "ir")
# The 7 non-empty sets of modalities, numbered by their bits less one; each in the order above.
SUBSETS = tuple(
    tuple(name for bit, name in enumerate(MODALITIES) if bits >> bit & 1)
    for bits in range(1, 1 << len(MODALITIES))
)
# Part of a face box's longer side that is kept on each side of it, where a data set has boxes.
CROP_MARGIN = 0.2
_MAX_BOX = 4
# Planes of one scene have the same aspect ratio, but for the rounding of their sides to whole px.
_MAX_SKEW = 0.02

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
        depth_kind: what the values of `depth` stand for.
        face_px: shorter side of the face in the plane that has the fewest px for it, as far as the
            planes show it; None: not known.
        face_inside: part of the face box that lies inside the planes, [0, 1].
    """

    rgb: NDArray[np.uint8] | None = None
    depth: NDArray[np.uint16] | None = None
    ir: NDArray[np.uint8] | None = None
    _: KW_ONLY
    depth_kind: DepthKind = "millimetres"
    face_px: float | None = None
    face_inside: float = 1.0

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
        PlaneError: no plane, a wrong type or shape, planes of different aspect ratios, or a box
            that lies outside.
    """
    given = {"rgb": rgb, "depth": depth, "ir": ir}
    planes = {name: plane for name, plane in given.items() if plane is not None}
    if not planes:
        raise PlaneError("there is no plane at all")
    for name, plane in planes.items():
        _check(name, plane)
    kind: DepthKind = "8-bit" if depth is not None and depth.dtype == np.uint8 else "millimetres"
    if face_box is None:
        cut: dict[str, Any] = {
            name: _resize(name, plane, size, size) for name, plane in planes.items()
        }
        face_px = min(min(plane.shape[:2]) for plane in planes.values())
        return Planes(**cut, depth_kind=kind, face_px=float(face_px))
    height, width = _common_size(planes)
    visible = _visible(face_box, width, height)
    left, top, side, _ = square_around(face_box, margin)
    # In parts of the plane, so that it fits planes of other sizes.
    square = (left / width, top / height, side / width, side / height)
    return Planes(
        **{name: _cut(name, plane, square, size) for name, plane in planes.items()},
        depth_kind=kind,
        face_px=min(
            min(visible[0] * plane.shape[1] / width, visible[1] * plane.shape[0] / height)
            for plane in planes.values()
        ),
        face_inside=visible[0] * visible[1] / (face_box[2] * face_box[3]),
    )


def in_millimetres(planes: Planes, unit_mm: float) -> Planes:
    """Return planes whose depth, in counts of `unit_mm`, is in mm; 8-bit depth has no unit.

    A depth beyond 65.5 m is as good as none: a hole, never another, nearer depth.
    """
    if planes.depth is None or planes.depth_kind != "millimetres" or unit_mm == 1.0:
        return planes
    depth_mm = np.rint(planes.depth * unit_mm)
    depth_mm[depth_mm > np.iinfo(np.uint16).max] = 0
    return replace(planes, depth=depth_mm.astype(np.uint16))


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


def _common_size(planes: Mapping[str, Image]) -> tuple[int, int]:
    """Return (height, width) px of the plane that a face box is told in: the first there is."""
    (first, reference), *others = planes.items()
    height, width = reference.shape[:2]
    for name, plane in others:
        skew = plane.shape[1] * height / (plane.shape[0] * width)
        if abs(skew - 1) > _MAX_SKEW + 1 / min(plane.shape[:2]):
            raise PlaneError(
                f"{first} is {height} x {width} px and {name} {plane.shape[0]} x {plane.shape[1]}: "
                "planes that are registered to each other have one aspect ratio; crop them to what "
                "all of them show"
            )
    return height, width


def _visible(box: Box, width: int, height: int) -> tuple[float, float]:
    """Return width and height, px, of what a plane shows of a box."""
    x, y, w, h = box
    across, down = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
    if not (across > 0 and down > 0):
        raise PlaneError(f"face_box lies outside the {height} x {width} px plane")
    if not max(w, h) <= _MAX_BOX * max(width, height):
        raise PlaneError(f"face_box is far larger than the {height} x {width} px plane")
    return across, down


def _cut(name: str, plane: Image, square: Box, size: int) -> Image:
    """Return what a plane shows of a square, at the place it has there; the rest stays black."""
    height, width = plane.shape[:2]
    columns = _span(square[0], square[2], width, size)
    rows = _span(square[1], square[3], height, size)
    inside = plane[rows.source, columns.source]
    across, down = columns.target.stop - columns.target.start, rows.target.stop - rows.target.start
    if (across, down) == (size, size):
        return _resize(name, inside, size, size)
    cut = np.zeros((size, size, *plane.shape[2:]), np.uint16 if name == "depth" else np.uint8)
    if inside.size and across and down:
        cut[rows.target, columns.target] = _resize(name, inside, across, down)
    return cut


class _Span(NamedTuple):
    """Which px along a side of the plane go to which px of the result."""

    source: slice
    target: slice


def _span(start: float, length: float, limit: int, size: int) -> _Span:
    """Return the span of a square that starts and is as long as said, in parts of the plane."""
    first = round(start * limit)
    last = max(first + 1, round((start + length) * limit))
    inner = min(max(first, 0), limit), min(max(last, 0), limit)
    scale = size / (last - first)
    return _Span(
        slice(*inner), slice(round((inner[0] - first) * scale), round((inner[1] - first) * scale))
    )


def _resize(name: str, plane: Image, width: int, height: int) -> Image:
    if name == "depth":
        # Never blend a surface with a hole, or with another surface: that makes depths which
        # nothing in the scene has.
        resized = cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST)
        return resized.astype(np.uint16, copy=False)
    shrinks = plane.shape[0] >= height and plane.shape[1] >= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(plane, (width, height), interpolation=method)
