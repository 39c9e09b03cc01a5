"""Presentation attack instruments: prints, screens and masks, shown to the same camera and light.

Six prints are those of CASIA-SURF: flat or bent, with the eyes, the nose too, or the mouth too
cut out, held before the attacker's own face. `half` is a print that covers half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.rays import Array
from model.render.scene import Light, Paint, Picture, Solid, View, highlight, shoot
from model.render.skin import Reflectance, Spot

BONA_FIDE = "bona_fide"
PRINTS = ("01_e_s", "02_e_b", "03_en_s", "04_en_b", "05_enm_s", "06_enm_b")
HALF = "half"
SCREENS = ("phone", "tablet")
MASKS = ("mask", "silicone")
OTHERS = (*SCREENS, *MASKS, HALF)
SPECIES = (*PRINTS, *OTHERS)

_SIDE = 224
# Where features are on the average head, m: middle, and half width and height of the cut-outs.
_EYES = ((-0.031, 0.011), (0.031, 0.011))
_NOSE = (0.0, -0.02)
_MOUTH = (0.0, -0.053)
# Distance of the features' plane from the head's middle, towards the camera, m.
_FEATURES_M = 0.075


@dataclass(frozen=True, eq=False)
class Photo:
    """A frontal picture of a target's face, as an attacker has it.

    Attributes:
        linear: (224, 224, 3) linear RGB.
        view: the camera that took it, to find features again.
    """

    linear: Array
    view: View

    def where(self, place: Array) -> tuple[Array, Array]:
        """Return x and y, m, on the average head, of places (S, S, 2) in the picture, [0, 1]."""
        scale = (self.view.centre_m[2] - _FEATURES_M) / self.view.focal_px
        x, y = (place * _SIDE - self.view.centre_px).transpose(2, 0, 1) * scale
        return x - self.view.centre_m[0], self.view.centre_m[1] - y

    def place(self, x: Array, y: Array) -> Array:
        """Return where in the picture points of the average head are, (N, 2) in [0, 1]."""
        points = np.stack([x, -y, np.full_like(x, -_FEATURES_M)], 1) + self.view.centre_m
        placed: Array = self.view.project(points) / _SIDE
        return placed


def photograph(solid: Solid, paint: Paint, seed: int) -> Photo:
    """Take the picture that the attack will show."""
    rng = np.random.default_rng(seed)
    view = View(
        _SIDE,
        1.55 * _SIDE,
        (_SIDE / 2, _SIDE / 2),
        np.array([0, 0.01, 0.62], np.float32),
        np.eye(3, dtype=np.float32),
    )
    towards = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0), -0.9], np.float32)
    light = Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=np.full(3, rng.uniform(0.4, 0.9), np.float32),
        ambient=np.full(3, rng.uniform(0.3, 0.6), np.float32),
        nir_ambient=0.0,
        emitter=0.0,
        pulse=(0, 1),
        background=seed,
    )
    linear = shoot(solid, paint, view, light).rgb
    return Photo(linear / (np.percentile(linear, 95) + 1e-6) * 0.85, view)


@dataclass(frozen=True, eq=False)
class Sheet:
    """A flat or bent rectangle before the camera.

    Attributes:
        centre_m: (3,) its middle, in the camera's frame.
        turn: (3, 3) its rotation.
        side_m: width and height.
        bend: curvature about its vertical, 1/m; 0 is flat.
        drape: how far it follows the face behind it, [0, 1].
    """

    centre_m: Array
    turn: Array
    side_m: float
    bend: float
    drape: float

    def meet(self, view: View) -> tuple[Array, Array, Array]:
        """Return, per pixel: place on the sheet in [0, 1] (S, S, 2), depth in m, slant.

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
        place = np.stack([x, y], 1) / self.side_m + 0.5
        depth = np.where(inside, length * rays[:, 2], np.inf)
        tilt = -self.bend * x
        slant = np.abs(tilt * along[:, 0] + along[:, 2]) / np.sqrt(tilt**2 + 1)
        grid = (view.size, view.size)
        return (
            place.reshape(*grid, 2).astype(np.float32),
            depth.reshape(grid).astype(np.float32),
            slant.reshape(grid).astype(np.float32),
        )

    def _has(self, origin: Array, along: Array, length: Array) -> NDArray[np.bool_]:
        """Return where points at `length` along rays lie within the sheet's edges."""
        x, y = (np.abs(origin[axis] + along[:, axis] * length) for axis in (0, 1))
        inside: NDArray[np.bool_] = np.maximum(x, y) <= self.side_m / 2
        return inside & (length > 0.05)


# Takes the picture of the person behind a sheet, given the pixels that the sheet covers.
Person = Callable[[NDArray[np.bool_]], Picture]


def show_print(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    species: str, photo: Photo, person: Person, sheet: Sheet, view: View, light: Light, seed: int
) -> Picture:
    """Return the scene with a print held before a person."""
    rng = np.random.default_rng(seed)
    place, depth, slant = sheet.meet(view)
    x, y = photo.where(place)
    shown = np.isfinite(depth) & ~_is_cut_out(species, x, y, rng)
    if rng.random() < 0.5:  # cut along the face's outline
        shown &= (x / rng.uniform(0.075, 0.1)) ** 2 + (y / rng.uniform(0.105, 0.14)) ** 2 < 1
    behind = person(shown)
    # Paper does not go through a face: where it would, it lies on it.
    depth = np.minimum(_draped(depth, behind.depth_m, sheet.drape), behind.depth_m - 0.002)
    ink = _printed(_look_up(photo.linear, place), place, rng)
    picture = _lit(ink, _print_nir(ink, rng), depth, slant, light, sheet, place)
    behind.put(picture, shown)
    return behind


def show_screen(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    species: str, photo: Photo, person: Person, sheet: Sheet, view: View, light: Light, seed: int
) -> Picture:
    """Return the scene with a phone or tablet held before a person."""
    rng = np.random.default_rng(seed)
    place, depth, slant = sheet.meet(view)
    aspect = 0.62 if species == "phone" else 0.8
    across = np.abs(place[..., 0] - 0.5) / aspect
    shown = np.isfinite(depth) & (across < 0.5)
    bezel = np.maximum(across, np.abs(place[..., 1] - 0.5)) > rng.uniform(0.46, 0.495)
    glow = _look_up(photo.linear, place) * rng.uniform(0.5, 1.8)
    # Two grids, the screen's and the camera's, beat: moire.
    angle = rng.uniform(0, np.pi)
    wave = place[..., 0] * np.cos(angle) + place[..., 1] * np.sin(angle)
    beat = np.sin(2 * np.pi * wave * rng.uniform(25, 110) + rng.uniform(0, 6))
    glow = glow * (1 + max(0.0, rng.uniform(-0.08, 0.1)) * beat[..., None]) + 0.01
    spot = rng.uniform(0.1, 0.9, 2)
    glare = _blob(place, spot, rng.uniform(0.002, 0.05)) * max(0.0, rng.uniform(-0.5, 0.7))
    glow = np.where(bezel[..., None], 0.015, glow) + glare[..., None] * light.key
    emitted = light.emitted(view.size) * (0.5 / np.minimum(depth, 9)) ** 2
    shine = _blob(place, rng.uniform(0, 1, 2), 0.004) * (rng.random() < 0.4)
    nir = emitted * (rng.uniform(0.02, 0.06) + 0.5 * shine)
    nir = nir + light.nir_ambient * (0.04 + 0.3 * glare)
    grid = shown.shape
    screen = Picture(
        rgb=glow.astype(np.float32),
        nir=nir.astype(np.float32),
        depth_m=depth,
        gloss=np.full(grid, 0.9, np.float32),
        slant=slant,
        is_dark=np.full(grid, bool(rng.random() < 0.3)),
    )
    behind = person(shown)
    behind.put(screen, shown)
    return behind


class MaskedSkin:
    """A mask with a target's face, on its wearer: holes for the eyes, and an edge."""

    def __init__(
        self, target: Paint, wearer: Paint, species: str, rng: np.random.Generator
    ) -> None:
        """Draw the mask: `mask` is rigid plastic, `silicone` is nearly skin and covers more."""
        self._target, self._wearer = target, wearer
        is_silicone = species == "silicone"
        self._edge = rng.uniform(0.1, 0.14) if is_silicone else rng.uniform(0.075, 0.11)
        # Paint lacks what lies below skin: the same pigment nearly all over, and no blood.
        self._evenness = rng.uniform(0.1, 0.4) if is_silicone else rng.uniform(0.3, 0.7)
        self._nir = rng.uniform(0.42, 0.66) if is_silicone else rng.uniform(0.6, 0.85)
        self._nir_contrast = rng.uniform(0.1, 0.5)
        self._gloss = rng.uniform(0, 0.15) if is_silicone else rng.uniform(0, 0.4)

    def __call__(self, spot: Spot) -> Reflectance:
        """Return the reflectance at points of the masked head."""
        mask, face = self._target(spot), self._wearer(spot)
        x, y, z = spot.where.T
        reach = (x / self._edge) ** 2 + ((y + 0.015) / (self._edge * 1.3)) ** 2
        covers = (reach < 1) & (z > 0) & (spot.is_eye < 0.5) & (spot.is_cloth < 0.5)
        if not covers.any():
            return face
        even = self._evenness
        rgb = (1 - even) * mask.rgb + even * mask.rgb[:, covers].mean(1, keepdims=True)
        nir = self._nir + self._nir_contrast * (mask.nir - mask.nir[covers].mean())
        return Reflectance(
            np.where(covers, rgb, face.rgb).astype(np.float32),
            np.where(covers, np.clip(nir, 0.02, 0.95), face.nir).astype(np.float32),
            np.where(covers, np.clip(mask.gloss + self._gloss, 0, 1), face.gloss).astype(
                np.float32
            ),
        )


def _is_cut_out(species: str, x: Array, y: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which points of the printed face are missing."""
    if species == HALF:
        side = rng.choice([-1, 1])
        missing: NDArray[np.bool_] = x * side > 0 if rng.random() < 0.5 else y > -0.02
        return missing
    parts = [(eye, (0.018, 0.010)) for eye in _EYES]
    if "_en" in species:
        parts.append((_NOSE, (0.018, 0.023)))
    if "_enm" in species:
        parts.append((_MOUTH, (0.027, 0.013)))
    holes = np.zeros(x.shape, np.bool_)
    for (at_x, at_y), half in parts:
        half_w, half_h = half * rng.uniform(0.85, 1.25, 2)
        holes |= ((x - at_x) / half_w) ** 2 + ((y - at_y) / half_h) ** 2 < 1
    return holes


def _draped(depth: Array, behind_m: Array, drape: float) -> Array:
    """Let a sheet follow what is behind it, smoothly."""
    if not drape:
        return depth
    held = np.isfinite(depth)
    face = np.where(held, np.clip(behind_m - 0.004, 0, np.where(held, depth, 9) + 0.12), 0)
    sigma = len(depth) / 25
    weight = cv2.GaussianBlur(held.astype(np.float32), (0, 0), sigma)
    smooth = cv2.GaussianBlur(face.astype(np.float32), (0, 0), sigma) / (weight + 1e-6)
    draped: Array = np.where(held, (1 - drape) * depth + drape * smooth, np.inf)
    return draped.astype(np.float32)


def _printed(linear: Array, place: Array, rng: np.random.Generator) -> Array:
    """Return what a printer makes of a picture: fewer colours, a cast, dots; reflectances."""
    sharpness = float(rng.uniform(0.2, 0.9))
    picture = cv2.GaussianBlur(np.clip(linear, 0, 1), (0, 0), sharpness) ** (1 / 2.2)
    picture = picture * rng.uniform(0.85, 1.05) + rng.uniform(0.0, 0.06)
    picture = picture * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    x, y = (place[..., axis] * rng.uniform(250, 700) for axis in (0, 1))
    dots = max(0.0, rng.uniform(-0.04, 0.05)) * np.sin(x) * np.sin(y)
    paper = rng.uniform(0.7, 0.95)
    printed: Array = np.clip(picture + dots[..., None], 0.02, 1).astype(np.float32) ** 2.2 * paper
    return printed


def _print_nir(ink: Array, rng: np.random.Generator) -> Array:
    """Return a print's reflectance in near infrared.

    Dye inks that look black are nearly clear there, and paper shines through them all. Toner is
    carbon: what looks dark stays dark, and the face can be seen.
    """
    is_toner = rng.random() < 0.5
    contrast = rng.uniform(0.5, 1.0) if is_toner else rng.uniform(0.02, 0.25)
    grey = (sum(cv2.split(ink)) / 3) ** rng.uniform(0.4, 0.8)
    nir: Array = rng.uniform(0.55, 0.85) * (1 - contrast + contrast * grey)
    return nir


def _lit(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    ink: Array, nir: Array, depth: Array, slant: Array, light: Light, sheet: Sheet, place: Array
) -> Picture:
    facing = sheet.turn @ np.array([0, 0, -1], np.float32)
    side = (place[..., 0] - 0.5) * sheet.side_m * sheet.bend
    lit = np.clip(facing @ light.direction + side * light.direction[0], 0, 1)
    emitted = light.emitted(len(depth)) * (0.5 / np.where(np.isfinite(depth), depth, 9.0)) ** 2
    gloss = float(np.clip(nir.std() * 3, 0, 0.6))
    shine = gloss * highlight(lit, 30)
    bands = zip(cv2.split(ink), light.key, light.ambient, strict=True)
    rgb = [band * (key * lit + ambient) + 0.3 * shine for band, key, ambient in bands]
    return Picture(
        rgb=cv2.merge(rgb).astype(np.float32),
        nir=(nir * (emitted * slant + light.nir_ambient * (0.4 + lit))).astype(np.float32),
        depth_m=depth,
        gloss=np.full(depth.shape, gloss, np.float32),
        slant=slant,
        is_dark=np.zeros(depth.shape, np.bool_),
    )


def _look_up(image: Array, place: Array) -> Array:
    x, y = place[..., 0] * _SIDE - 0.5, place[..., 1] * _SIDE - 0.5
    looked_up: Array = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return looked_up


def _blob(place: Array, centre: Array, spread: float) -> Array:
    x, y = (place[..., axis] - centre[axis] for axis in (0, 1))
    blob: Array = np.exp(-(x**2 + y**2) / spread)
    return blob
