"""The light of a scene, and the troubles that it makes for sensors, of one or of two at once."""

from typing import Literal

import numpy as np

from model.render.view import Light

# night: colour sees little. sun: depth has holes and infrared washes out. unlit: the infrared
# emitter does not light up. dusk: neither colour nor infrared sees much.
Trouble = Literal["none", "night", "sun", "unlit", "dusk"]
TROUBLES: tuple[Trouble, ...] = ("none", "night", "sun", "unlit", "dusk")
_CHANCES = (0.66, 0.08, 0.12, 0.07, 0.07)


def draw_trouble(rng: np.random.Generator) -> Trouble:
    """Draw a trouble: mostly none."""
    return TROUBLES[int(rng.choice(len(TROUBLES), p=_CHANCES))]


def draw_light(trouble: Trouble, rng: np.random.Generator) -> Light:
    """Draw the light of a scene."""
    outdoors = rng.random() < 0.3
    towards = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.1), rng.uniform(-1, -0.15)])
    warm = np.array([1.0, rng.uniform(0.8, 1.05), rng.uniform(0.6, 1.15)])
    key = warm * rng.uniform(0.3, 1.0)
    ambient = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.1, 0.6)
    nir_ambient = rng.uniform(0.05, 0.35) if outdoors else rng.uniform(0, 0.03)
    emitter, pulse = rng.uniform(0.6, 1.4), (0.0, 1.0)
    emitter_m = np.array([rng.choice([-1, 1]) * rng.uniform(0.01, 0.05), rng.normal(0, 0.01), 0.0])
    if rng.random() < 0.04:
        at = rng.uniform(0.1, 0.9)
        pulse = (0.0, at) if rng.random() < 0.5 else (at, 1.0)
    dark = rng.uniform(0.004, 0.03)
    if trouble in ("night", "dusk"):
        key, ambient, nir_ambient = key * dark, ambient * dark, 0.0
    if trouble == "sun":
        key, nir_ambient = key * 2, rng.uniform(0.9, 1.5)
    elif trouble == "unlit":
        emitter, nir_ambient = 0.0, rng.uniform(0, 0.01)
    elif trouble == "dusk":
        emitter = rng.uniform(0.01, 0.05)
    return Light(
        direction=(towards / np.linalg.norm(towards)).astype(np.float32),
        key=key.astype(np.float32),
        ambient=ambient.astype(np.float32),
        nir_ambient=float(nir_ambient),
        emitter=float(emitter),
        emitter_m=emitter_m.astype(np.float32),
        pulse=pulse,
        background=int(rng.integers(2**31)),
    )
