"""People by number: their heads, skins and looks, and the pictures that attackers have of them.

A person has a few looks, each with its own face and headwear. All is kept for as long as the people
of neighbouring numbers are rendered.
"""

from functools import lru_cache

import numpy as np

from model.render.hands import Flesh
from model.render.heads import Head, make_head, template
from model.render.headwear import Headwear, Worn, draw_headwear
from model.render.photo import Photo, photograph
from model.render.scene import Solid, unrolled
from model.render.skin import Paint, PaintedSkin, Skin, make_skin, stand_off_m, tone_rgb

NUM_LOOKS = 5
_GLASSES_ON = 0.8


@lru_cache(maxsize=512)
def skin(number: int) -> Skin:
    """Return a person's skin."""
    return make_skin(np.random.default_rng([number, 2]))


@lru_cache(maxsize=512)
def headwear(number: int, look: int) -> Headwear | None:
    """Return what a person wears in a look."""
    return draw_headwear(np.random.default_rng([number, look, 8]))


def paint(number: int, look: int) -> Paint:
    """Return a person's surface in a look."""
    worn = headwear(number, look)
    return _painted(number) if worn is None else Worn(_painted(number), worn)


def bare_paint(number: int) -> Paint:
    """Return a person's surface without headwear."""
    return _painted(number)


@lru_cache(maxsize=120)
def solid(number: int, look: int) -> Solid:
    """Return a person's shape in a look."""
    return Solid(head(number, look))


@lru_cache(maxsize=120)
def head(number: int, look: int, *, is_bare: bool = False) -> Head:
    """Return a person's head in a look; bare: without hair and headwear, as a mask is cast."""
    expression = np.random.default_rng([number, look, 4])
    where = template().template
    if is_bare:
        return make_head(number, expression, np.zeros(len(where), np.float32))
    off, worn = stand_off_m(skin(number), where), headwear(number, look)
    if worn is None:
        return make_head(number, expression, off)
    cover = worn.cover(where)
    # Hair is pressed flat below it.
    off = np.where(cover > 0, np.minimum(off, 0.01) + worn.thick_m, off)
    return make_head(number, expression, off, worn.brim())


def glasses(number: int, rng: np.random.Generator) -> np.random.Generator | None:
    """Return what a person's glasses are drawn from; None: they wear none now."""
    if not skin(number).wears_glasses or rng.random() > _GLASSES_ON:
        return None
    return np.random.default_rng([number, 7])


@lru_cache(maxsize=64)
def photo(target: int, look: int) -> Photo:
    """Return one of a few pictures that attackers have of a target."""
    seed = target * NUM_LOOKS + look
    worn = glasses(target, np.random.default_rng([seed, 9]))
    return photograph(solid(target, look), paint(target, look), worn, seed)


def flesh(number: int) -> Flesh:
    """Return what a person's hands reflect."""
    return Flesh(tone_rgb(skin(number)), 0.55 - 0.1 * skin(number).tone)


@lru_cache(maxsize=24)
def _painted(number: int) -> PaintedSkin:
    return PaintedSkin(skin(number), unrolled())
