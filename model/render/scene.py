"""A head before a camera: light, shadow, and what each pixel sees."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.heads import Head
from model.render.rays import Array, Caster
from model.render.skin import Skin, noise, reflect

_BACKGROUND_STEP = 4


@dataclass(frozen=True)
class View:
    """A pinhole camera at the origin: x right, y down, z forward.

    Attributes:
        size: px, square.
        focal_px: focal length.
        centre_m: (3,) where the head's middle is.
        turn: (3, 3) the head's rotation.
    """

    size: int
    focal_px: float
    centre_m: Array
    turn: Array

    def rays(self) -> Array:
        """Return a unit direction for each pixel, (size * size, 3), row by row."""
        at = (np.arange(self.size, dtype=np.float32) + 0.5 - self.size / 2) / self.focal_px
        x, y = np.meshgrid(at, at)
        rays = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
        unit: Array = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def project(self, points: Array) -> Array:
        """Return px positions (N, 2) of points (N, 3) in the camera's frame."""
        projected: Array = points[:, :2] / points[:, 2:] * self.focal_px + self.size / 2
        return projected

    def place(self, head: Head) -> Array:
        """Return the head's vertices in the camera's frame."""
        # The head looks along its own +z, at the camera: half a turn about the vertical, and y
        # points down here.
        facing = head.vertices * np.array([1, -1, -1], np.float32)
        placed: Array = (facing @ self.turn.T + self.centre_m).astype(np.float32)
        return placed


@dataclass(frozen=True)
class Light:
    """Light of a scene.

    Attributes:
        direction: (3,) unit, towards the key light.
        key: (3,) linear RGB of the key light.
        ambient: (3,) linear RGB from all sides.
        nir_ambient: near infrared that the sun adds; 0 indoors.
        emitter: strength of the camera's own infrared emitter; 0: off.
        background: seed of what stands behind.
    """

    direction: Array
    key: Array
    ambient: Array
    nir_ambient: float
    emitter: float
    background: int


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
        for name in ("rgb", "nir", "depth_m", "gloss", "slant", "is_dark"):
            getattr(self, name)[where] = getattr(over, name)[where]


def shoot(head: Head, skin: Skin, view: View, light: Light, plastic: float = 0.0) -> Picture:
    """Render a head before its background.

    Args:
        head: its shape.
        skin: its surface.
        view: camera and pose.
        light: of the scene.
        plastic: 0 skin, 1 a mask's plastic of the same colours: smooth, alike all over, bright
            in near infrared.
    """
    picture = _background(view, light)
    rays = view.rays()
    vertices = view.place(head)
    caster = Caster(vertices, head.triangles)
    hits = caster.cast(np.zeros_like(rays), rays)
    seen = hits.is_hit
    corners = head.triangles[hits.triangle[seen]]
    bary = hits.bary[seen][:, :, None]
    normals = _normals(vertices, head.triangles)
    normal = (normals[corners] * bary).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    ray = rays[seen]
    where = (head.template[corners] * bary).sum(1)
    eye = (head.is_eye[corners] * bary[:, :, 0]).sum(1)
    surface = reflect(skin, where, eye, (head.is_lip[corners] * bary[:, :, 0]).sum(1))
    rgb, nir, gloss = surface.rgb, surface.nir, surface.gloss
    if plastic:
        is_mask = eye < 0.5
        flat = 0.5 * rgb + 0.5 * rgb[is_mask].mean(0)
        rgb = np.where(is_mask[:, None], rgb * (1 - plastic) + flat * plastic, rgb)
        nir = np.where(is_mask, nir * (1 - plastic) + 0.78 * plastic, nir)
        gloss = np.where(is_mask, gloss + 0.35 * plastic, gloss)

    points = ray * hits.distance[seen][:, None]
    shadow = caster.cast(points + normal * 0.002, np.tile(light.direction, (len(points), 1)))
    lit = np.maximum(0, normal @ light.direction) * (1 - 0.85 * shadow.is_hit)
    half = light.direction - ray
    half /= np.linalg.norm(half, axis=1, keepdims=True)
    shine = gloss * np.maximum(0, (normal * half).sum(1)) ** 40 * (lit > 0)
    slant = np.maximum(0, -(normal * ray).sum(1))
    colour = rgb * (light.key * lit[:, None] + light.ambient * (0.75 - 0.25 * normal[:, 1:2]))
    colour += 0.35 * shine[:, None] * light.key
    depth = points[:, 2]
    infrared = nir * (light.emitter * slant * (0.5 / depth) ** 2 + light.nir_ambient * (0.4 + lit))
    infrared += 0.25 * gloss * slant**60 * light.emitter * (0.5 / depth) ** 2

    grid = seen.reshape(view.size, view.size)
    for plane, values in (
        (picture.rgb, colour),
        (picture.nir, infrared),
        (picture.depth_m, depth),
        (picture.gloss, gloss),
        (picture.slant, slant),
        (picture.is_dark, surface.nir < 0.25),
    ):
        plane[grid] = values
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
    # Outwards is away from the mesh's middle, on the whole.
    outward = ((vertices - vertices.mean(0)) * normals).sum() > 0
    return normals if outward else -normals


def _background(view: View, light: Light) -> Picture:
    rng = np.random.default_rng(light.background)
    size = view.size
    coarse = size // _BACKGROUND_STEP
    at = np.stack(np.meshgrid(np.arange(coarse), np.arange(coarse)), -1).reshape(-1, 2) / coarse
    points = np.concatenate([at, np.full((len(at), 1), 0.5)], 1).astype(np.float32)
    rough = noise(points * rng.uniform(2, 6), light.background) * 0.5
    rough += noise(points * rng.uniform(8, 30), light.background + 1) * 0.25
    smooth = cv2.resize(rough.reshape(coarse, coarse), (size, size), interpolation=cv2.INTER_CUBIC)
    stuff = smooth.reshape(-1)
    level = rng.uniform(0.05, 0.6)
    colour = rng.uniform(0.6, 1.4, 3) * level
    rgb = np.maximum(0.01, colour * (1 + stuff[:, None])) * (light.ambient + 0.4 * light.key)
    distance = rng.uniform(1.2, 4.0) + 0.3 * stuff
    nir = 0.4 * (1 + stuff) * (light.emitter * (0.5 / distance) ** 2 + 0.5 * light.nir_ambient)
    grid = (size, size)
    return Picture(
        rgb=rgb.reshape(*grid, 3).astype(np.float32),
        nir=nir.reshape(grid).astype(np.float32),
        depth_m=distance.reshape(grid).astype(np.float32),
        gloss=np.zeros(grid, np.float32),
        slant=np.ones(grid, np.float32),
        is_dark=np.zeros(grid, np.bool_),
    )
