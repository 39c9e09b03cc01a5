"""Hands: of who holds a sheet or a screen, and of people whose own are near their faces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.render.rays import Array, Caster
from model.render.view import Light, Picture, View, dot, highlight

# A capsule's rings along its axis, in radii beyond its ends, and their radii: round enough.
_RINGS = ((-1.0, 0.0), (-0.7, 0.71), (0.0, 1.0))
_SIDES = 9
_FINGER_M, _ARM_M = 0.0085, 0.032


@dataclass(frozen=True, eq=False)
class Hand:
    """Hands and forearms as capsules.

    Attributes:
        starts: (N, 3) m, one end of each capsule's axis, in the camera's frame.
        ends: (N, 3) m, the other.
        radii: (N,) m.
    """

    starts: Array
    ends: Array
    radii: Array

    def moved(self, turn: Array, by: Array) -> "Hand":
        """Return it turned, then moved."""
        return Hand(self.starts @ turn.T + by, self.ends @ turn.T + by, self.radii)

    def joints(self) -> Array:
        """Return the ends of all capsules but the forearm's, (M, 3) m."""
        is_hand = self.radii < _ARM_M
        return np.concatenate([self.starts[is_hand], self.ends[is_hand]])

    def centred(self) -> "Hand":
        """Return it with its middle, without the forearm, at the origin."""
        joints = self.joints()
        return self.moved(np.eye(3, dtype=np.float32), -(joints.max(0) + joints.min(0)) / 2)

    def mesh(self) -> tuple[Array, NDArray[np.int32], Array]:
        """Return vertices (V, 3), triangles (T, 3) and normals (V, 3)."""
        axis = self.ends - self.starts
        length = np.linalg.norm(axis, axis=1)
        along = axis / (length[:, None] + 1e-9)
        helper = np.where(np.abs(along[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
        side = np.cross(along, helper)
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        other = np.cross(along, side)
        angle = np.arange(_SIDES) / _SIDES * 2 * np.pi
        round_ = side[:, None] * np.cos(angle)[:, None] + other[:, None] * np.sin(angle)[:, None]
        rings = [(0.0, at, out) for at, out in _RINGS]
        rings += [(1.0, -at, out) for at, out in reversed(_RINGS)]
        points, normals = [], []
        for end, at, out in rings:
            middle = self.starts + axis * end
            normal = along[:, None] * at + round_ * out
            points.append(middle[:, None] + normal * self.radii[:, None, None])
            normals.append(normal)
        stacked = np.stack(points, 1)  # (N, rings, sides, 3)
        count, num_rings = stacked.shape[:2]
        ring, at_side = np.meshgrid(np.arange(num_rings - 1), np.arange(_SIDES), indexing="ij")
        a, b = ring * _SIDES + at_side, ring * _SIDES + (at_side + 1) % _SIDES
        quads = np.stack([a, a + _SIDES, b, b, a + _SIDES, b + _SIDES], -1).reshape(-1, 3)
        offsets = np.arange(count)[:, None, None] * num_rings * _SIDES
        return (
            stacked.reshape(-1, 3).astype(np.float32),
            (quads[None] + offsets).reshape(-1, 3).astype(np.int32),
            np.stack(normals, 1).reshape(-1, 3).astype(np.float32),
        )


@dataclass(frozen=True)
class Flesh:
    """What hands reflect.

    Attributes:
        rgb: (3,) linear.
        nir: in near infrared.
    """

    rgb: Array
    nir: float


def pinch(edge: Array, rng: np.random.Generator) -> Hand:
    """Return a hand that holds a sheet between thumb and fingers.

    Args:
        edge: (2,) m, where on the sheet's left or right edge, from its middle; the sheet lies in
            x and y, and z points away from the camera.
        rng: of its pose.
    """
    x, y = edge
    out = float(np.sign(x)) or 1.0
    reach = rng.uniform(0.02, 0.045)
    wrist = (x + 0.075 * out, y + 0.06, 0.05)
    knuckle = (x + 0.03 * out, y + 0.01, 0.02)
    bones = [(wrist, knuckle, 0.026), (wrist, (x + 0.16 * out, y + 0.4, 0.25), _ARM_M)]
    for number in range(4):  # behind it
        lower = y + 0.018 * (number - 1.5)
        bones.append(((x + 0.02 * out, lower, 0.012), (x - 0.05 * out, lower, 0.012), _FINGER_M))
    thumb = (x + 0.022 * out, y - 0.008, 0.004)
    tip = (x - reach * out, y - rng.uniform(0.0, 0.03), -0.009)
    bones += [(knuckle, thumb, 0.012), (thumb, tip, _FINGER_M * 1.15)]
    return _hand(bones)


def grip(half_w: float, half_h: float, rng: np.random.Generator) -> Hand:
    """Return a hand that holds a phone or a tablet from behind, its fingers around the edges."""
    out = float(rng.choice([-1, 1]))
    y = float(rng.uniform(0.0, 0.7)) * half_h
    palm = ((0.3 * half_w * out, y, 0.035), (-0.4 * half_w * out, y + 0.03, 0.035), 0.028)
    arm = ((0.3 * half_w * out, y + 0.03, 0.04), (0.1 * out, half_h + 0.3, 0.25), _ARM_M)
    bones = [palm, arm]
    for number in range(4):
        level = y + 0.02 * (number - 1.5)
        corner = ((half_w + 0.008) * out, level, 0.006)
        tip = ((half_w - rng.uniform(-0.004, 0.01)) * out, level - 0.003, -0.007)
        bones += [((0.3 * half_w * out, level, 0.03), corner, _FINGER_M), (corner, tip, _FINGER_M)]
    root = (-(half_w + 0.012) * out, y + 0.02, 0.01)
    tip = (-(half_w - rng.uniform(-0.005, 0.008)) * out, y - 0.035, -0.007)
    bones += [(palm[1], root, 0.013), (root, tip, _FINGER_M * 1.2)]
    return _hand(bones)


def raised(rng: np.random.Generator) -> Hand:
    """Return a hand beside the face of its owner, in the head's frame: x left, y up, z forward."""
    out = float(rng.choice([-1, 1]))
    x, y, z = out * rng.uniform(0.06, 0.1), rng.uniform(-0.12, 0.05), rng.uniform(0.03, 0.1)
    wrist = (x + 0.03 * out, y - 0.09, z - 0.01)
    bones = [(wrist, (x, y, z), 0.03), (wrist, (x + 0.14 * out, y - 0.4, z + 0.05), _ARM_M)]
    curl = rng.uniform(0.2, 1.0)
    for number in range(4):
        spread = 0.018 * (number - 1.5)
        root = (x + spread, y + 0.03, z)
        joint = (x + 1.3 * spread, y + 0.03 + 0.04 * curl, z + 0.015)
        tip = (x + 1.4 * spread, y + 0.03 + 0.07 * curl, z + 0.04 * (1 - curl))
        bones += [(root, joint, _FINGER_M), (joint, tip, _FINGER_M)]
    bones.append(((x - 0.02 * out, y - 0.01, z), (x - 0.05 * out, y + 0.03, z + 0.01), 0.011))
    return _hand(bones)


def put_hand(picture: Picture, hand: Hand, flesh: Flesh, view: View, light: Light) -> None:
    """Draw a hand into a picture, where it is nearer than what is there."""
    vertices, triangles, normals = hand.mesh()
    in_front = vertices[vertices[:, 2] > 0.1]
    if not len(in_front):
        return
    at = view.project(in_front)
    left, top = np.clip(np.floor(at.min(0)), 0, view.size).astype(int)
    right, bottom = np.clip(np.ceil(at.max(0)) + 1, 0, view.size).astype(int)
    if left >= right or top >= bottom:
        return
    columns, rows = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
    pixels = (rows * view.size + columns).ravel()
    rays = view.rays.take(pixels, axis=0)
    hits = Caster(vertices, triangles).cast(np.zeros_like(rays), rays)
    depth = hits.distance * rays[:, 2]
    met = np.flatnonzero(hits.is_hit & (depth < picture.depth_m.ravel().take(pixels)))
    corners = normals.take(triangles.take(hits.triangle.take(met), axis=0), axis=0)
    u, v = hits.u.take(met), hits.v.take(met)
    normal = np.einsum("nck,nc->nk", corners, np.stack([1 - u - v, u, v], 1))
    normal /= np.sqrt(dot(normal, normal))[:, None] + 1e-9
    lit = np.maximum(0, normal @ light.direction)
    slant = np.maximum(0, -dot(normal, rays.take(met, axis=0)))
    seen, depth = pixels.take(met), depth.take(met)
    ambient, key = light.ambient, light.key
    colour = flesh.rgb * (key * lit[:, None] + ambient * (0.75 - 0.25 * normal[:, 1:2]))
    emitted = light.emitted(view.size)[seen // view.size, 0] * (0.5 / depth) ** 2
    infrared = flesh.nir * (emitted * slant + light.nir_ambient * (0.4 + lit))
    infrared += 0.05 * highlight(slant, 60) * emitted
    picture.rgb.reshape(-1, 3)[seen] = colour
    for plane, values in (
        (picture.nir, infrared),
        (picture.depth_m, depth),
        (picture.slant, slant),
        (picture.albedo, np.full(len(seen), flesh.nir)),
        (picture.gloss, np.full(len(seen), 0.2)),
    ):
        plane.put(seen, values)


def _hand(bones: Sequence[tuple[tuple[float, ...], tuple[float, ...], float]]) -> Hand:
    starts, ends, radii = zip(*bones, strict=True)
    return Hand(
        np.array(starts, np.float32), np.array(ends, np.float32), np.array(radii, np.float32)
    )
