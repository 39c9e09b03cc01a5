"""What is around a face: the wall behind it, and the glasses before it."""

import cv2
import numpy as np

from model.render.skin import EYE_M
from model.render.view import Light, Picture, View

# Glasses: their plane before the average head, m, and a lens' half width and height.
_GLASSES_Z_M = 0.107
_LENS_M = (0.027, 0.021)
# How much of a background's unevenness is colour.
_TINT = 0.2


def put_on_glasses(picture: Picture, view: View, light: Light, rng: np.random.Generator) -> None:
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
    picture.albedo[is_rim] = shade * 0.5


def background(view: View, light: Light) -> Picture:
    """Return a wall, unevenly lit, with a few flat things before it."""
    rng = np.random.default_rng(light.background)
    size, grid = view.size, (view.size, view.size)
    smooth = np.zeros((*grid, 4), np.float32)
    fine = float(np.exp(rng.uniform(np.log(0.03), np.log(0.4))))
    for steps, strength in ((int(rng.integers(2, 5)), 0.3), (int(rng.integers(10, 90)), fine)):
        rough = rng.standard_normal((steps, steps, 4), np.float32) * strength * _TINT
        rough[..., :3] += rough[..., 3:] / _TINT
        smooth += cv2.resize(rough, grid, interpolation=cv2.INTER_LINEAR)
    level = np.empty((*grid, 4), np.float32)
    level[:] = np.float32(rng.uniform(0.05, 0.7)) * rng.uniform(0.8, 1.2, 4)
    distance = np.full(
        grid, view.centre_m[2] + np.exp(rng.uniform(np.log(0.2), np.log(3.0))), np.float32
    )
    for _ in range(int(rng.integers(0, 12))):
        x, y = rng.uniform(-0.2, 1, 2) * size
        width, height = rng.uniform(0.05, 0.8, 2) * size
        box = (slice(int(max(0, y)), int(y + height)), slice(int(max(0, x)), int(x + width)))
        level[box] = rng.uniform(0.02, 0.8) * rng.uniform(0.6, 1.4, 4)
        distance[box] = view.centre_m[2] + np.exp(rng.uniform(np.log(0.15), np.log(2.5)))
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
        albedo=infrared,
    )
