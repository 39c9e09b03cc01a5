"""Identities: head geometry from the parametric body model Anny (Apache-2.0, MakeHuman's CC0 data).

Source: Anny, https://github.com/naver/anny.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from anny import Anny
from numpy.typing import NDArray

Array = NDArray[Any]
Mesh = tuple[Array, NDArray[np.int32]]

# Parts of a face whose shape varies from person to person; the model names them in its targets.
_FACE_PARTS = ("nose", "mouth", "eye", "head", "chin", "cheek", "ear-", "brow", "forehead", "neck")
_EXPRESSIONS = (
    "jawOpen",
    "mouthSmileLeft",
    "mouthSmileRight",
    "browInnerUp",
    "browDownLeft",
    "browDownRight",
    "eyeSquintLeft",
    "eyeSquintRight",
    "eyeBlinkLeft",
    "eyeBlinkRight",
    "mouthPucker",
    "mouthFrownLeft",
    "mouthFrownRight",
    "cheekPuff",
)

_COLLAR_M = -0.15


@dataclass(frozen=True, eq=False)
class Head:
    """A head's surface, with neck and shoulders.

    Attributes:
        vertices: (V, 3) m; x to its left, y up, z out of the face; origin amid the head.
        triangles: (T, 3) int32.
        template: (V, 3) m, the same vertices on the average head: where on a face a point is.
        is_eye: (V,) in [0, 1].
        is_lip: (V,) in [0, 1].
        is_cloth: (V,) in [0, 1].
    """

    vertices: Array
    triangles: NDArray[np.int32]
    template: Array
    is_eye: Array
    is_lip: Array
    is_cloth: Array


@dataclass(frozen=True, eq=False)
class _Template:
    triangles: NDArray[np.int32]
    vertices: Array
    is_eye: Array
    is_lip: Array
    moves: Array  # (expressions, V, 3): what each one does, fully done


@cache
def _model() -> Anny:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Anny(
            rig="makehuman-head", topology="head", local_changes="all", facial_actions="all"
        )


@cache
def template() -> Head:
    """Return the average head, bald and at rest."""
    return _dressed(_template().vertices)


@cache
def _template() -> _Template:
    model = _model()
    with torch.inference_mode():
        rest = model()["vertices"][0]
        # The lips are what rolling them in moves most.
        rolled = model(facial_actions={"mouthRollLower": 1.0, "mouthRollUpper": 1.0})
        moved = (rolled["vertices"][0] - rest).norm(dim=1).numpy()
        moves = [model(facial_actions={name: 1.0})["vertices"][0] - rest for name in _EXPRESSIONS]
    triangles = model.get_triangular_faces().numpy().astype(np.int32)
    # Eyeballs have their own corner of the texture.
    corners = model.face_texture_coordinate_indices.numpy().reshape(-1)
    uv = model.texture_coordinates.numpy()[corners]
    in_eyes = (uv[:, 0] > 0.73) & (uv[:, 0] < 0.84) & (uv[:, 1] > 0.9)
    is_eye = np.zeros(len(rest), np.float32)
    is_eye[model.faces.numpy().reshape(-1)[in_eyes]] = 1
    is_lip = np.clip(moved / np.percentile(moved[moved > 1e-5], 90), 0, 1).astype(np.float32)
    return _Template(
        triangles, _centred(_upright(rest)), is_eye, is_lip, np.stack([*map(_upright, moves)])
    )


@lru_cache(maxsize=64)
def _at_rest(number: int) -> Array:
    """Return a person's head without expression, (V, 3)."""
    model = _model()
    rng = np.random.default_rng([number, 1])
    local = {
        label: float(np.clip(rng.normal(0, 0.35), -1, 1))
        for label in model.local_change_labels
        if any(part in label for part in _FACE_PARTS)
    }
    for label in list(local):
        if label.startswith("r-") and "l-" + label[2:] in local:
            local[label] = 0.9 * local["l-" + label[2:]] + 0.1 * local[label]  # nearly symmetric
    phenotype = {
        "gender": float(rng.uniform(0, 1)),
        "age": float(rng.uniform(0.5, 0.95)),
        "weight": float(rng.uniform(0.3, 0.75)),
        "muscle": float(rng.uniform(0.3, 0.7)),
    }
    with torch.inference_mode():
        made = model(phenotype_kwargs=phenotype, local_changes_kwargs=local)["vertices"][0]
    return _centred(_upright(made))


def make_head(
    number: int, expression: np.random.Generator, stand_off_m: Array, extra: Mesh | None = None
) -> Head:
    """Return a person's head with hair and an expression.

    Args:
        number: who it is.
        expression: what the face does is drawn from it. In the model, expressions add up.
        stand_off_m: (V,) how far hair, or what is worn, stands off each vertex of `template`.
        extra: what is worn besides, such as a cap's brim: vertices (m, on the average head) and
            triangles.
    """
    strength = np.maximum(0, expression.normal(0, 0.22, len(_EXPRESSIONS))).astype(np.float32)
    vertices = _at_rest(number) + np.tensordot(strength, _template().moves, 1)
    return _dressed(vertices + _outward(vertices) * stand_off_m[: len(vertices), None], extra)


def put_on(mask_of: Head, wearer: Head, covers: NDArray[np.bool_], thick_m: float) -> Head:
    """Return a head that wears a mask with another's face.

    Args:
        mask_of: whose face it is.
        wearer: who wears it.
        covers: (V,) which vertices of `template` it covers.
        thick_m: how far its outside stands off; its edge is as high.
    """
    is_covered = np.zeros(len(wearer.vertices), np.bool_)
    is_covered[: len(covers)] = covers
    vertices = wearer.vertices.copy()
    surface = mask_of.vertices[: len(covers)][covers]
    vertices[is_covered] = surface + _outward(surface) * np.float32(thick_m)
    return replace(wearer, vertices=vertices)


def _outward(vertices: Array) -> Array:
    outward: Array = vertices / (np.linalg.norm(vertices, axis=1, keepdims=True) + 1e-6)
    return outward


def _dressed(vertices: Array, extra: Mesh | None = None) -> Head:
    """Put a head on neck and shoulders, and on it what is worn."""
    face = _template()
    below, below_triangles = _neck_and_shoulders()
    worn, worn_triangles = extra or (np.zeros((0, 3)), np.zeros((0, 3), np.int32))
    count, more = len(vertices), len(below)
    nothing = np.zeros(more + len(worn), np.float32)
    is_cloth = [np.zeros(count), below[:, 1] < _COLLAR_M, np.ones(len(worn))]
    triangles = [face.triangles, below_triangles + count, worn_triangles + count + more]
    return Head(
        vertices=np.concatenate([vertices, below, worn]).astype(np.float32),
        triangles=np.concatenate(triangles),
        template=np.concatenate([face.vertices, below, worn]).astype(np.float32),
        is_eye=np.concatenate([face.is_eye, nothing]),
        is_lip=np.concatenate([face.is_lip, nothing]),
        is_cloth=np.concatenate(is_cloth).astype(np.float32),
    )


@cache
def _neck_and_shoulders() -> tuple[Array, NDArray[np.int32]]:
    """Return a surface of revolution, wider than deep: vertices and triangles, outside first."""
    heights = np.array([-0.06, -0.10, -0.14, -0.17, -0.19, -0.22, -0.27, -0.36])
    half_widths = np.array([0.052, 0.052, 0.056, 0.07, 0.12, 0.18, 0.21, 0.22])
    half_depths = np.array([0.055, 0.055, 0.058, 0.065, 0.08, 0.1, 0.11, 0.115])
    steps = 24
    around = np.arange(steps) / steps * 2 * np.pi
    vertices = np.stack(
        [
            half_widths[:, None] * np.sin(around),
            np.repeat(heights[:, None], steps, 1),
            half_depths[:, None] * np.cos(around) - 0.02,
        ],
        axis=-1,
    ).reshape(-1, 3)
    ring, at = np.meshgrid(np.arange(len(heights) - 1), np.arange(steps), indexing="ij")
    a, b = ring * steps + at, ring * steps + (at + 1) % steps
    quads = np.stack([a, a + steps, b, b, a + steps, b + steps], -1)
    return vertices.astype(np.float32), quads.reshape(-1, 3).astype(np.int32)


def _upright(vertices: torch.Tensor) -> Array:
    """Turn the model's axes (z up, face towards -y) into ours."""
    x, y, z = vertices.numpy().astype(np.float32).T
    return np.stack([x, z, -y], axis=1)


def _centred(vertices: Array) -> Array:
    centred: Array = vertices - (vertices.max(0) + vertices.min(0)) / 2
    return centred
