"""A head before a camera: light, shadow, and what each pixel sees."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import Box
from model.render.heads import Head, template
from model.render.rays import Array, Caster, Hits
from model.render.skin import EYE_M, MAP_BOTTOM_M, MAP_TOP_M, Reflectance, Spot

_MAP_SHAPE = (320, 512)
# Glasses: their plane before the average head, m, and a lens' half width and height.
_GLASSES_Z_M = 0.107
_LENS_M = (0.027, 0.021)
# How much of a background's unevenness is colour.
_TINT = 0.2

# A function of this kind says what a surface reflects.
Paint = Callable[[Spot], Reflectance]


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
        rays /= np.sqrt(_dot(rays, rays))[:, None]
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
        pulse: part of the rows, from top to bottom, read out while the emitter was on.
        background: seed of what stands behind.
    """

    direction: Array
    key: Array
    ambient: Array
    nir_ambient: float
    emitter: float
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
        is_dark: (S, S) absorbs the depth sensor's light: hair, screens.
    """

    rgb: Array
    nir: Array
    depth_m: Array
    gloss: Array
    slant: Array
    is_dark: NDArray[np.bool_]

    def put(self, over: "Picture", where: NDArray[np.bool_]) -> None:
        """Put `over` in front, where `where` says so."""
        np.copyto(self.rgb, over.rgb, where=where[..., None])
        for name in ("nir", "depth_m", "gloss", "slant", "is_dark"):
            np.copyto(getattr(self, name), getattr(over, name), where=where)


class Solid:
    """A head, ready for rays; they are cast in the head's own frame."""

    def __init__(self, head: Head) -> None:
        """Build the acceleration structure."""
        self._caster = Caster(head.vertices, head.triangles)
        self._triangles = head.triangles
        self._corners = np.column_stack(
            [
                _normals(head.vertices, head.triangles),
                head.template,
                head.is_eye,
                head.is_lip,
                head.is_cloth,
            ]
        ).astype(np.float32)

    def meet(self, origin: Array, rays: Array) -> Hits:
        """Return where rays (N, 3) from one point meet it."""
        return self._caster.cast(np.tile(origin, (len(rays), 1)), rays)

    def surface(self, hits: Hits, at: NDArray[np.int64]) -> tuple[Array, Spot]:
        """Return the normals (N, 3), and the points' places on the head, of hits by number."""
        u, v = hits.u.take(at), hits.v.take(at)
        corners = self._corners.take(self._triangles.take(hits.triangle.take(at), 0), axis=0)
        found = np.einsum("nck,nc->nk", corners, np.stack([1 - u - v, u, v], 1))
        normal = found[:, :3] / (np.sqrt(_dot(found[:, :3], found[:, :3]))[:, None] + 1e-9)
        return normal, Spot(found[:, 3:6], found[:, 6], found[:, 7], found[:, 8])

    def is_shadowed(self, points: Array, towards: Array) -> NDArray[np.bool_]:
        """Return which points the head keeps from a light."""
        return self._caster.meets(points, np.tile(towards, (len(points), 1)))


@cache
def unrolled() -> Array:
    """Return the point of the average head that each place of a map around it shows, (H, W, 3)."""
    height, width = _MAP_SHAPE
    angle = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    y = MAP_TOP_M - (np.arange(height) + 0.5) / height * (MAP_TOP_M - MAP_BOTTOM_M)
    outward = np.stack([np.sin(angle), np.zeros(width), np.cos(angle)], 1)
    far = 0.3 * outward[None] + np.stack([0 * y, y, 0 * y], 1)[:, None]
    far = far.reshape(-1, 3).astype(np.float32)
    inward = np.tile(-outward, (height, 1)).astype(np.float32)
    average = template()
    hits = Caster(average.vertices, average.triangles).cast(far, inward)
    reach = np.where(hits.is_hit, hits.distance, 0.24)
    where: Array = (far + inward * reach[:, None]).reshape(height, width, 3)
    return where


def shoot(
    solid: Solid,
    paint: Paint,
    view: View,
    light: Light,
    glasses: np.random.Generator | None = None,
    covered: NDArray[np.bool_] | None = None,
) -> Picture:
    """Render a head before its background.

    Args:
        solid: its shape.
        paint: its surface.
        view: camera and pose.
        light: of the scene.
        glasses: what the glasses look like is drawn from it; None: none are worn.
        covered: (S, S) pixels that something before the head will hide: of these, `depth_m` alone
            is right.
    """
    picture = _background(view, light)
    grid = (view.size, view.size)
    rays = view.rays
    facing = view.facing
    origin = (-view.centre_m @ facing).astype(np.float32)
    local = (rays @ facing).astype(np.float32)
    towards = (light.direction @ facing).astype(np.float32)
    hits = solid.meet(origin, local)
    depth = hits.distance * rays[:, 2]
    np.copyto(picture.depth_m, depth.reshape(grid), where=hits.is_hit.reshape(grid))
    # By number, as numpy takes and puts several times faster than by mask.
    seen = np.flatnonzero(hits.is_hit if covered is None else hits.is_hit & ~covered.ravel())
    normal, spot = solid.surface(hits, seen)
    surface = paint(spot)
    ray = local.take(seen, axis=0)
    points = origin + ray * hits.distance.take(seen)[:, None]
    lit = np.maximum(0, normal @ towards)
    facing_light = np.flatnonzero(lit)
    above = points + normal * 0.002
    dark = solid.is_shadowed(above.take(facing_light, axis=0), towards)
    lit[facing_light] *= 1 - 0.85 * dark
    half = towards - ray
    half /= np.sqrt(_dot(half, half))[:, None]
    shine = surface.gloss * highlight(_dot(normal, half), 40) * (lit > 0)
    slant = np.maximum(0, -_dot(normal, ray))
    up = -normal @ facing[1]
    key, ambient = light.key[:, None], light.ambient[:, None]
    colour = surface.rgb * (key * lit + ambient * (0.75 + 0.25 * up))
    colour += 0.35 * shine * key
    emitted = light.emitted(view.size)[seen // view.size, 0]
    emitted = emitted * (0.5 / depth.take(seen)) ** 2
    infrared = surface.nir * (emitted * slant + light.nir_ambient * (0.4 + lit))
    infrared += 0.25 * surface.gloss * highlight(slant, 60) * emitted
    picture.rgb.reshape(-1, 3)[seen] = colour.T
    for plane, values in (
        (picture.nir, infrared),
        (picture.gloss, surface.gloss),
        (picture.slant, slant),
        (picture.is_dark, surface.nir < 0.25),
    ):
        plane.put(seen, values)
    if glasses is not None:
        _put_on_glasses(picture, view, light, glasses)
    return picture


def highlight(cosine: Array, power: int) -> Array:
    """Return how bright a mirrored light is, by how far off the mirror's direction it is."""
    # Nothing is seen of one below this, but numpy takes 20 times as long where a power underflows.
    bright: Array = np.maximum(0.3, cosine) ** power
    return bright


def _dot(a: Array, b: Array) -> Array:
    product: Array = np.einsum("ij,ij->i", a, b)
    return product


def _normals(vertices: Array, triangles: NDArray[np.int32]) -> Array:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    faces = np.cross(b - a, c - a)
    corners = triangles.reshape(-1)
    each = np.repeat(faces, 3, axis=0)
    normals = np.stack(
        [np.bincount(corners, each[:, axis], len(vertices)) for axis in range(3)], axis=1
    ).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    return normals


def _put_on_glasses(picture: Picture, view: View, light: Light, rng: np.random.Generator) -> None:
    """Put glasses before the eyes: two rims, a bridge, and lenses that mirror lights."""
    grid = picture.depth_m.shape
    facing = view.facing
    origin, rays = -view.centre_m @ facing, view.rays @ facing
    length = (_GLASSES_Z_M - origin[2]) / rays[:, 2]
    x, y = (origin + rays * length[:, None])[:, :2].T
    half_w, half_h = np.array(_LENS_M) * rng.uniform(0.85, 1.15, 2)
    power = rng.uniform(2, 5)
    reach = (np.abs(np.abs(x) - EYE_M[0] - 0.002) / half_w) ** power
    reach = reach + (np.abs(y - EYE_M[1]) / half_h) ** power
    rim = rng.uniform(0.1, 0.5)
    is_bridge = (np.abs(x) < 0.008) & (np.abs(y - EYE_M[1] - 0.006) < 0.003)
    is_rim = (((reach > 1) & (reach < 1 + rim * power / 2)) | is_bridge).reshape(grid)
    is_lens = (reach <= 1).reshape(grid)
    depth = (length * view.rays[:, 2]).reshape(grid).astype(np.float32)
    is_rim &= depth < picture.depth_m
    glare = np.exp(-((x - rng.normal(0, 0.04)) ** 2 + (y - rng.normal(0.013, 0.02)) ** 2) / 2e-4)
    mirrored = (rng.uniform(0, 0.6) * glare).reshape(grid) * is_lens
    picture.rgb += (mirrored[..., None] + 0.02 * is_lens[..., None]) * light.key
    picture.nir += rng.uniform(0, 0.8) * mirrored * light.emitted(view.size)
    picture.nir[is_lens] *= 0.85
    picture.gloss[is_lens] = np.maximum(picture.gloss[is_lens], 0.6)
    shade = rng.uniform(0.01, 0.3)
    picture.rgb[is_rim] = shade * rng.uniform(0.5, 1.5, 3) * (light.ambient + 0.5 * light.key)
    near = light.emitted(view.size) * (0.5 / np.maximum(depth, 0.1)) ** 2
    picture.nir[is_rim] = (shade * 0.5 * (near + light.nir_ambient))[is_rim]
    picture.depth_m[is_rim] = depth[is_rim]
    picture.is_dark[is_rim] = True


def _background(view: View, light: Light) -> Picture:
    """Return a wall, unevenly lit, with a few flat things before it."""
    rng = np.random.default_rng(light.background)
    size, grid = view.size, (view.size, view.size)
    smooth = np.zeros((*grid, 4), np.float32)
    for steps, strength in ((int(rng.integers(2, 5)), 0.3), (int(rng.integers(10, 50)), 0.1)):
        rough = rng.standard_normal((steps, steps, 4), np.float32) * strength * _TINT
        rough[..., :3] += rough[..., 3:] / _TINT
        smooth += cv2.resize(rough, grid, interpolation=cv2.INTER_LINEAR)
    level = np.empty((*grid, 4), np.float32)
    level[:] = np.float32(rng.uniform(0.05, 0.7)) * rng.uniform(0.8, 1.2, 4)
    distance = np.full(grid, view.centre_m[2] + rng.uniform(0.5, 3.0), np.float32)
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(-0.2, 1, 2) * size
        width, height = rng.uniform(0.05, 0.8, 2) * size
        box = (slice(int(max(0, y)), int(y + height)), slice(int(max(0, x)), int(x + width)))
        level[box] = rng.uniform(0.02, 0.8) * rng.uniform(0.6, 1.4, 4)
        distance[box] = view.centre_m[2] + rng.uniform(0.3, 2.5)
    smooth += 1
    level *= smooth
    np.maximum(0.01, level, out=level)
    emitted = light.emitted(size) * (0.5 / distance) ** 2
    *bands, infrared = cv2.split(level)
    colour = (light.ambient + 0.4 * light.key).astype(np.float32)
    return Picture(
        rgb=cv2.merge([band * part for band, part in zip(bands, colour, strict=True)]),
        nir=infrared * (emitted + 0.6 * light.nir_ambient),
        depth_m=distance,
        gloss=np.zeros(grid, np.float32),
        slant=np.ones(grid, np.float32),
        is_dark=np.zeros(grid, np.bool_),
    )
