"""What a face reflects, in colour and in near infrared: painted by where on the face a point is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Linear reflectances of light and dark skin, and of haemoglobin's and melanin's tints on it.
# Near infrared hardly sees melanin, so faces of all tones look alike there.
# Source: the shape of published skin reflectance spectra; values are ours, by eye.
_LIGHT = np.array([[0.62], [0.42], [0.33]], np.float32)
_DARK = np.array([[0.13], [0.075], [0.05]], np.float32)
_BLOOD = np.array([[0.10], [-0.06], [-0.05]], np.float32)
_HAIR = np.array([[0.02, 0.015, 0.012], [0.09, 0.05, 0.03], [0.35, 0.22, 0.1], [0.4, 0.38, 0.36]])

_BALD = 0.15
_NOWHERE_M = 1.0
# Middle of the left eyeball on the average head: x and y, m.
EYE_M = (0.0295, 0.013)
# What a map around the head shows, m above the head's middle.
MAP_TOP_M, MAP_BOTTOM_M = 0.14, -0.18

_TABLE_SIDE = 64
_WRAP = _TABLE_SIDE - 1


@dataclass(frozen=True)
class Skin:
    """One person's surface.

    Attributes:
        tone: 0 light to 1 dark.
        redness: strength of the blood's tint.
        hair: linear RGB reflectance.
        hair_nir: its reflectance in near infrared, whatever its colour: melanin is clear there,
            dyes are not.
        hairline_m: height above the head's middle at which hair begins; above all of it: bald.
        hair_m: how far hair stands off the scalp.
        brow: strength of the eyebrows, [0, 1].
        beard: how much of the skin a beard hides, [0, 1].
        beard_m: how far it stands off.
        iris: linear RGB reflectance.
        grain: strength of freckles and pores.
        cloth: linear RGB and near infrared reflectance of what is worn.
        wears_glasses: whether this person wears glasses, most of the time.
        seed: of the noise that this skin has.
    """

    tone: float
    redness: float
    hair: tuple[float, ...]
    hair_nir: float
    hairline_m: float
    hair_m: float
    brow: float
    beard: float
    beard_m: float
    iris: tuple[float, ...]
    grain: float
    cloth: tuple[float, ...]
    wears_glasses: bool
    seed: int


@dataclass(frozen=True)
class Spot:
    """Points of a head.

    Attributes:
        where: (N, 3) m, on the average head, see `model.render.heads.Head.template`.
        is_eye: (N,) in [0, 1].
        is_lip: (N,) in [0, 1].
        is_cloth: (N,) in [0, 1].
    """

    where: Array
    is_eye: Array
    is_lip: Array
    is_cloth: Array


@dataclass(frozen=True)
class Reflectance:
    """Per point: rgb (3, N) and nir (N,), linear, [0, 1]; gloss (N,), strength of highlights.

    Colours are by channel: numpy is several times slower along a last axis of three.
    """

    rgb: Array
    nir: Array
    gloss: Array


# A function of this kind says what a surface reflects.
Paint = Callable[[Spot], Reflectance]


def make_skin(identity: np.random.Generator) -> Skin:
    """Draw a person's skin, hair and clothes."""
    tone = float(identity.beta(1.2, 1.4))
    hair = _HAIR[0] if tone > 0.6 else _HAIR[identity.integers(len(_HAIR))]
    is_bald = identity.random() < _BALD
    beard = float(np.clip(identity.normal(-0.1, 0.5), 0, 1))
    return Skin(
        tone=tone,
        redness=float(identity.uniform(0.3, 1.2)),
        hair=tuple(float(x) for x in hair * identity.uniform(0.7, 1.3)),
        hair_nir=float(identity.uniform(0.06, 0.6)),
        hairline_m=_NOWHERE_M if is_bald else float(identity.uniform(0.045, 0.09)),
        hair_m=float(identity.choice([0.0, 1.0]) * identity.uniform(0.003, 0.03)),
        brow=float(identity.uniform(0.2, 1.0)),
        beard=beard,
        beard_m=max(0.0, beard - 0.4) * float(identity.uniform(0.005, 0.03)),
        iris=tuple(float(x) for x in identity.uniform((0.02, 0.02, 0.02), (0.15, 0.15, 0.2))),
        grain=float(identity.uniform(0.5, 1.5)),
        cloth=tuple(float(x) for x in identity.uniform(0.02, 0.6, 4)),
        wears_glasses=bool(identity.random() < 0.3),
        seed=int(identity.integers(2**31)),
    )


def tone_rgb(skin: Skin) -> Array:
    """Return what a person's skin reflects on average, (3,) linear."""
    rgb: Array = (_LIGHT ** (1 - skin.tone) * _DARK**skin.tone)[:, 0]
    return rgb


def coarse_noise(skin: Skin, where: Array) -> Array:
    """Return what varies over centimetres of a head, at points (N, 3) of the average one."""
    return noise(where / 0.03, skin.seed)


def stand_off_m(skin: Skin, where: Array) -> Array:
    """Return how far hair and beard stand off at points (N, 3) of the average head, m."""
    coarse = coarse_noise(skin, where)
    scalp = skin.hair_m * hair_cover(skin, where, coarse)
    return np.maximum(scalp, skin.beard_m * _jaw(where))


def hair_cover(skin: Skin, where: Array, coarse: Array) -> Array:
    """Return how much of each point (N, 3) of the average head is under the scalp's hair."""
    x, y, z = where.T
    edge = skin.hairline_m + 0.006 * coarse - 0.35 * np.maximum(0, 0.05 - z) - 1.2 * x**2 / 0.08
    return _step(y - edge, 0.006)


class PaintedSkin:
    """A skin, painted on a map around the head's vertical axis, from which pixels look it up."""

    def __init__(self, skin: Skin, where: Array) -> None:
        """Paint it.

        Args:
            skin: whose.
            where: (H, W, 3) m, the point of the average head that each place of the map shows;
                see `model.render.scene.unrolled`.
        """
        self.skin = skin
        self._shape = where.shape[:2]
        painted = _paint(skin, where.reshape(-1, 3))
        # A point's five values lie together: they are looked up together.
        self._layers = np.vstack([painted.rgb, painted.nir, painted.gloss]).T.astype(
            np.float32, order="C"
        )

    def __call__(self, spot: Spot) -> Reflectance:
        """Return the reflectance at points of the head."""
        skin = self.skin
        points = self._layers.take(_place_on_map(spot.where, self._shape), axis=0)
        layers = np.ascontiguousarray(points.T)
        lip, cloth = spot.is_lip, spot.is_cloth
        rgb: Array = layers[:3] + 2.4 * skin.redness * lip * layers[1] * _BLOOD
        nir: Array = layers[3] - 0.04 * lip
        gloss: Array = layers[4] + 0.2 * lip
        _paint_eyes(skin, spot, rgb, nir, gloss)
        return Reflectance(
            np.clip(_blend(rgb, np.array(skin.cloth[:3], np.float32)[:, None], cloth), 0.005, 0.95),
            np.clip(nir * (1 - cloth) + skin.cloth[3] * cloth, 0.01, 0.95),
            np.clip(gloss * (1 - cloth), 0, 1),
        )


def _place_on_map(where: Array, shape: tuple[int, ...]) -> Array:
    """Return the index, (N,) int32, of points in a map around the head, row by row."""
    height, width = shape
    column = (np.arctan2(where[:, 0], where[:, 2]) / (2 * np.pi) + 0.5) * width
    row = (MAP_TOP_M - where[:, 1]) / (MAP_TOP_M - MAP_BOTTOM_M) * height
    index: Array = np.clip(row.astype(np.int32), 0, height - 1) * width
    index += np.clip(column.astype(np.int32), 0, width - 1)
    return index


def _paint(skin: Skin, where: Array) -> Reflectance:
    x, y, _ = where.T
    coarse = coarse_noise(skin, where)
    fine = noise(where / 0.004, skin.seed + 1)
    freckles = np.maximum(0, noise(where / 0.0025, skin.seed + 2) - 0.45) * 2
    tone = np.clip(skin.tone + 0.05 * coarse + 0.06 * skin.grain * freckles, 0, 1)
    rgb = _LIGHT ** (1 - tone) * _DARK**tone
    cheeks = np.exp(-(((np.abs(x) - 0.035) / 0.02) ** 2) - ((y + 0.025) / 0.02) ** 2)
    nose = np.exp(-((x / 0.012) ** 2) - ((y + 0.015) / 0.015) ** 2)
    blood = skin.redness * (0.25 + 0.4 * cheeks + 0.4 * nose + 0.2 * coarse)
    rgb = rgb * (1 + 0.06 * skin.grain * fine) + rgb.mean(0) * (_BLOOD * blood * 2)
    nir = 0.55 - 0.1 * skin.tone + 0.03 * coarse + 0.02 * skin.grain * fine
    gloss = 0.25 + 0.15 * nose
    hair = _hair(skin, where, coarse, fine)
    rgb = _blend(rgb, np.array(skin.hair)[:, None] * (1 + 0.4 * fine), hair)
    nir = nir * (1 - hair) + hair * skin.hair_nir * (1 + 0.2 * fine)
    return Reflectance(
        rgb.astype(np.float32), nir.astype(np.float32), (gloss * (1 - hair)).astype(np.float32)
    )


def noise(points: Array, seed: int) -> Array:
    """Return smooth value noise in [-1, 1] at points (N, 3), one lattice step a unit."""
    axes = np.ascontiguousarray(points.T)
    cell = np.floor(axes)
    part = (axes - cell).astype(np.float32)
    x, y, z = part * part * (3 - 2 * part)
    # A different corner of one table of random numbers for each seed.
    shift = np.random.default_rng(seed).integers(_TABLE_SIDE, size=(3, 1))
    at = cell.astype(np.int64) + shift
    (x0, y0, z0), (x1, y1, z1) = at & _WRAP, (at + 1) & _WRAP
    table = _table()

    def along_x(rows: NDArray[np.int64], planes: NDArray[np.int64]) -> Array:
        line = (planes * _TABLE_SIDE + rows) * _TABLE_SIDE
        low, high = table.take(line + x0), table.take(line + x1)
        mixed: Array = low + (high - low) * x
        return mixed

    near = along_x(y0, z0)
    near += (along_x(y1, z0) - near) * y
    far = along_x(y0, z1)
    far += (along_x(y1, z1) - far) * y
    smooth: Array = near + (far - near) * z
    return smooth


@cache
def _table() -> Array:
    side = (_TABLE_SIDE,) * 3
    return np.random.default_rng(0).uniform(-1, 1, side).astype(np.float32)


def _hair(skin: Skin, where: Array, coarse: Array, fine: Array) -> Array:
    x, y, z = where.T
    scalp = hair_cover(skin, where, coarse)
    arc = 0.034 + 0.1 * np.abs(x) - 2.2 * np.maximum(0, np.abs(x) - 0.035)
    brows = np.exp(-(((y - arc) / 0.0045) ** 2)) * _step(np.abs(x) - 0.012, 0.004)
    brows = brows * _step(0.058 - np.abs(x), 0.006) * (z > 0.02) * skin.brow * (0.7 + 0.3 * fine)
    beard = _jaw(where) * np.clip(1.4 * skin.beard, 0, 1) * (0.75 + 0.25 * fine)
    hair: Array = np.clip(np.maximum(np.maximum(scalp, brows), beard), 0, 1).astype(np.float32)
    return hair


def _jaw(where: Array) -> Array:
    x, y, z = where.T
    jaw: Array = _step(-0.035 - y - 0.25 * np.abs(x), 0.012) * _step(z + 0.01, 0.02) * (y > -0.105)
    return jaw


def _paint_eyes(skin: Skin, spot: Spot, rgb: Array, nir: Array, gloss: Array) -> None:
    """Paint the eyes among a face's points over what the skin is there, in place."""
    eye = spot.is_eye > 0.5
    if not eye.any():
        return
    x, y, _ = spot.where[eye].T
    # Each eyeball's middle, on the average head: the iris faces forward.
    radius = np.hypot(np.abs(x) - EYE_M[0], y - EYE_M[1])
    iris = _step(0.0058 - radius, 0.0006)
    pupil = _step(0.0022 - radius, 0.0005)
    white = np.array([[0.62], [0.58], [0.55]])
    rgb[:, eye] = _blend(_blend(white, np.array(skin.iris)[:, None], iris), 0.01, pupil)
    nir[eye] = 0.55 - 0.25 * iris - 0.2 * pupil
    gloss[eye] = 1.0


def _blend(under: Array, over: Array | float, amount: Array) -> Array:
    blended: Array = under * (1 - amount) + over * amount
    return blended


def _step(value: Array, width: float) -> Array:
    """Return a smooth step from 0 below -width to 1 above width."""
    part = np.clip((value / width + 1) / 2, 0, 1)
    step: Array = part * part * (3 - 2 * part)
    return step
