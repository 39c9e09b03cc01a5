"""Quality gates: whether a face can be judged at all.

A face that is too small, cut off, blurred or badly exposed, not lit in infrared, or not seen by a
sensor is a non-response: a person is not refused as an attack, and an attack is not judged by
whatever is left of it. A plane of one value, or of nothing but noise, shows no face. What a network
tolerates is a property of its bundle, and so are the limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.planes import DepthKind, Planes
from model.errors import SettingError, check_number

# 17 taps: all of the bell that a float32 sum can tell from nothing.
_BELL = cv2.getGaussianKernel(17, 2.0, cv2.CV_32F)
# Neighbours whose depths differ by no more are of one surface: mm, or grey values of 8-bit depth.
_ONE_SURFACE: dict[DepthKind, int] = {"millimetres": 30, "8-bit": 12}

_UNBOUNDED = (-np.inf, np.inf)
# Limits that are parts of a whole.
_HIGHEST = {name: (1,) for name in ("min_face_inside", "max_depth_holes", "min_depth_agreement")}


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """Limits of `measure`'s figures; those of a modality apply where it is present.

    Attributes:
        min_face_px: shorter side of the face in the plane that has the fewest px for it.
        min_face_inside: part of the face box that lies inside the planes, [0, 1].
        min_rgb_brightness: mean of the luma, 0 to 255.
        max_rgb_brightness: mean of the luma, 0 to 255.
        min_rgb_smoothness: below it there is nothing but noise, or one single colour.
        max_rgb_smoothness: above it the face is blurred.
        min_ir_brightness: mean of the infrared plane, 0 to 255.
        max_ir_brightness: mean of the infrared plane, 0 to 255.
        min_ir_smoothness: below it there is nothing but noise: the emitter did not light up.
        max_depth_holes: part of the face without depth, [0, 1].
        min_depth_agreement: part of the neighbouring px, both with depth, that are of one surface,
            [0, 1]: below it there is nothing but noise.
        min_depth_spread: standard deviation of the depths, mm or grey values: a print that is held
            still and straight has 3 mm, by the sensor's own noise; less is no sensor's.
    """

    min_face_px: float = 24.0
    min_face_inside: float = 0.5
    min_rgb_brightness: float = 8.0
    max_rgb_brightness: float = 248.0
    min_rgb_smoothness: float = 0.5
    max_rgb_smoothness: float = 14.0
    min_ir_brightness: float = 8.0
    max_ir_brightness: float = 248.0
    min_ir_smoothness: float = 0.25
    max_depth_holes: float = 0.8
    min_depth_agreement: float = 0.5
    min_depth_spread: float = 0.25

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
        values = self.to_dict()
        for name, value in values.items():
            check_number(f"quality limit {name}", value, 0, *_HIGHEST.get(name, ()))
        for name, low in values.items():
            upper = name.replace("min_", "max_")
            if low > values.get(upper, np.inf):
                rule = f"at most {upper} ({values[upper]:g})"
                raise SettingError(f"quality limit {name}", rule, low)

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
    min_face_inside=0,
    min_rgb_brightness=0,
    max_rgb_brightness=255,
    min_rgb_smoothness=0,
    max_rgb_smoothness=1e9,
    min_ir_brightness=0,
    max_ir_brightness=255,
    min_ir_smoothness=0,
    max_depth_holes=1,
    min_depth_agreement=0,
    min_depth_spread=0,
)


def measure(planes: Planes, face_px: float | None = None) -> dict[str, float]:
    """Return the figures to which the limits apply, by name.

    Smoothness is a picture's standard deviation after a Gaussian blur of 2 px, divided by
    that of what the blur removed. It is 0.1 to 0.4 for noise, 2 to 9 for a face, and more for a
    blurred face. Depth is measured in the middle of the face, a quarter of the side from its edges.

    Args:
        planes: a face crop.
        face_px: shorter side of the face box, px; None: only what `planes` knows of it.
    """
    figures: dict[str, float] = {"face_inside": planes.face_inside}
    if known := [px for px in (face_px, planes.face_px) if px is not None]:
        figures["face_px"] = min(known)
    lit: dict[str, NDArray[Any]] = {}
    if planes.rgb is not None:
        lit["rgb"] = cv2.cvtColor(planes.rgb, cv2.COLOR_RGB2GRAY)
    if planes.ir is not None:
        lit["ir"] = planes.ir
    for name, (brightness, smoothness) in zip(lit, _light([*lit.values()]), strict=True):
        figures[f"{name}_brightness"], figures[f"{name}_smoothness"] = brightness, smoothness
    if planes.depth is not None:
        figures |= _depth(planes.depth, _ONE_SURFACE[planes.depth_kind])
    return {name: round(float(value), 3) for name, value in figures.items()}


def faults(figures: Mapping[str, float], limits: QualityLimits) -> list[str]:
    """Return the limits that a face violates, each with figure and limit; [] for none."""
    bounds, found = _bounds(limits), []
    for name, value in figures.items():
        low, high = bounds.get(name, _UNBOUNDED)
        if value < low:
            found.append(f"{name} must be at least {low:g}, is {value:g}")
        elif value > high:
            found.append(f"{name} must be at most {high:g}, is {value:g}")
    return found


@cache
def _bounds(limits: QualityLimits) -> dict[str, tuple[float, float]]:
    values = limits.to_dict()
    return {
        name: (values.get(f"min_{name}", -np.inf), values.get(f"max_{name}", np.inf))
        for name in {each.partition("_")[2] for each in values}
    }


def _light(planes: Sequence[NDArray[Any]]) -> list[tuple[float, float]]:
    """Return brightness and smoothness of each of up to 4 planes, (S, S) uint8."""
    if not planes:
        return []
    # As channels of one picture, which are filtered each for itself at little more than one's cost.
    picture = planes[0] if len(planes) == 1 else cv2.merge(planes)
    smooth = cv2.sepFilter2D(picture, cv2.CV_32F, _BELL, _BELL)
    rough = cv2.subtract(picture, smooth, dtype=cv2.CV_32F)
    return [
        (brightness, kept / (removed + 0.5))
        for brightness, kept, removed in zip(
            cv2.mean(picture)[: len(planes)], _spreads(smooth), _spreads(rough), strict=True
        )
    ]


def _depth(depth: NDArray[np.uint16], one_surface: int) -> dict[str, float]:
    """Return holes, agreement and spread of the middle of (S, S) uint16; without depth, 1, 0, 0."""
    low, high = len(depth) // 4, len(depth) - len(depth) // 4
    middle = depth[low:high, low:high]
    seen = cv2.inRange(middle, 1, 65535)
    pairs = cv2.bitwise_and(seen[:, 1:], seen[:, :-1])
    steps = cv2.absdiff(middle[:, 1:], middle[:, :-1])
    agreeing = cv2.bitwise_and(pairs, cv2.inRange(steps, 0, one_surface))
    return {
        "depth_holes": 1 - cv2.countNonZero(seen) / seen.size,
        "depth_agreement": cv2.countNonZero(agreeing) / max(1, cv2.countNonZero(pairs)),
        "depth_spread": _spreads(middle, seen)[0],
    }


def _spreads(values: NDArray[Any], mask: NDArray[Any] | None = None) -> list[float]:
    """Return each channel's standard deviation; far cheaper on small planes than numpy's."""
    _, deviations = cv2.meanStdDev(values, mask=mask)
    return [float(each) for each in deviations[:, 0]]
