"""Primary and shadow rays against a mesh, on the CPU, by Warp."""

from dataclasses import dataclass

import numpy as np
import warp as wp
from numpy.typing import NDArray

Array = NDArray[np.float32]

wp.config.quiet = True


@dataclass(frozen=True)
class Hits:
    """Where rays met a mesh.

    Attributes:
        is_hit: (N,) bool.
        distance: (N,) m along the ray.
        triangle: (N,) int32.
        bary: (N, 3) barycentric weights of the triangle's corners.
    """

    is_hit: NDArray[np.bool_]
    distance: Array
    triangle: NDArray[np.int32]
    bary: Array


@wp.kernel
def _cast(  # type: ignore[no-untyped-def] # noqa: ANN202 - compiled by Warp, not run by Python
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    directions: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    hit: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
    distance: wp.array(dtype=wp.float32),  # type: ignore[valid-type]
    bary: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
):
    index = wp.tid()
    found = wp.mesh_query_ray(mesh, origins[index], directions[index], 10.0)
    if found.result:
        hit[index] = found.face
        distance[index] = found.t
        bary[index] = wp.vec3(found.u, found.v, 1.0 - found.u - found.v)
    else:
        hit[index] = -1


class Caster:
    """A mesh, ready to be asked."""

    def __init__(self, vertices: Array, triangles: NDArray[np.int32]) -> None:
        """Build the acceleration structure."""
        wp.init()
        self._mesh = wp.Mesh(
            points=wp.array(vertices, dtype=wp.vec3, device="cpu"),
            indices=wp.array(triangles.reshape(-1), dtype=wp.int32, device="cpu"),
        )

    def cast(self, origins: Array, directions: Array) -> Hits:
        """Return what each ray meets first; directions are of length 1."""
        count = len(origins)
        hit = wp.zeros(count, dtype=wp.int32, device="cpu")
        distance = wp.zeros(count, dtype=wp.float32, device="cpu")
        bary = wp.zeros(count, dtype=wp.vec3, device="cpu")
        wp.launch(
            _cast,
            dim=count,
            inputs=[
                self._mesh.id,
                wp.array(origins, dtype=wp.vec3, device="cpu"),
                wp.array(directions, dtype=wp.vec3, device="cpu"),
                hit,
                distance,
                bary,
            ],
            device="cpu",
        )
        triangle = hit.numpy()
        return Hits(triangle >= 0, distance.numpy(), triangle, bary.numpy())
