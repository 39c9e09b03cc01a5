"""A head before a camera: light, shadow, and what each pixel sees."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from model.render.heads import Head, template
from model.render.rays import Array, Caster, Hits
from model.render.skin import MAP_BOTTOM_M, MAP_TOP_M, Paint, Spot
from model.render.surroundings import background, put_on_glasses
from model.render.view import Before, Light, Picture, View, dot, highlight

_MAP_SHAPE = (320, 512)


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
        normal = found[:, :3] / (np.sqrt(dot(found[:, :3], found[:, :3]))[:, None] + 1e-9)
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
    before: Before | None = None,
) -> Picture:
    """Render a head before its background.

    Args:
        solid: its shape.
        paint: its surface.
        view: camera and pose.
        light: of the scene.
        glasses: what the glasses look like is drawn from it; None: none are worn.
        before: what will hide a part of it: of the pixels hidden, `depth_m` alone is right.
    """
    picture = background(view, light)
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
    is_seen = hits.is_hit if before is None else hits.is_hit & ~before.covers.ravel()
    seen = np.flatnonzero(is_seen)
    normal, spot = solid.surface(hits, seen)
    surface = paint(spot)
    ray = local.take(seen, axis=0)
    points = origin + ray * hits.distance.take(seen)[:, None]
    lit = np.maximum(0, normal @ towards)
    facing_light = np.flatnonzero(lit)
    above = points + normal * 0.002
    dark = solid.is_shadowed(above.take(facing_light, axis=0), towards)
    lit[facing_light] *= 1 - 0.85 * dark
    emitted = light.emitted(view.size)[seen // view.size, 0]
    emitted = emitted * (0.5 / depth.take(seen)) ** 2
    if before is not None:
        place = rays.take(seen, axis=0) * hits.distance.take(seen)[:, None]
        lit *= 1 - 0.85 * before.blocks(place, light.direction)
        emitted *= ~before.blocks(place, light.emitter_m - place)
    half = towards - ray
    half /= np.sqrt(dot(half, half))[:, None]
    shine = surface.gloss * highlight(dot(normal, half), 40) * (lit > 0)
    slant = np.maximum(0, -dot(normal, ray))
    up = -normal @ facing[1]
    key, ambient = light.key[:, None], light.ambient[:, None]
    colour = surface.rgb * (key * lit + ambient * (0.75 + 0.25 * up))
    colour += 0.35 * shine * key
    infrared = surface.nir * (emitted * slant + light.nir_ambient * (0.4 + lit))
    infrared += 0.25 * surface.gloss * highlight(slant, 60) * emitted
    picture.rgb.reshape(-1, 3)[seen] = colour.T
    for plane, values in (
        (picture.nir, infrared),
        (picture.gloss, surface.gloss),
        (picture.slant, slant),
        (picture.albedo, surface.nir),
    ):
        plane.put(seen, values)
    if glasses is not None:
        put_on_glasses(picture, view, light, glasses)
    return picture


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
