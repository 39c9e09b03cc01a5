"""A camera, the light around it, and what its pixels see, before any sensor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model.data.planes import Box
from model.render.rays import Array


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera at the origin: x right, y down, z forward.

    Attributes:
        size: px, square.
        focal_px: focal length.
        centre_px: (x, y) where the optical axis meets the picture.
        centre_m: (3,) where the head's middle is.
        turn: (3, 3) the head's rotation.
    """

    size: int
    focal_px: float
    centre_px: tuple[float, float]
    centre_m: Array
    turn: Array

    @cached_property
    def rays(self) -> Array:
        """A unit direction for each pixel, (size * size, 3), row by row."""
        at = np.arange(self.size, dtype=np.float32) + 0.5
        grid = np.ones((self.size, self.size, 3), np.float32)
        grid[..., 0] = (at - self.centre_px[0]) / self.focal_px
        grid[..., 1] = ((at - self.centre_px[1]) / self.focal_px)[:, None]
        rays: Array = grid.reshape(-1, 3)
        rays /= np.sqrt(dot(rays, rays))[:, None]
        return rays

    def project(self, points: Array) -> Array:
        """Return px positions (N, 2) of points (N, 3) in the camera's frame."""
        projected: Array = points[:, :2] / points[:, 2:] * self.focal_px + self.centre_px
        return projected

    def place(self, points: Array) -> Array:
        """Return points of the head's frame in the camera's frame."""
        placed: Array = (points @ self.facing.T + self.centre_m).astype(np.float32)
        return placed

    @property
    def facing(self) -> Array:
        """The rotation from the head's frame to the camera's."""
        # The head looks along its own +z, at the camera: half a turn about the vertical, and y
        # points down here.
        facing: Array = self.turn * np.array([1, -1, -1], np.float32)
        return facing

    def window(self, square: Box, size: int) -> "View":
        """Return the view of a part of this one, (x, y, side, side) px, with `size` px a side."""
        left, top, side, _ = square
        scale = size / side
        centre = ((self.centre_px[0] - left) * scale, (self.centre_px[1] - top) * scale)
        return replace(self, size=size, focal_px=self.focal_px * scale, centre_px=centre)


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
        direction: (3,) unit, towards the key light.
        key: (3,) linear RGB of the key light.
        ambient: (3,) linear RGB from all sides.
        nir_ambient: near infrared that the sun adds; 0 indoors.
        emitter: strength of the camera's own infrared emitter; 0: off.
        emitter_m: (3,) where the emitter is, in the camera's frame.
        pulse: part of the rows, from top to bottom, read out while the emitter was on.
        background: seed of what stands behind.
    """

    direction: Array
    key: Array
    ambient: Array
    nir_ambient: float
    emitter: float
    emitter_m: Array
    pulse: tuple[float, float]
    background: int

    def emitted(self, size: int) -> Array:
        """Return the emitter's strength in each row of a picture, (size, 1)."""
        row = (np.arange(size, dtype=np.float32) / size)[:, None]
        is_on = (row >= self.pulse[0]) & (row <= self.pulse[1])
        return (self.emitter * is_on).astype(np.float32)


@dataclass
class Picture:
    """What the pixels of a square camera see, before any sensor.

    Attributes:
        rgb: (S, S, 3) linear.
        nir: (S, S) linear.
        depth_m: (S, S) along the optical axis; inf where there is nothing.
        gloss: (S, S) how mirror-like the surface is, [0, 1].
        slant: (S, S) cosine between surface and ray.
        albedo: (S, S) part of the depth sensor's own light that comes back, [0, 1].
    """

    rgb: Array
    nir: Array
    depth_m: Array
    gloss: Array
    slant: Array
    albedo: Array

    def put(self, over: "Picture", where: NDArray[np.bool_]) -> None:
        """Put `over` in front, where `where` says so."""
        np.copyto(self.rgb, over.rgb, where=where[..., None])
        for name in ("nir", "depth_m", "gloss", "slant", "albedo"):
            np.copyto(getattr(self, name), getattr(over, name), where=where)


@dataclass(frozen=True, eq=False)
class Before:
    """What stands between a camera and a person.

    Attributes:
        covers: (S, S) the pixels that it hides.
        blocks: says of points (N, 3) in the camera's frame whether it keeps light from them that
            comes from `towards`, (3,) or (N, 3).
    """

    covers: NDArray[np.bool_]
    blocks: Callable[[Array, Array], NDArray[np.bool_]]


def highlight(cosine: Array, power: int) -> Array:
    """Return how bright a mirrored light is, by how far off the mirror's direction it is."""
    # Nothing is seen of one below this, but numpy takes 20 times as long where a power underflows.
    bright: Array = np.maximum(0.3, cosine) ** power
    return bright


def dot(a: Array, b: Array) -> Array:
    """Return the products of rows of (N, 3) and (N, 3)."""
    product: Array = np.einsum("ij,ij->i", a, b)
    return product
