"""Rays against a mesh, by Embree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Hits:
    """Where rays met a mesh.

    Attributes:
        is_hit: (N,) bool.
        distance: (N,) m along the ray.
        triangle: (N,) int32.
        u: (N,) barycentric weight of the triangle's second corner.
        v: (N,) of its third.
    """

    is_hit: NDArray[np.bool_]
    distance: Array
    triangle: NDArray[np.int32]
    u: Array
    v: Array


class Caster:
    """A mesh, ready to be asked."""

    def __init__(self, vertices: Array, triangles: NDArray[np.int32]) -> None:
        """Take a mesh: (V, 3) m and (T, 3)."""
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(vertices), np.ascontiguousarray(triangles))

    def cast(self, origins: Array, directions: Array) -> Hits:
        """Return what each ray meets first; directions are of length 1."""
        found = self._scene.run(origins, directions, output=1)
        triangle = found["primID"]
        return Hits(triangle >= 0, found["tfar"], triangle, found["u"], found["v"])

    def meets(self, origins: Array, directions: Array) -> NDArray[np.bool_]:
        """Return which rays meet anything."""
        met: NDArray[np.bool_] = self._scene.run(origins, directions, query="OCCLUDED") >= 0
        return met
