"""How attackers hold sheets and screens before a camera: sizes as sold, and hands."""

import numpy as np

from model.render.attacks import HALF, SCREENS
from model.render.hands import Hand, grip, pinch
from model.render.photo import LIFE_SIZE_M
from model.render.rays import Array
from model.render.sheets import Sheet

# Paper, m: A4 and letter upright, A3, and a large photograph.
_PAPERS = ((0.21, 0.297), (0.216, 0.279), (0.297, 0.42), (0.2, 0.3))
_HELD = 0.85


def hold(species: str, face_m: Array, turn: Array, rng: np.random.Generator) -> Sheet:
    """Return a sheet or a screen, held so that the middle of the face that it shows is at a place.

    Args:
        species: what is held.
        face_m: (3,) that place, in the camera's frame.
        turn: (3, 3) its rotation.
        rng: of its size, its bend and what part of the picture it shows.
    """
    bend = drape = 0.0
    if species == "phone":
        size = (rng.uniform(0.067, 0.08), rng.uniform(0.14, 0.168))
        scale = rng.uniform(0.32, 0.5)
    elif species == "tablet":
        size = (rng.uniform(0.16, 0.215), rng.uniform(0.23, 0.28))
        scale = rng.uniform(0.7, 1.1)
    else:
        size = _PAPERS[int(rng.integers(len(_PAPERS)))]
        scale = rng.uniform(0.85, 1.15)
        if species.endswith("_b") or (species == HALF and rng.random() < 0.5):
            bend = float(rng.choice([-1, 1]) * rng.uniform(4, 11))
            drape = float(max(0.0, rng.uniform(-0.5, 0.9)))
    shift = rng.normal(0, 0.05, 2) * size
    centre = face_m - turn @ np.array([*shift, 0])
    return Sheet(
        centre_m=centre.astype(np.float32),
        turn=turn,
        size_m=(float(size[0]), float(size[1])),
        picture_m=float(scale * LIFE_SIZE_M),
        shift_m=shift.astype(np.float32),
        bend=bend,
        drape=drape,
    )


def behind_m(sheet: Sheet, species: str, rng: np.random.Generator) -> Array:
    """Return how far behind the shown face the holder's head is, (3,) m, in the camera's frame."""
    if species in SCREENS:
        return np.array([*rng.normal(0, 0.05, 2), rng.uniform(0.2, 0.5)])
    near, far = (0.10, 0.16) if sheet.bend <= 0 else (0.13, 0.2)
    return np.array([*rng.normal(0, 0.006, 2), rng.uniform(near, far)])


def hands(sheet: Sheet, species: str, rng: np.random.Generator) -> list[Hand]:
    """Return the hands that hold it, in its own frame; none if it stands by itself."""
    half_w, half_h = np.array(sheet.size_m) / 2
    if rng.random() > _HELD:
        return []
    if species == "phone" or (species == "tablet" and rng.random() < 0.4):
        return [grip(half_w, half_h, rng)]
    sides = [-1, 1] if rng.random() < 0.6 else [int(rng.choice([-1, 1]))]
    edges = [np.array([side * half_w, rng.uniform(-0.3, 0.9) * half_h]) for side in sides]
    return [pinch(edge, rng) for edge in edges]
