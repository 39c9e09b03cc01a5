"""Presentation attack instruments: prints, screens and masks, shown to the same camera and light.

Six prints are those of CASIA-SURF: flat or bent, with the eyes, the nose too, or the mouth too
cut out, held before the attacker's own face. `half` is a print that covers half of it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.photo import Photo
from model.render.rays import Array
from model.render.sheets import Sheet, draped
from model.render.view import Before, Light, Picture, View, highlight

BONA_FIDE = "bona_fide"
PRINTS = ("01_e_s", "02_e_b", "03_en_s", "04_en_b", "05_enm_s", "06_enm_b")
HALF = "half"
SCREENS = ("phone", "tablet")
MASKS = ("mask", "silicone")
OTHERS = (*SCREENS, *MASKS, HALF)
# What a detector takes for a face, and is none: the back of a head, a hand.
BACK, HAND = "back", "hand"
NON_FACES = (BACK, HAND)
SPECIES = (*PRINTS, *OTHERS, *NON_FACES)

# Where features are on the average head, m: middle, and half width and height of the cut-outs.
_EYES = ((-0.031, 0.011), (0.031, 0.011))
_NOSE = (0.0, -0.02)
_MOUTH = (0.0, -0.053)


@dataclass(frozen=True, eq=False)
class Shown:
    """What is shown to a camera.

    Attributes:
        species: which instrument.
        photo: the target's picture.
        sheet: what it is on.
        view: of the camera.
        light: of the scene.
        person: takes the picture of the holder, given what stands before them.
    """

    species: str
    photo: Photo
    sheet: Sheet
    view: View
    light: Light
    person: Callable[[Before], Picture]


def show_print(shown: Shown, rng: np.random.Generator) -> Picture:
    """Return the scene with a print held before a person."""
    sheet, light = shown.sheet, shown.light
    at, depth, slant = sheet.meet(shown.view)
    place = sheet.in_picture(at)
    x, y = shown.photo.where(place)
    covers = np.isfinite(depth) & ~_is_cut_out(shown.species, x, y, rng)
    if rng.random() < 0.5:  # cut along the face's outline
        covers &= (x / rng.uniform(0.075, 0.1)) ** 2 + (y / rng.uniform(0.105, 0.14)) ** 2 < 1
    behind = shown.person(sheet.before(covers, shown.view))
    curl = 0.0015 * np.sin(at[..., 0] * rng.uniform(10, 40) + at[..., 1] * rng.uniform(-30, 30))
    depth = draped(depth, behind.depth_m, sheet.drape) + curl.astype(np.float32)
    ink = _printed(shown.photo.look_up(place), at, rng)
    ink[~shown.photo.shows(place)] = rng.uniform(0.6, 0.9)
    fibre = rng.standard_normal(depth.shape, np.float32) * max(0.0, rng.uniform(-0.03, 0.06))
    picture = _lit(ink, _print_nir(ink, rng) * (1 + fibre), depth, slant, light, sheet, at)
    behind.put(picture, covers)
    return behind


def show_screen(shown: Shown, rng: np.random.Generator) -> Picture:
    """Return the scene with a phone or tablet held before a person."""
    sheet, light, view = shown.sheet, shown.light, shown.view
    at, depth, slant = sheet.meet(view)
    place = sheet.in_picture(at)
    covers = np.isfinite(depth)
    # A bezel is as wide all around, and the display is black where the picture does not reach.
    bezel = rng.uniform(0.002, 0.006 if shown.species == "phone" else 0.015)
    inside = (np.abs(at) < np.array(sheet.size_m) / 2 - bezel).all(-1)
    inside &= shown.photo.shows(place)
    # A display is set about as bright as what is around it, down to its dimmest.
    around = float((0.5 * light.key + light.ambient).mean())
    glow = shown.photo.look_up(place)
    if rng.random() < 0.3:  # of a video, or a small picture
        glow = cv2.GaussianBlur(glow, (0, 0), float(rng.uniform(0.3, 0.8)))
    grey = glow.mean(-1, keepdims=True)
    glow = np.maximum(0, grey + rng.uniform(0.8, 1.6) * (glow - grey)) * rng.uniform(0.9, 1.1, 3)
    glow = glow * max(0.01, around) * np.exp(rng.uniform(-1.3, 0.3))
    # Two grids, the screen's and the camera's, beat: moire.
    angle = rng.uniform(0, np.pi)
    wave = at[..., 0] * np.cos(angle) + at[..., 1] * np.sin(angle)
    beat = np.sin(2 * np.pi * wave * rng.uniform(60, 280) + rng.uniform(0, 6))
    glow = glow * (1 + max(0.0, rng.uniform(-0.06, 0.06)) * beat[..., None])
    spot = rng.uniform(0.1, 0.9, 2)
    over = at / np.array(sheet.size_m) + 0.5
    glare = _blob(over, spot, rng.uniform(0.002, 0.05)) * max(0.0, rng.uniform(-0.5, 0.7))
    glow = np.where(inside[..., None], glow, 0.0) + 0.02 * around + glare[..., None] * light.key
    emitted = light.emitted(view.size) * (0.5 / np.minimum(depth, 9)) ** 2
    shine = _blob(over, rng.uniform(0, 1, 2), 0.004) * (rng.random() < 0.4)
    albedo = rng.uniform(0.02, 0.06)
    nir = emitted * (albedo + 0.5 * shine) + light.nir_ambient * (0.04 + 0.3 * glare)
    grid = covers.shape
    behind = shown.person(sheet.before(covers, view))
    screen = Picture(
        rgb=glow.astype(np.float32),
        nir=nir.astype(np.float32),
        depth_m=depth,
        gloss=np.full(grid, 0.9, np.float32),
        slant=slant,
        # Below the glass, a display scatters the sensor's light back, more or less.
        albedo=np.full(grid, rng.uniform(0.01, 0.15), np.float32),
    )
    behind.put(screen, covers)
    return behind


def _is_cut_out(species: str, x: Array, y: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which points of the printed face are missing."""
    if species == HALF:
        side = rng.choice([-1, 1])
        missing: NDArray[np.bool_] = x * side > 0 if rng.random() < 0.5 else y * side > -0.02 * side
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


def _printed(linear: Array, at: Array, rng: np.random.Generator) -> Array:
    """Return what a printer makes of a picture: fewer colours, a cast, dots; reflectances."""
    picture = np.clip(linear, 0, 1)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.9)))
    picture = picture ** (1 / 2.2)
    picture = picture * rng.uniform(0.85, 1.05) + rng.uniform(0.0, 0.06)
    picture = picture * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    x, y = (at[..., axis] * rng.uniform(600, 1800) for axis in (0, 1))
    dots = max(0.0, rng.uniform(-0.04, 0.05)) * np.sin(x) * np.sin(y)
    paper = rng.uniform(0.7, 0.95)
    printed: Array = np.clip(picture + dots[..., None], 0.02, 1).astype(np.float32) ** 2.2 * paper
    return printed


def _print_nir(ink: Array, rng: np.random.Generator) -> Array:
    """Return a print's reflectance in near infrared.

    Dye inks that look black are nearly clear there, and paper shines through them all. Toner is
    carbon: what looks dark stays dark, and the face can be seen.
    """
    is_toner = rng.random() < 0.7
    contrast = rng.uniform(0.7, 1.0) if is_toner else rng.uniform(0.02, 0.25)
    grey = (sum(cv2.split(ink)) / 3) ** rng.uniform(0.4, 0.9)
    nir: Array = rng.uniform(0.35, 0.85) * (1 - contrast + contrast * grey)
    return nir


def _lit(  # noqa: PLR0913, PLR0917 - a scene is made of this much
    ink: Array, nir: Array, depth: Array, slant: Array, light: Light, sheet: Sheet, at: Array
) -> Picture:
    facing = sheet.turn @ np.array([0, 0, -1], np.float32)
    side = at[..., 0] * sheet.bend
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
        albedo=nir.astype(np.float32),
    )


def _blob(place: Array, centre: Array, spread: float) -> Array:
    x, y = (place[..., axis] - centre[axis] for axis in (0, 1))
    blob: Array = np.exp(-(x**2 + y**2) / spread)
    return blob
