"""Presentation attack instruments: prints, screens and masks, shown to the same camera and light.

The six prints are those of CASIA-SURF: flat or bent, with the eyes, the nose too, or the mouth too
cut out, held before the attacker's own face.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.heads import Head
from model.render.rays import Array
from model.render.scene import Light, Picture, View, shoot
from model.render.sensors import to_uint8
from model.render.skin import Skin

BONA_FIDE = "bona_fide"
PRINTS = ("01_e_s", "02_e_b", "03_en_s", "04_en_b", "05_enm_s", "06_enm_b")
SCREENS = ("phone", "tablet")
MASKS = ("mask",)
SPECIES = (*PRINTS, *SCREENS, *MASKS)

_SIDE = 224
# Where features are on the average head, m: middle, and half width and height of the cut-outs.
_EYES = ((-0.031, 0.008), (0.031, 0.008))
_NOSE = (0.0, -0.02)
_MOUTH = (0.0, -0.053)


@dataclass(frozen=True)
class Photo:
    """A frontal picture of a target's face, as an attacker has it.

    Attributes:
        linear: (224, 224, 3) linear RGB.
        face_px: width of the face in it, px.
        view: the camera that took it, to find features again.
    """

    linear: Array
    view: View


def photograph(head: Head, skin: Skin, seed: int) -> Photo:
    """Take the picture that the attack will show."""
    rng = np.random.default_rng(seed)
    view = View(
        _SIDE, 1.55 * _SIDE, np.array([0, 0.01, 0.62], np.float32), np.eye(3, dtype=np.float32)
    )
    towards = np.array([rng.uniform(-0.5, 0.5), -0.5, -0.9], np.float32)
    light = Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=np.full(3, 0.8, np.float32),
        ambient=np.full(3, 0.45, np.float32),
        nir_ambient=0.0,
        emitter=0.0,
        background=seed,
    )
    linear = shoot(head, skin, view, light).rgb
    return Photo(linear / (np.percentile(linear, 95) + 1e-6) * 0.85, view)


@dataclass(frozen=True)
class Sheet:
    """A flat or bent rectangle before the camera.

    Attributes:
        centre_m: (3,) its middle, in the camera's frame.
        turn: (3, 3) its rotation.
        side_m: width and height.
        bend: curvature about its vertical, 1/m; 0 is flat.
    """

    centre_m: Array
    turn: Array
    side_m: float
    bend: float

    def meet(self, view: View) -> tuple[Array, Array, Array]:
        """Return, per pixel: place on the sheet in [0, 1] (S, S, 2), depth in m, slant.

        Depth is inf where the ray misses.
        """
        rays = view.rays()
        origin = -self.centre_m @ self.turn
        along = rays @ self.turn
        # The surface is z = bend * x^2 / 2 in its own frame: a quadratic in the ray's length.
        a = -self.bend / 2 * along[:, 0] ** 2
        b = along[:, 2] - self.bend * origin[0] * along[:, 0]
        c = origin[2] - self.bend / 2 * origin[0] ** 2
        if self.bend:
            root = np.sqrt(np.maximum(0, b * b - 4 * a * c))
            length = np.where(np.abs(a) > 1e-9, 2 * c / (-b - np.sign(b) * root), -c / b)
        else:
            length = -c / b
        at = origin + along * length[:, None]
        place = at[:, :2] / self.side_m + 0.5
        inside = (place >= 0).all(1) & (place <= 1).all(1) & (length > 0.05)
        depth = np.where(inside, length * rays[:, 2], np.inf)
        normal = np.stack([-self.bend * at[:, 0], np.zeros(len(at)), np.ones(len(at))], 1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        slant = np.abs((normal * along).sum(1))
        grid = (view.size, view.size)
        return (
            place.reshape(*grid, 2).astype(np.float32),
            depth.reshape(grid).astype(np.float32),
            slant.reshape(grid).astype(np.float32),
        )


def show_print(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    species: str, photo: Photo, behind: Picture, sheet: Sheet, view: View, light: Light, seed: int
) -> Picture:
    """Return the scene with a cut-out print held before the person in `behind`."""
    rng = np.random.default_rng(seed)
    paper = np.array(rng.uniform(0.75, 0.9, 3), np.float32)
    ink = _printed(photo.linear, rng) * paper
    # Inks that look black are nearly clear in near infrared: paper shines through them all.
    # Source: inkjet dye inks' transparency in NIR; the contrast left over is ours.
    left = rng.uniform(0.02, 0.25)
    nir = 0.8 * (1 - left + left * ink.mean(2))
    place, depth, slant = sheet.meet(view)
    picture = _lit(place, depth, slant, ink, nir, light, sheet, gloss=float(rng.uniform(0, 0.6)))
    shown = np.isfinite(depth) & ~_sample(_holes(species, photo).astype(np.float32), place, 0.5)
    behind.put(picture, shown & (depth < behind.depth_m + 0.05))
    return behind


def show_screen(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    species: str, photo: Photo, behind: Picture, sheet: Sheet, view: View, light: Light, seed: int
) -> Picture:
    """Return the scene with a phone or tablet held before the person in `behind`."""
    rng = np.random.default_rng(seed)
    place, depth, slant = sheet.meet(view)
    shown = np.isfinite(depth)
    aspect = 0.62 if species == "phone" else 0.8
    shown &= np.abs(place[..., 0] - 0.5) < aspect / 2
    bezel = np.maximum(np.abs(place[..., 0] - 0.5) / aspect, np.abs(place[..., 1] - 0.5)) > 0.47
    glow = cv2.remap(
        photo.linear, place[..., 0] * _SIDE, place[..., 1] * _SIDE, cv2.INTER_LINEAR
    ) * rng.uniform(0.7, 1.6)
    # Two grids, the screen's and the camera's, beat: moire.
    angle = rng.uniform(0, np.pi)
    wave = place[..., 0] * np.cos(angle) + place[..., 1] * np.sin(angle)
    beat = np.sin(2 * np.pi * wave * rng.uniform(25, 110) + rng.uniform(0, 6))
    glow = glow * (1 + rng.uniform(0.0, 0.12) * beat[..., None]) + 0.01
    spot = rng.uniform(0.1, 0.9, 2)
    glare = np.exp(-((place - spot) ** 2).sum(-1) / rng.uniform(0.002, 0.05)) * rng.uniform(0, 0.7)
    glow = np.where(bezel[..., None], 0.015, glow) + glare[..., None] * light.key
    shine = np.exp(-((place - rng.uniform(0.2, 0.8, 2)) ** 2).sum(-1) / 0.004)
    nir = 0.03 * light.emitter * (0.5 / np.maximum(depth, 0.1)) ** 2 + shine * light.emitter * 0.5
    nir = nir + 0.05 * light.nir_ambient
    grid = shown.shape
    screen = Picture(
        rgb=glow.astype(np.float32),
        nir=nir.astype(np.float32),
        depth_m=depth,
        gloss=np.full(grid, 0.9, np.float32),
        slant=slant,
        is_dark=np.full(grid, bool(rng.random() < 0.3)),
    )
    behind.put(screen, shown)
    return behind


@cache
def _grid() -> Array:
    at = np.arange(_SIDE, dtype=np.float32)
    return np.stack(np.meshgrid(at, at), -1)


def _holes(species: str, photo: Photo) -> NDArray[np.bool_]:
    """Return (224, 224) bool: what is cut out of the print."""
    parts: list[tuple[tuple[float, float], tuple[float, float]]] = [
        (eye, (0.017, 0.009)) for eye in _EYES
    ]
    if "_en" in species:
        parts.append((_NOSE, (0.018, 0.022)))
    if "_enm" in species:
        parts.append((_MOUTH, (0.026, 0.012)))
    holes = np.zeros((_SIDE, _SIDE), np.bool_)
    for (x, y), (half_w, half_h) in parts:
        point = np.array([[x, -y, -0.075]], np.float32) + photo.view.centre_m
        centre = photo.view.project(point)[0]
        scale = photo.view.focal_px / point[0, 2]
        reach = (_grid() - centre) / (np.array([half_w, half_h], np.float32) * scale)
        holes |= (reach**2).sum(-1) < 1
    return holes


def _printed(linear: Array, rng: np.random.Generator) -> Array:
    """Return what a printer makes of a picture: fewer colours, a cast, dots."""
    picture = to_uint8(linear).astype(np.float32) / 255
    picture = picture * rng.uniform(0.88, 1.0) + rng.uniform(0.0, 0.08)
    picture = picture * rng.uniform(0.92, 1.05, 3)
    dots = np.sin(_grid()[..., 0] * rng.uniform(1.4, 2.6)) * np.sin(_grid()[..., 1] * 1.9)
    picture = picture + rng.uniform(0.0, 0.05) * dots[..., None]
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), float(rng.uniform(0.3, 1.0)))
    printed: Array = np.clip(picture, 0.02, 1).astype(np.float32) ** 2.2
    return printed


def _sample(image: Array, place: Array, threshold: float) -> NDArray[np.bool_]:
    sampled = cv2.remap(image, place[..., 0] * _SIDE, place[..., 1] * _SIDE, cv2.INTER_LINEAR)
    above: NDArray[np.bool_] = sampled > threshold
    return above


def _lit(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    place: Array,
    depth: Array,
    slant: Array,
    ink: Array,
    nir: Array,
    light: Light,
    sheet: Sheet,
    gloss: float,
) -> Picture:
    x, y = place[..., 0] * _SIDE, place[..., 1] * _SIDE
    colour = cv2.remap(ink, x, y, cv2.INTER_LINEAR)
    infrared = cv2.remap(nir.astype(np.float32), x, y, cv2.INTER_LINEAR)
    facing = sheet.turn @ np.array([0, 0, -1], np.float32)
    side = (place[..., 0] - 0.5) * sheet.side_m * sheet.bend
    lit = np.clip(facing @ light.direction + side * light.direction[0], 0, 1)
    near = (0.5 / np.where(np.isfinite(depth), depth, 9.0)) ** 2
    shine = gloss * np.clip(lit, 0, 1) ** 30
    return Picture(
        rgb=(colour * (light.key * lit[..., None] + light.ambient) + 0.3 * shine[..., None]).astype(
            np.float32
        ),
        nir=(infrared * (light.emitter * slant * near + light.nir_ambient * (0.4 + lit))).astype(
            np.float32
        ),
        depth_m=depth,
        gloss=np.full(depth.shape, gloss, np.float32),
        slant=slant,
        is_dark=np.zeros(depth.shape, np.bool_),
    )
