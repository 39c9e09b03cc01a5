"""Sheets: where a camera's rays meet paper or a screen, and the shadow that it casts."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.photo import Photo
from model.render.rays import Array
from model.render.view import Before, View


@dataclass(frozen=True, eq=False)
class Sheet:
    """A flat or bent rectangle before the camera, with a picture on it.

    Attributes:
        centre_m: (3,) its middle, in the camera's frame.
        turn: (3, 3) its rotation.
        size_m: width and height.
        picture_m: side of the square picture on it, of which it may show only a part.
        shift_m: (2,) the picture's middle from its own.
        bend: curvature about its vertical, 1/m; 0 is flat.
        drape: how far it follows the face behind it, [0, 1].
    """

    centre_m: Array
    turn: Array
    size_m: tuple[float, float]
    picture_m: float
    shift_m: Array
    bend: float
    drape: float

    def meet(self, view: View) -> tuple[Array, Array, Array]:
        """Return, per pixel: m from its middle (S, S, 2), depth in m, slant.

        Depth is inf where the ray misses.
        """
        rays = view.rays
        origin = -self.centre_m @ self.turn
        along = rays @ self.turn
        # The surface is z = bend * x^2 / 2 in its own frame: a quadratic in the ray's length. A
        # turned sheet can have the camera inside its parabola, so that either root can be on it.
        b = along[:, 2] - self.bend * origin[0] * along[:, 0]
        b = np.where(np.abs(b) < 1e-6, 1e-6, b)  # a ray along the sheet meets it far away
        c = origin[2] - self.bend / 2 * origin[0] ** 2
        length = -c / b
        if self.bend:
            a = -self.bend / 2 * along[:, 0] ** 2
            half = -(b + np.sign(b) * np.sqrt(np.maximum(0, b * b - 4 * a * c))) / 2
            near, other = c / half, half / np.where(np.abs(a) < 1e-9, 1e-9, a)
            is_other = ~self._has(origin, along, near) & self._has(origin, along, other)
            length = np.where(is_other, other, near)
        inside = self._has(origin, along, length)
        x, y = (origin[axis] + along[:, axis] * length for axis in (0, 1))
        depth = np.where(inside, length * rays[:, 2], np.inf)
        tilt = -self.bend * x
        slant = np.abs(tilt * along[:, 0] + along[:, 2]) / np.sqrt(tilt**2 + 1)
        grid = (view.size, view.size)
        return (
            np.stack([x, y], 1).reshape(*grid, 2).astype(np.float32),
            depth.reshape(grid).astype(np.float32),
            slant.reshape(grid).astype(np.float32),
        )

    def in_picture(self, at: Array) -> Array:
        """Return where in the picture, [0, 1], points at m from the sheet's middle are."""
        place: Array = (at - self.shift_m) / self.picture_m + 0.5
        return place.astype(np.float32)

    def shown(self, photo: Photo, points: Array) -> Array:
        """Return where points (N, 3) of the pictured head are, (N, 3) m, in the camera's frame."""
        local = (photo.place(points) - 0.5) * self.picture_m + self.shift_m
        surface = np.column_stack([local, self.bend / 2 * local[:, 0] ** 2])
        placed: Array = (surface @ self.turn.T + self.centre_m).astype(np.float32)
        return placed

    def before(self, covers: NDArray[np.bool_], view: View) -> Before:
        """Return what it hides, and the shadow it casts: as if it were flat."""
        half_w, half_h = np.array(self.size_m) / 2

        def blocks(points: Array, towards: Array) -> NDArray[np.bool_]:
            local = (points - self.centre_m) @ self.turn
            along = np.broadcast_to(towards, points.shape) @ self.turn
            part = -local[:, 2] / np.where(np.abs(along[:, 2]) < 1e-6, 1e-6, along[:, 2])
            met = local + along * part[:, None]
            is_met = (np.abs(met[:, 0]) < half_w) & (np.abs(met[:, 1]) < half_h) & (part > 1e-3)
            # Light comes through where something is cut out of it, if the camera sees that place.
            at = view.project(met @ self.turn.T + self.centre_m)
            at = np.clip(np.nan_to_num(at), -1, view.size).astype(np.int32)
            is_seen = ((at >= 0) & (at < view.size)).all(1)
            column, row = np.clip(at, 0, view.size - 1).T
            blocked: NDArray[np.bool_] = is_met & (~is_seen | covers[row, column])
            return blocked

        return Before(covers, blocks)

    def _has(self, origin: Array, along: Array, length: Array) -> NDArray[np.bool_]:
        """Return where points at `length` along rays lie within the sheet's edges."""
        half_w, half_h = np.array(self.size_m) / 2
        x, y = (np.abs(origin[axis] + along[:, axis] * length) for axis in (0, 1))
        inside: NDArray[np.bool_] = (x <= half_w) & (y <= half_h) & (length > 0.05)
        return inside


def draped(depth: Array, behind_m: Array, drape: float) -> Array:
    """Let a sheet follow what is behind it, smoothly; paper does not go through a face."""
    if drape:
        held = np.isfinite(depth)
        face = np.where(held, np.clip(behind_m - 0.004, 0, np.where(held, depth, 9) + 0.12), 0)
        sigma = len(depth) / 25
        weight = cv2.GaussianBlur(held.astype(np.float32), (0, 0), sigma)
        smooth = cv2.GaussianBlur(face.astype(np.float32), (0, 0), sigma) / (weight + 1e-6)
        depth = np.where(held, (1 - drape) * depth + drape * smooth, np.inf).astype(np.float32)
    lying: Array = np.minimum(depth, behind_m - 0.002)
    return lying
