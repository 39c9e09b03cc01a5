"""Identities: head geometry from the parametric body model Anny (Apache-2.0, MakeHuman's CC0 data).

Source: Anny, https://github.com/naver/anny.
"""

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from anny import Anny
from numpy.typing import NDArray

Array = NDArray[np.float32]

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


@dataclass(frozen=True)
class Head:
    """A head's surface.

    Attributes:
        vertices: (V, 3) m; x to its left, y up, z out of the face; origin amid the head.
        triangles: (T, 3) int32.
        template: (V, 3) m, the same vertices on the average head: where on a face a point is.
        is_eye: (V,) bool.
        is_lip: (V,) in [0, 1].
    """

    vertices: Array
    triangles: NDArray[np.int32]
    template: Array
    is_eye: Array
    is_lip: Array


@cache
def _model() -> Anny:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Anny(
            rig="makehuman-head", topology="head", local_changes="all", facial_actions="all"
        )


@cache
def _template() -> tuple[NDArray[np.int32], Array, Array, Array]:
    model = _model()
    with torch.inference_mode():
        rest = model()["vertices"][0]
        # The lips are what rolling them in moves most.
        rolled = model(facial_actions={"mouthRollLower": 1.0, "mouthRollUpper": 1.0})
        moved = (rolled["vertices"][0] - rest).norm(dim=1).numpy()
    triangles = model.get_triangular_faces().numpy().astype(np.int32)
    # Eyeballs have their own corner of the texture.
    corners = model.face_texture_coordinate_indices.numpy().reshape(-1)
    uv = model.texture_coordinates.numpy()[corners]
    in_eyes = (uv[:, 0] > 0.73) & (uv[:, 0] < 0.84) & (uv[:, 1] > 0.9)
    is_eye = np.zeros(len(rest), np.float32)
    is_eye[model.faces.numpy().reshape(-1)[in_eyes]] = 1
    is_lip = np.clip(moved / np.percentile(moved[moved > 1e-5], 90), 0, 1).astype(np.float32)
    return triangles, _upright(rest), is_eye, is_lip


def make_head(identity: np.random.Generator, expression: np.random.Generator) -> Head:
    """Return a head: its shape drawn from `identity`, what its face does from `expression`."""
    model = _model()
    local = {
        label: float(np.clip(identity.normal(0, 0.35), -1, 1))
        for label in model.local_change_labels
        if any(part in label for part in _FACE_PARTS)
    }
    for label in list(local):
        if label.startswith("r-") and "l-" + label[2:] in local:
            local[label] = 0.9 * local["l-" + label[2:]] + 0.1 * local[label]  # nearly symmetric
    phenotype = {
        "gender": float(identity.uniform(0, 1)),
        "age": float(identity.uniform(0.5, 0.95)),
        "weight": float(identity.uniform(0.3, 0.75)),
        "muscle": float(identity.uniform(0.3, 0.7)),
    }
    actions = {label: float(max(0.0, expression.normal(0, 0.22))) for label in _EXPRESSIONS}
    with torch.inference_mode():
        vertices = model(
            phenotype_kwargs=phenotype, local_changes_kwargs=local, facial_actions=actions
        )["vertices"][0]
    triangles, template, is_eye, is_lip = _template()
    return Head(_upright(vertices), triangles, template, is_eye, is_lip)


def _upright(vertices: torch.Tensor) -> Array:
    """Turn the model's axes (z up, face towards -y) into ours, and centre the head."""
    x, y, z = vertices.numpy().astype(np.float32).T
    turned = np.stack([x, z, -y], axis=1)
    centre = (turned.max(0) + turned.min(0)) / 2
    return np.ascontiguousarray(turned - centre)
