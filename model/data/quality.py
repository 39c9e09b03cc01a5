"""Quality gates: which faces can be judged at all.

A face that is too small, blurred or badly exposed, that no infrared light fell on, or that the
depth sensor did not see, is a non-response: neither the person is refused as an attack, nor is an
attack judged by what happens to be left. What a network copes with belongs to its bundle, so the
limits do, too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import Planes

_SMOOTH_PX = 2.0


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What a face must reach, see `measure`; those of a modality count where it is present.

    Attributes:
        min_face_px: shorter side of the face box, px.
        min_rgb_brightness: mean of the luma, 0 to 255.
        max_rgb_brightness: mean of the luma, 0 to 255.
        max_rgb_smoothness: above it, the face is blurred.
        min_ir_brightness: mean of the infrared plane, 0 to 255.
        max_ir_brightness: mean of the infrared plane, 0 to 255.
        min_ir_smoothness: below it, there is nothing but noise: the emitter did not light up.
        max_depth_holes: part of the face without depth, [0, 1].
    """

    min_face_px: float = 24.0
    min_rgb_brightness: float = 8.0
    max_rgb_brightness: float = 248.0
    max_rgb_smoothness: float = 14.0
    min_ir_brightness: float = 8.0
    max_ir_brightness: float = 248.0
    min_ir_smoothness: float = 0.25
    max_depth_holes: float = 0.9

    @classmethod
    def for_size(cls, size: int) -> "QualityLimits":
        """Return the limits for planes of `size` px; the defaults are those for 112 px.

        The blur of `measure` is the same in px, so of a smaller picture it takes more away.
        """
        return cls(max_rgb_smoothness=cls().max_rgb_smoothness * size / 112)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> "QualityLimits":
        """Return the limits of a bundle; what it does not say is as above.

        Raises:
            ValueError: one is unknown or is not a number.
        """
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"there is no quality limit {min(unknown)}")
        for name, value in values.items():
            if not isinstance(value, int | float) or not np.isfinite(value):
                raise ValueError(f"quality limit {name} must be a number, is {value!r:.40}")
        return cls(**values)

    def to_dict(self) -> dict[str, float]:
        """Return them as JSON takes them."""
        return asdict(self)


# For planes that show no face: a test's, or a bench's.
ANY_QUALITY = QualityLimits(
    min_face_px=0,
    min_rgb_brightness=0,
    max_rgb_brightness=255,
    max_rgb_smoothness=1e9,
    min_ir_brightness=0,
    max_ir_brightness=255,
    min_ir_smoothness=0,
    max_depth_holes=1,
)


def measure(planes: Planes, face_px: float | None) -> dict[str, float]:
    """Return the figures that the limits are about.

    Smoothness is a picture's standard deviation after a Gaussian blur of 2 px, over that of what
    the blur took away. Noise alone has 0.1 to 0.2, a face from 2 to 9, a blurred face more.

    Args:
        planes: a face crop.
        face_px: shorter side of the face box, px; None: the frame came as a crop.
    """
    figures: dict[str, float] = {}
    if face_px is not None:
        figures["face_px"] = face_px
    if planes.rgb is not None:
        luma = cv2.cvtColor(planes.rgb, cv2.COLOR_RGB2GRAY)
        figures["rgb_brightness"], figures["rgb_smoothness"] = _light(luma)  # type: ignore[arg-type]
    if planes.ir is not None:
        figures["ir_brightness"], figures["ir_smoothness"] = _light(planes.ir)
    if planes.depth is not None:
        low, high = len(planes.depth) // 4, len(planes.depth) - len(planes.depth) // 4
        figures["depth_holes"] = float((planes.depth[low:high, low:high] == 0).mean())
    return {name: round(value, 3) for name, value in figures.items()}


def faults(figures: Mapping[str, float], limits: QualityLimits) -> list[str]:
    """Return what is wrong with a face, each fault with figure and limit; [] if nothing is."""
    bounds = limits.to_dict()
    found = []
    for name, value in figures.items():
        low, high = bounds.get(f"min_{name}", -np.inf), bounds.get(f"max_{name}", np.inf)
        if value < low:
            found.append(f"{name} must be at least {low:g}, is {value:g}")
        elif value > high:
            found.append(f"{name} must be at most {high:g}, is {value:g}")
    return found


def _light(plane: NDArray[np.uint8]) -> tuple[float, float]:
    """Return brightness and smoothness of (S, S) uint8."""
    picture = plane.astype(np.float32)
    smooth = cv2.GaussianBlur(picture, (0, 0), _SMOOTH_PX)
    return float(picture.mean()), float(smooth.std() / ((picture - smooth).std() + 0.5))
