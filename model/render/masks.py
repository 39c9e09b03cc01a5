"""Masks with a target's face: their shape, which has an edge and a thickness, and their paint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.render.heads import Head, put_on
from model.render.headwear import Headwear
from model.render.rays import Array
from model.render.skin import Paint, Reflectance, Spot


@dataclass(frozen=True)
class Mask:
    """One mask: rigid, or of silicone, which is nearly skin and covers more.

    Attributes:
        edge_m: half its width.
        top_m: how far up it reaches above the head's middle.
        below: what is worn over it.
        thick_m: of the material, and of the air below it.
        evenness: how much of the target's colours it lacks: paint has the same pigment nearly all
            over, and no blood.
        nir: reflectance in near infrared.
        nir_contrast: how much of the target's contrast it has there.
        gloss: what it adds.
    """

    edge_m: float
    top_m: float
    below: Headwear | None
    thick_m: float
    evenness: float
    nir: float
    nir_contrast: float
    gloss: float

    def covers(self, where: Array, is_eye: Array, is_cloth: Array) -> NDArray[np.bool_]:
        """Return which points (N, 3) of the average head are under it; it has holes for eyes."""
        x, y, z = where.T
        reach = (x / self.edge_m) ** 2 + ((y + 0.015) / (self.edge_m * 1.3)) ** 2
        under: NDArray[np.bool_] = (reach < 1) & (z > 0) & (is_eye < 0.5) & (is_cloth < 0.5)
        under &= y < self.top_m
        return under if self.below is None else under & (self.below.cover(where) < 0.5)

    def put_on(self, target: Head, wearer: Head) -> Head:
        """Return the wearer's head with the target's face on it."""
        count = len(target.vertices)
        covered = self.covers(target.template, target.is_eye, target.is_cloth)
        return put_on(target, wearer, covered[:count], self.thick_m)


def draw_mask(species: str, below: Headwear | None, rng: np.random.Generator) -> Mask:
    """Draw a mask: `mask` is of rigid plastic, `silicone` is the other kind."""
    is_silicone = species == "silicone"
    return Mask(
        edge_m=float(rng.uniform(0.1, 0.14) if is_silicone else rng.uniform(0.075, 0.11)),
        top_m=float(rng.uniform(0.06, 0.14) if is_silicone else rng.uniform(0.045, 0.1)),
        below=below,
        thick_m=float(rng.uniform(0.001, 0.004) if is_silicone else rng.uniform(0.003, 0.01)),
        evenness=float(rng.uniform(0.1, 0.4) if is_silicone else rng.uniform(0.2, 0.7)),
        nir=float(rng.uniform(0.42, 0.66) if is_silicone else rng.uniform(0.4, 0.8)),
        nir_contrast=float(rng.uniform(0.1, 0.9)),
        gloss=float(rng.uniform(-0.15, 0.15) if is_silicone else rng.uniform(-0.15, 0.4)),
    )


class MaskedSkin:
    """A mask on its wearer, as paint."""

    def __init__(self, mask: Mask, target: Paint, wearer: Paint) -> None:
        """Take the paints of both."""
        self._mask, self._target, self._wearer = mask, target, wearer

    def __call__(self, spot: Spot) -> Reflectance:
        """Return the reflectance at points of the masked head."""
        mask = self._mask
        covers = mask.covers(spot.where, spot.is_eye, spot.is_cloth)
        face = self._wearer(spot)
        if not covers.any():
            return face
        painted = self._target(spot)
        even = mask.evenness
        rgb = (1 - even) * painted.rgb + even * painted.rgb[:, covers].mean(1, keepdims=True)
        nir = mask.nir + mask.nir_contrast * (painted.nir - painted.nir[covers].mean())
        gloss = np.clip(painted.gloss + mask.gloss, 0, 1)
        return Reflectance(
            np.where(covers, rgb, face.rgb).astype(np.float32),
            np.where(covers, np.clip(nir, 0.02, 0.95), face.nir).astype(np.float32),
            np.where(covers, gloss, face.gloss).astype(np.float32),
        )
