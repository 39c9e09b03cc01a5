"""What the sensors make of a picture: noise, holes and compression, as cameras have them.

Nothing here knows what stands before the camera. Makes differ in noise, in filters and in whether
their software fills holes of depth, so that none of these says anything of a class.

Sources of the depth models' shapes: Khoshelham and Elberink, Sensors 2012 (structured light and
stereo: noise grows with the square of the distance); Foix et al., IEEE Sensors J. 2011 (time of
flight: flying pixels at edges); Grunnet-Jepsen et al., Projectors for Intel RealSense Depth Cameras
D4xx (active stereo works in sunlight, by the scene's own texture), and its post-processing (spatial
filter, holes filled from the nearest or the farthest neighbour). The constants are ours.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.view import Light, Picture

DepthSensor = Literal["stereo", "tof"]
DEPTH_SENSORS: tuple[DepthSensor, ...] = ("stereo", "tof")
Fill = Literal["none", "nearest", "farthest"]
FILLS: tuple[Fill, ...] = ("none", "nearest", "farthest")
_FILL_CHANCES = (0.5, 0.3, 0.2)
_MAX_GAIN, _MAX_IR_GAIN = 6.0, 2.5
_FARTHEST_M = 3.5
_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class DepthUnit:
    """One make of depth sensor, with its software.

    Attributes:
        sensor: how it measures.
        noise: factor on what is usual.
        smooth_px: of its spatial filter; 0: it has none.
        baseline_m: between what sends or sees and the colour camera: what is hidden from one of
            them has no depth.
        least: part of its light that must come back from 0.6 m.
        fill: what its software puts into holes.
        fill_px: how far from a pixel that is known.
        spots: how many places it is blind in: dirt, glare, another emitter.
        salt: part of the pixels that are lost by chance.
        step_mm: what its counts are multiples of.
    """

    sensor: DepthSensor
    noise: float
    smooth_px: float
    baseline_m: float
    least: float
    fill: Fill
    fill_px: int
    spots: int
    salt: float
    step_mm: int


@dataclass(frozen=True)
class Lens:
    """One make of colour or infrared camera.

    Attributes:
        noise: standard deviation where it is dark, linear.
        denoise_px: of its filter against noise; 0: it has none.
        sharpen: how much it overdraws edges.
        quality: of its JPEG.
    """

    noise: float
    denoise_px: float
    sharpen: float
    quality: int


@dataclass(frozen=True)
class Camera:
    """Three sensors in one housing.

    Attributes:
        rgb: the colour camera.
        ir: the infrared camera.
        depth: the depth sensor.
        ir_off: (x, y) by how much infrared is registered wrongly to colour, in parts of a face.
        depth_off: the same of depth.
    """

    rgb: Lens
    ir: Lens
    depth: DepthUnit
    ir_off: tuple[float, float]
    depth_off: tuple[float, float]


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw a make of camera."""
    sensor = DEPTH_SENSORS[int(rng.integers(2))]
    baseline = rng.uniform(0.02, 0.06) if sensor == "stereo" else rng.uniform(0, 0.02)
    depth = DepthUnit(
        sensor=sensor,
        noise=float(np.clip(np.exp(rng.normal(0, 0.6)), 0.3, 2.5)),
        smooth_px=max(0.0, float(rng.uniform(-1.2, 1.5))),
        baseline_m=float(rng.choice([-1, 1]) * baseline),
        least=float(np.exp(rng.normal(np.log(0.05), 0.8))),
        fill=FILLS[int(rng.choice(len(FILLS), p=_FILL_CHANCES))],
        fill_px=int(rng.integers(2, 40)),
        spots=int(rng.poisson(1.0)),
        salt=float(max(0.0, rng.uniform(-0.02, 0.02))),
        step_mm=int(rng.choice([1, 2, 4, 8], p=[0.45, 0.25, 0.2, 0.1])),
    )
    lenses = _draw_lens(rng), _draw_lens(rng)
    (ir_x, ir_y), (depth_x, depth_y) = rng.normal(0, 0.008, (2, 2)).tolist()
    return Camera(*lenses, depth, (ir_x, ir_y), (depth_x, depth_y))


def registered(
    plane: NDArray[Any], off: tuple[float, float], face_px: float, *, is_depth: bool = False
) -> NDArray[Any]:
    """Return a plane as far off as its camera's registration is.

    Args:
        plane: (S, S).
        off: (x, y) in parts of a face.
        face_px: longer side of a face's box.
        is_depth: depths are not blended: they move by whole px.
    """
    x, y = (each * face_px for each in off)
    if is_depth:
        x, y = round(x), round(y)
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    method = cv2.INTER_NEAREST if is_depth else cv2.INTER_LINEAR
    return cv2.warpAffine(
        plane, matrix, plane.shape[::-1], flags=method, borderMode=cv2.BORDER_REPLICATE
    )


def colour(
    picture: Picture, lens: Lens, blur_px: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return (S, S, 3) uint8 RGB: exposure, white balance, blur, noise, sRGB's curve, JPEG."""
    linear: NDArray[Any] = cv2.GaussianBlur(picture.rgb, (0, 0), blur_px)
    bright = float(np.percentile(linear[::2, ::2], 90)) + 1e-6
    gain = min(rng.uniform(0.4, 1.0) / bright, _MAX_GAIN)
    # Gain lifts the noise with the picture: a dark frame stays a noisy, dark frame.
    linear = linear + _noise(linear.shape, rng) * lens.noise * (0.3 + np.sqrt(linear))
    white = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    return _developed(linear * (gain * white), 2.2, lens)


def infrared(
    picture: Picture, lens: Lens, blur_px: float, sun: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return (S, S) uint8, exposed for what is in the middle, as far as the gain goes.

    In the sun the picture washes out: light scatters in the lens, and no exposure is short enough.
    """
    linear: NDArray[Any] = cv2.GaussianBlur(picture.nir, (0, 0), blur_px)
    linear = linear + rng.uniform(0, 0.35) * max(0.0, sun - 0.4)
    quarter = len(linear) // 4
    bright = float(linear[quarter:-quarter, quarter:-quarter].mean()) + 1e-6
    least_gain = 0.15 + rng.uniform(0, 0.8) * min(1.0, max(0.0, sun - 0.4))
    gain = float(np.clip(rng.uniform(0.12, 0.5) / bright, least_gain, _MAX_IR_GAIN))
    linear = (linear + _noise(linear.shape, rng) * lens.noise * 0.8) * gain
    return _developed(linear, 1.6, lens)


def depth_mm(
    picture: Picture, unit: DepthUnit, light: Light, focal_px: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return (S, S) uint16 mm, 0 = hole.

    Args:
        picture: what there is.
        unit: what measures it.
        light: of the scene: in near infrared from elsewhere, the sensor's own light is lost.
        focal_px: of the view, to know what one eye sees and the other does not.
        rng: of noise and holes.
    """
    depth: NDArray[Any] = np.minimum(picture.depth_m, 9).astype(np.float32)
    near = cv2.erode(depth, _SQUARE)
    is_edge = cv2.dilate(depth, _SQUARE) - near > 0.03
    back = picture.albedo * (0.3 + 0.7 * picture.slant) * 0.6 / depth
    # The less light comes back, the noisier the measurement.
    strength = unit.noise * (1 + 1.2 * light.nir_ambient) * np.sqrt(np.clip(0.3 / back, 0.5, 8))
    measured, hole = _measured(depth, near, is_edge, unit, strength, rng)
    mirror = np.clip((picture.slant - 0.97) * 30, 0, 1) * np.clip(picture.gloss - 0.3, 0, 1) * 0.8
    grazing = np.clip((0.25 - picture.slant) * 4, 0, 1)
    weak = np.clip(1.6 * (1 - back / unit.least), 0, 0.95)
    chance = np.maximum(np.maximum(hole, mirror), np.maximum(grazing, weak))
    blobs = cv2.GaussianBlur(rng.random(depth.shape, np.float32), (0, 0), rng.uniform(0.6, 2.5))
    low, high = float(blobs.min()), float(blobs.max())
    blobs = (blobs - low) / (high - low + 1e-6)
    # In the sun, time of flight loses its own light; stereo matches what texture there is.
    is_tof = unit.sensor == "tof"
    blinded = float(np.clip((0.6 if is_tof else 0.3) * light.nir_ambient - 0.15, 0, 0.8))
    is_hole = (np.maximum(chance, blinded) > blobs) | (measured > _FARTHEST_M)
    is_hole |= _is_occluded(depth, unit.baseline_m * focal_px)
    is_hole |= rng.random(depth.shape, np.float32) < unit.salt
    _blind_spots(is_hole, unit.spots, rng)
    steps = np.rint(measured * (1000 / unit.step_mm)) * unit.step_mm
    counts = np.where(is_hole, 0, steps).astype(np.uint16)
    return _filled(counts, unit)


def _measured(
    depth: NDArray[Any],
    near: NDArray[Any],
    is_edge: NDArray[np.bool_],
    unit: DepthUnit,
    strength: NDArray[Any],
    rng: np.random.Generator,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what is measured, m, and how likely a pixel is lost at an edge."""
    if unit.sensor == "stereo":
        # Matching works on patches: detail is lost, and what noise there is has their size.
        patches = cv2.GaussianBlur(_noise(depth.shape, rng), (0, 0), 1.6)
        noise = patches * 4.5 * 0.0018 * strength * (depth / 0.5) ** 2
        measured, hole = cv2.medianBlur(depth, 5) + noise, 0.75 * is_edge
    else:
        flying = is_edge & (rng.random(depth.shape, np.float32) < 0.5)
        mix = rng.random(depth.shape, np.float32)
        measured = np.where(flying, near + (depth - near) * mix, depth)
        measured = measured + _noise(depth.shape, rng) * 0.0022 * strength * (depth / 0.5)
        measured, hole = cv2.GaussianBlur(measured, (0, 0), 0.7), 0.3 * is_edge
    if unit.smooth_px > 0.3:
        smooth = cv2.GaussianBlur(measured, (0, 0), unit.smooth_px)
        measured = np.where(is_edge, measured, smooth)
    return np.clip(measured, 0, 60), hole


def _is_occluded(depth: NDArray[Any], reach: float) -> NDArray[np.bool_]:
    """Return which pixels a second eye does not see: something nearer hides them on its side.

    Args:
        depth: (S, S) m.
        reach: signed baseline times focal length: disparity in px at 1 m.
    """
    if reach < 0:
        return _is_occluded(depth[:, ::-1], -reach)[:, ::-1]
    # Where a pixel lies in the other eye's row; one to its left that lies farther right hides it.
    lies = reach / np.maximum(depth, 0.1) + np.arange(depth.shape[1], dtype=np.float32)
    occluded: NDArray[np.bool_] = np.maximum.accumulate(lies, axis=1) > lies + 1.0
    return occluded


def _blind_spots(is_hole: NDArray[np.bool_], count: int, rng: np.random.Generator) -> None:
    """Make holes of any extent in any place, in place."""
    size = len(is_hole)
    mask = is_hole.view(np.uint8)
    for _ in range(count):
        middle = rng.uniform(0, size, 2).astype(int)
        axes = (size * np.exp(rng.normal(np.log(0.05), 0.7, 2))).astype(int) + 1
        cv2.ellipse(mask, middle.tolist(), axes.tolist(), float(rng.uniform(0, 180)), 0, 360, 1, -1)


def _filled(counts: NDArray[np.uint16], unit: DepthUnit) -> NDArray[np.uint16]:
    """Return depth with its holes filled as far as the sensor's software does."""
    is_hole = counts == 0
    if unit.fill == "none" or is_hole.all() or not is_hole.any():
        return counts
    if unit.fill == "farthest":
        for _ in range(min(unit.fill_px, 12)):
            counts = np.where(counts == 0, cv2.dilate(counts, _SQUARE), counts)
        return counts
    far, label = cv2.distanceTransformWithLabels(
        is_hole.view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(label.max()) + 1, np.uint16)
    of_label[label[~is_hole]] = counts[~is_hole]
    filled: NDArray[np.uint16] = np.where(far <= unit.fill_px, of_label[label], counts)
    return filled


def _draw_lens(rng: np.random.Generator) -> Lens:
    return Lens(
        noise=float(np.exp(rng.uniform(np.log(0.001), np.log(0.02)))),
        denoise_px=float(rng.uniform(0.4, 1.0)) if rng.random() < 0.35 else 0.0,
        sharpen=float(rng.uniform(0.2, 1.2)) if rng.random() < 0.35 else 0.0,
        quality=int(rng.integers(50, 98)),
    )


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def _developed(linear: NDArray[Any], gamma: float, lens: Lens) -> NDArray[np.uint8]:
    """Return what a camera makes of what it measured: filters, its curve, 8 bits, its JPEG."""
    if lens.denoise_px:
        linear = cv2.GaussianBlur(linear, (0, 0), lens.denoise_px)
    curved = np.clip(linear, 0, 1) ** np.float32(1 / gamma)
    if lens.sharpen:
        curved += lens.sharpen * (curved - cv2.GaussianBlur(curved, (0, 0), 1.0))
        np.clip(curved, 0, 1, out=curved)
    quantised = (curved * 255 + 0.5).astype(np.uint8)
    flag = cv2.IMREAD_COLOR if quantised.ndim == 3 else cv2.IMREAD_GRAYSCALE
    _, data = cv2.imencode(".jpg", quantised, [cv2.IMWRITE_JPEG_QUALITY, lens.quality])
    return cv2.imdecode(data, flag)  # type: ignore[return-value] # of what was just encoded
