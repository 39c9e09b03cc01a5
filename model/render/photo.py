"""The picture of a target's face that an attacker has."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.rays import Array
from model.render.scene import Solid, shoot
from model.render.skin import Paint
from model.render.view import Light, View

_SIDE = 288
_DISTANCE_M = 0.62
_FOCAL = 1.5
# Distance of the features' plane from the head's middle, towards the camera, m.
_FEATURES_M = 0.075
# How much of the features' plane the picture shows, m: at this side it is as large as life.
LIFE_SIZE_M = (_DISTANCE_M - _FEATURES_M) / _FOCAL


@dataclass(frozen=True, eq=False)
class Photo:
    """A frontal picture of a target's face, as an attacker has it.

    Attributes:
        linear: (288, 288, 3) linear RGB.
        view: the camera that took it, to find features again.
    """

    linear: Array
    view: View

    def where(self, place: Array) -> tuple[Array, Array]:
        """Return x and y, m, on the average head, of places (S, S, 2) in the picture, [0, 1]."""
        scale = (self.view.centre_m[2] - _FEATURES_M) / self.view.focal_px
        x, y = (place * _SIDE - self.view.centre_px).transpose(2, 0, 1) * scale
        return x - self.view.centre_m[0], self.view.centre_m[1] - y

    def place(self, points: Array) -> Array:
        """Return where in the picture points (N, 3) of the average head are, (N, 2) in [0, 1]."""
        placed: Array = self.view.project(self.view.place(points)) / _SIDE
        return placed

    def look_up(self, place: Array) -> Array:
        """Return the colours, linear, at places (S, S, 2) in the picture."""
        x, y = place[..., 0] * _SIDE - 0.5, place[..., 1] * _SIDE - 0.5
        looked_up: Array = cv2.remap(
            self.linear, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return looked_up

    def shows(self, place: Array) -> NDArray[np.bool_]:
        """Return which places (S, S, 2) lie in the picture."""
        x, y = np.abs(place - 0.5).transpose(2, 0, 1)
        inside: NDArray[np.bool_] = np.maximum(x, y) < 0.5
        return inside


def photograph(solid: Solid, paint: Paint, glasses: np.random.Generator | None, seed: int) -> Photo:
    """Take the picture that the attack will show."""
    rng = np.random.default_rng(seed)
    view = View(
        _SIDE,
        _FOCAL * _SIDE,
        (_SIDE / 2, _SIDE / 2),
        np.array([0, 0.01, _DISTANCE_M], np.float32),
        np.eye(3, dtype=np.float32),
    )
    towards = np.array([rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0), -0.9], np.float32)
    light = Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=np.full(3, rng.uniform(0.4, 0.9), np.float32),
        ambient=np.full(3, rng.uniform(0.3, 0.6), np.float32),
        nir_ambient=0.0,
        emitter=0.0,
        emitter_m=np.zeros(3, np.float32),
        pulse=(0, 1),
        background=seed,
    )
    linear = shoot(solid, paint, view, light, glasses).rgb
    linear = linear / (np.percentile(linear, 95) + 1e-6) * 0.85
    # It has the noise of the camera that took it.
    noise = rng.standard_normal(linear.shape, np.float32) * max(0.0, rng.uniform(-0.02, 0.06))
    return Photo(np.maximum(0, linear + noise * (0.1 + np.sqrt(linear))).astype(np.float32), view)
