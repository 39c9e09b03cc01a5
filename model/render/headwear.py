"""What people wear on their heads, real ones and pictured ones alike: caps, beanies and hoods."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from model.render.heads import Mesh
from model.render.rays import Array
from model.render.skin import Paint, Reflectance, Spot

Kind = Literal["cap", "beanie", "hood"]
_CHANCES: dict[Kind | None, float] = {None: 0.64, "cap": 0.13, "beanie": 0.11, "hood": 0.12}


@dataclass(frozen=True)
class Headwear:
    """One piece of headwear.

    Attributes:
        kind: what it is.
        edge_m: height of a cap's or a beanie's edge above the head's middle, at the forehead.
        open_m: half the width of a hood's opening.
        thick_m: how far it stands off the head.
        brim_m: how far a cap's brim stands out.
        rgb: linear reflectance.
        nir: reflectance in near infrared: of cloth, it does not follow from the colour.
    """

    kind: Kind
    edge_m: float
    open_m: float
    thick_m: float
    brim_m: float
    rgb: tuple[float, ...]
    nir: float

    def cover(self, where: Array) -> Array:
        """Return which points (N, 3) of the average head are under it, 0 or 1."""
        x, y, z = where.T
        if self.kind == "hood":
            opening = (x / self.open_m) ** 2 + ((y + 0.02) / (1.45 * self.open_m)) ** 2
            is_under = ((opening > 1) | (z < 0)) & (y > -0.13)
        else:
            # Its edge runs down towards the neck.
            is_under = y > self.edge_m + 0.45 * (z - 0.09)
        covered: Array = is_under.astype(np.float32)
        return covered

    def brim(self) -> Mesh | None:
        """Return a cap's brim: vertices, m, on the average head, and triangles."""
        if self.kind != "cap":
            return None
        steps = 12
        angle = np.linspace(-1.15, 1.15, steps)
        inner = np.stack([0.075 * np.sin(angle), angle * 0, 0.095 * np.cos(angle) - 0.005], 1)
        out = self.brim_m * np.maximum(0.0, np.cos(angle * 1.25)) ** 0.5
        outer = inner + np.stack([0.1 * out * np.sin(angle), -0.25 * out, out], 1)
        vertices = np.concatenate([inner, outer])
        vertices[:, 1] += self.edge_m + 0.004
        at = np.arange(steps - 1)
        a, b, c, d = at, at + 1, at + steps, at + steps + 1
        triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
        return vertices.astype(np.float32), triangles.astype(np.int32)


def draw_headwear(rng: np.random.Generator) -> Headwear | None:
    """Draw what someone wears; None: nothing."""
    kinds = list(_CHANCES)
    kind = kinds[int(rng.choice(len(kinds), p=list(_CHANCES.values())))]
    if kind is None:
        return None
    return Headwear(
        kind=kind,
        edge_m=float(rng.uniform(0.045, 0.075)),
        open_m=float(rng.uniform(0.075, 0.095)),
        thick_m=float(rng.uniform(0.012, 0.035) if kind == "hood" else rng.uniform(0.004, 0.015)),
        brim_m=float(rng.uniform(0.05, 0.075)),
        rgb=tuple(float(each) for each in rng.uniform(0.02, 0.6, 3)),
        nir=float(rng.uniform(0.03, 0.7)),
    )


class Worn:
    """Headwear over a painted head."""

    def __init__(self, paint: Paint, headwear: Headwear) -> None:
        """Put it on."""
        self._paint, self._headwear = paint, headwear

    def __call__(self, spot: Spot) -> Reflectance:
        """Return the reflectance at points of the head."""
        under = self._paint(spot)
        covered = self._headwear.cover(spot.where) * (spot.is_cloth < 0.5)
        bare = 1 - covered
        weave = 1 + 0.15 * np.sin(spot.where[:, 0] * 900) * np.sin(spot.where[:, 1] * 900)
        rgb = np.array(self._headwear.rgb, np.float32)[:, None] * weave
        return Reflectance(
            (under.rgb * bare + rgb * covered).astype(np.float32),
            (under.nir * bare + self._headwear.nir * weave * covered).astype(np.float32),
            (under.gloss * bare).astype(np.float32),
        )
