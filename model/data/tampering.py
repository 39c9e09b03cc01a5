"""Data tampered with: faces changed in a known way, to test a judgement or to train it.

Some changes leave a presentation what it was: holes in depth filled or added, the face box moved.
Others make an attack of any frame: a plane that shows noise, another person, a picture, the scene
shifted, or no face at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import Box
from model.data.readers import Sample

# A set whose samples have no face box is of crops: the face is in the middle.
_CROP_BOX = (1 / 7, 1 / 7, 5 / 7, 5 / 7)


@dataclass(frozen=True, eq=False)
class Face:
    """A frame before it is cropped.

    Attributes:
        species: PAI species, or `bona_fide`.
        rgb: (H, W, 3) uint8.
        depth: (H', W') uint16 mm, or uint8.
        ir: (H'', W'') uint8.
        box: (x, y, w, h) px of RGB.
    """

    species: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    ir: NDArray[np.uint8]
    box: Box

    @property
    def is_bona_fide(self) -> bool:
        """Whether it shows a person who is there."""
        return self.species == "bona_fide"

    def with_plane(self, name: str, plane: NDArray[Any]) -> "Face":
        """Return it with another plane of a modality."""
        changed: dict[str, Any] = {name: plane}
        return replace(self, **changed)


# Changes a face; the second one is of another presentation.
Change = Callable[[Face, Face, np.random.Generator], Face]


def face_of(sample: Sample) -> Face:
    """Read a sample.

    Raises:
        model.data.readers.DatasetError: a picture can't be read.
    """
    rgb, depth, ir = sample.load()
    height, width = rgb.shape[:2]
    left, top, w, h = _CROP_BOX
    box = sample.face_box or (left * width, top * height, w * width, h * height)
    return Face(sample.species, rgb, depth.astype(np.uint16), ir, box)


def with_holes(share: float, reach: float = np.inf) -> Change:
    """Blind a share of depth, in patches, down to a part of the face box's height."""

    def change(face: Face, _other: Face, rng: np.random.Generator) -> Face:
        rough = cv2.GaussianBlur(rng.standard_normal(face.depth.shape, np.float32), (0, 0), 3.0)
        is_hole = rough > np.quantile(rough, 1 - share)
        is_hole[_row(face, reach) :] = False
        return replace(face, depth=np.where(is_hole, 0, face.depth).astype(np.uint16))

    return change


def holes_filled(reach: float = np.inf) -> Change:
    """Fill holes of depth from the nearest pixel, down to a part of the face box's height."""

    def change(face: Face, _other: Face, _rng: np.random.Generator) -> Face:
        is_hole = face.depth == 0
        if is_hole.all() or not is_hole.any():
            return face
        _, label = cv2.distanceTransformWithLabels(
            is_hole.astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_label = np.zeros(int(label.max()) + 1, np.uint16)
        of_label[label[~is_hole]] = face.depth[~is_hole]
        filled, row = of_label[label], _row(face, reach)
        filled[row:] = face.depth[row:]
        return replace(face, depth=filled)

    return change


def _row(face: Face, reach: float) -> int:
    """Return the row of depth at a part of the face box's height."""
    _, y, _, h = _scaled(face, face.depth)
    return int(np.clip(y + reach * h, 0, len(face.depth)))


def box_moved(shift: float, zoom: float) -> Change:
    """Move the face box by up to `shift` of its longer side, and scale it by up to `zoom`."""

    def change(face: Face, _other: Face, rng: np.random.Generator) -> Face:
        x, y, w, h = face.box
        side = max(w, h)
        dx, dy = rng.uniform(-shift, shift, 2) * side
        scale = 1 + rng.uniform(-zoom, zoom)
        middle = (x + w / 2 + dx, y + h / 2 + dy)
        w, h = w * scale, h * scale
        return replace(face, box=(middle[0] - w / 2, middle[1] - h / 2, w, h))

    return change


def noised(name: str) -> Change:
    """Make noise of a plane, about as bright or as far as it was."""

    def change(face: Face, _other: Face, rng: np.random.Generator) -> Face:
        plane = getattr(face, name)
        known = plane[plane > 0] if name == "depth" and plane.any() else plane
        noise = rng.normal(known.mean(), known.std() + 1, plane.shape)
        high = np.iinfo(plane.dtype).max
        return face.with_plane(name, np.clip(noise, 1, high).astype(plane.dtype))

    return change


def replaced(name: str) -> Change:
    """Put the other's plane in, moved and scaled so that its face lies where the own one does."""

    def change(face: Face, other: Face, _rng: np.random.Generator) -> Face:
        own, foreign = getattr(face, name), getattr(other, name)
        x, y, w, h = _scaled(face, own)
        fx, fy, fw, fh = _scaled(other, foreign)
        scale = max(w, h) / max(fw, fh)
        matrix = np.array(
            [
                [scale, 0, x + w / 2 - scale * (fx + fw / 2)],
                [0, scale, y + h / 2 - scale * (fy + fh / 2)],
            ]
        )
        moved = cv2.warpAffine(
            foreign,
            matrix,
            own.shape[1::-1],
            flags=cv2.INTER_NEAREST if name == "depth" else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if name == "depth" and own.any() and moved.any():
            # Nobody has to stand at the distance of someone else.
            far = float(np.median(own[own > 0])) - float(np.median(moved[moved > 0]))
            moved = np.where(moved > 0, np.clip(moved + far, 1, 65535), 0).astype(own.dtype)
        return face.with_plane(name, moved)

    return change


def shifted(name: str, part: float) -> Change:
    """Move a plane against the others by a part of the face box's longer side."""

    def change(face: Face, _other: Face, rng: np.random.Generator) -> Face:
        plane = getattr(face, name)
        _, _, w, h = _scaled(face, plane)
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = part * max(w, h) * np.cos(angle), part * max(w, h) * np.sin(angle)
        matrix = np.array([[1, 0, round(dx)], [0, 1, round(dy)]], np.float64)
        moved = cv2.warpAffine(
            plane,
            matrix,
            plane.shape[1::-1],
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return face.with_plane(name, moved)

    return change


def grey_as_ir(face: Face, _other: Face, _rng: np.random.Generator) -> Face:
    """Send colour, turned grey, as infrared."""
    grey = cv2.cvtColor(face.rgb, cv2.COLOR_RGB2GRAY)
    return replace(face, ir=np.asarray(grey, np.uint8))


def ellipsoid(face: Face, _other: Face, rng: np.random.Generator) -> Face:
    """Give a face the relief of an ellipsoid."""
    bulge, inside = _bulge(face, rng)
    far = float(np.median(face.depth[face.depth > 0])) if face.depth.any() else 600.0
    depth = np.where(inside, far - 80 * bulge, far + 600)
    return replace(face, depth=np.clip(depth, 1, 65535).astype(np.uint16))


def shaded_ellipse(face: Face, other: Face, rng: np.random.Generator) -> Face:
    """Invent a frame: an ellipsoid before a wall, shaded, with nothing of a face."""
    bulge, inside = _bulge(face, rng)
    planes = {}
    for name, shape in (("rgb", face.rgb.shape), ("ir", face.ir.shape)):
        scaled = cv2.resize(np.dstack([bulge, inside]).astype(np.float32), shape[1::-1])
        level, wall = rng.uniform(60, 220, 3), rng.uniform(10, 200, 3)
        picture = level * (0.4 + 0.6 * scaled[..., :1])
        picture = np.where(scaled[..., 1:] > 0.5, picture, wall) + rng.normal(0, 3, (*shape[:2], 3))
        planes[name] = np.clip(picture, 0, 255).astype(np.uint8)
    return replace(ellipsoid(face, other, rng), rgb=planes["rgb"], ir=planes["ir"][..., 0])


def blobs(face: Face, _other: Face, rng: np.random.Generator) -> Face:
    """Invent a frame: smooth patches of light and depth, alike in all planes, and no face."""
    rows, columns = face.depth.shape
    coarse = int(rng.integers(3, 9))
    field = cv2.resize(
        rng.standard_normal((coarse, coarse), np.float32),
        (columns, rows),
        interpolation=cv2.INTER_CUBIC,
    )
    far = float(np.median(face.depth[face.depth > 0])) if face.depth.any() else 600.0
    depth = far - rng.uniform(10, 80) * field + rng.normal(0, 2, field.shape)
    level, swing = rng.uniform(60, 190, 4), rng.uniform(-50, 50, 4)
    light = {}
    for name, shape in (("rgb", face.rgb.shape), ("ir", face.ir.shape)):
        scaled = cv2.resize(field, shape[1::-1])[..., None]
        at = slice(0, 3) if name == "rgb" else slice(3, 4)
        picture = level[at] + swing[at] * scaled
        light[name] = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
    return replace(
        face,
        rgb=light["rgb"],
        depth=np.clip(depth, 1, 65535).astype(np.uint16),
        ir=light["ir"][..., 0],
    )


def _bulge(face: Face, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return an ellipsoid's height, 0 to 1, and where it is, in px of depth, about as the face."""
    x, y, w, h = _scaled(face, face.depth)
    rows, columns = np.indices(face.depth.shape)
    across, down = np.array([w, h]) * rng.uniform(0.45, 0.65, 2)
    reach = ((columns - x - w / 2) / across) ** 2 + ((rows - y - h / 2) / down) ** 2
    return np.sqrt(np.maximum(0, 1 - reach)), reach < 1


def _scaled(face: Face, plane: NDArray[np.uint8] | NDArray[np.uint16]) -> Box:
    """Return the face box in px of a plane of another size than RGB's."""
    down, across = plane.shape[0] / face.rgb.shape[0], plane.shape[1] / face.rgb.shape[1]
    x, y, w, h = face.box
    return x * across, y * down, w * across, h * down
