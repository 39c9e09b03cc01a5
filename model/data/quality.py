"""Quality gates: whether a face can be judged at all.

A face that is too small, blurred or badly exposed, not lit in infrared, or not seen by the depth
sensor is a non-response: a person is not refused as an attack, and an attack is not judged by
whatever is left of it. What a network tolerates is a property of its bundle, and so are the limits.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import Planes
from model.errors import SettingError, check_number

_SMOOTH_PX = 2.0


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Limits of `measure`'s figures; those of a modality apply where it is present.

    Attributes:
        min_face_px: shorter side of the face box, px.
        min_rgb_brightness: mean of the luma, 0 to 255.
        max_rgb_brightness: mean of the luma, 0 to 255.
        max_rgb_smoothness: above it the face is blurred; see `measure`.
        min_ir_brightness: mean of the infrared plane, 0 to 255.
        max_ir_brightness: mean of the infrared plane, 0 to 255.
        min_ir_smoothness: below it there is only noise: the emitter was off; see `measure`.
        max_depth_holes: part of the middle of the face without depth, [0, 1].
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

        The blur in `measure` has a fixed width in px, so it removes more of a smaller picture.
        """
        return cls(max_rgb_smoothness=cls().max_rgb_smoothness * size / 112)

    def __post_init__(self) -> None:
        """Refuse limits that no face could meet, or that are no numbers.

        Raises:
            SettingError: a field breaks its rule.
        """
        for name, value in self.to_dict().items():
            check_number(f"quality limit {name}", value, 0)
        for name in ("rgb_brightness", "ir_brightness"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low > high:
                raise SettingError(
                    f"quality limit min_{name}", f"at most max_{name} ({high:g})", low
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "QualityLimits":
        """Return the limits that `to_dict` described.

        Raises:
            SettingError: a limit is missing, unknown, or breaks its rule.
        """
        names = {field.name for field in fields(cls)}
        if values.keys() != names:
            raise SettingError(
                "quality limits", f"described by {', '.join(sorted(names))}", sorted(values)
            )
        return cls(**{name: values[name] for name in names})

    def to_dict(self) -> dict[str, float]:
        """Return the fields in a form that JSON can hold."""
        return asdict(self)


# For planes that show no face, in tests and benchmarks.
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
    """Return the figures to which the limits apply, by name.

    Smoothness is the standard deviation of a picture after a Gaussian blur of 2 px, divided by that
    of what the blur removed. It is 0.1 to 0.2 for noise, 2 to 9 for a face, and more for a blurred
    face.

    Args:
        planes: a face crop.
        face_px: shorter side of the face box, px; None: the frame is a crop already.
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
    """Return the limits that a face violates, each with figure and limit; [] for none."""
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
