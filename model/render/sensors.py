"""What the sensors make of a picture: noise, holes and compression, as cameras have them.

Sources of the depth models' shapes: Khoshelham and Elberink, Sensors 2012 (structured light and
stereo: noise grows with the square of the distance); Foix et al., IEEE Sensors J. 2011 (time of
flight: flying pixels at edges); Grunnet-Jepsen et al., Projectors for Intel RealSense Depth Cameras
D4xx (active stereo works in sunlight, by the scene's own texture). The constants are ours.
"""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.scene import Picture

DepthSensor = Literal["stereo", "tof"]
DEPTH_SENSORS: tuple[DepthSensor, ...] = ("stereo", "tof")
_MAX_GAIN = 6.0


def colour(picture: Picture, blur_px: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (S, S, 3) uint8 RGB: exposure, white balance, blur, noise, sRGB's curve, JPEG."""
    linear: NDArray[Any] = cv2.GaussianBlur(picture.rgb, (0, 0), blur_px)
    bright = float(np.percentile(linear[::2, ::2], 90)) + 1e-6
    gain = min(rng.uniform(0.4, 1.0) / bright, _MAX_GAIN)
    # Gain lifts the noise with the picture: a dark frame stays a noisy, dark frame.
    strength = rng.uniform(0.002, 0.012)
    noise = _noise(linear.shape, rng) * strength * (0.3 + np.sqrt(linear))
    white = rng.uniform(0.92, 1.08, 3).astype(np.float32)
    linear = (linear + noise) * (gain * white)
    return _compressed(_quantised(linear, 2.2), rng)


def infrared(picture: Picture, blur_px: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (S, S) uint8, exposed for what is in the middle, as far as the gain goes."""
    linear: NDArray[Any] = cv2.GaussianBlur(picture.nir, (0, 0), blur_px)
    quarter = len(linear) // 4
    bright = float(linear[quarter:-quarter, quarter:-quarter].mean()) + 1e-6
    gain = float(np.clip(rng.uniform(0.12, 0.5) / bright, 0.15, _MAX_GAIN))
    linear = (linear + _noise(linear.shape, rng) * rng.uniform(0.002, 0.01)) * gain
    return _compressed(_quantised(linear, 1.6), rng)


def depth_mm(
    picture: Picture, sensor: DepthSensor, sun: float, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Return (S, S) uint16 mm, 0 = hole.

    Args:
        picture: what there is.
        sensor: how it is measured.
        sun: near infrared from elsewhere, in which the sensor's own light is lost.
        rng: of noise and holes.
    """
    depth: NDArray[Any] = picture.depth_m.astype(np.float32)
    near = cv2.erode(depth, np.ones((3, 3), np.uint8))
    is_edge = cv2.dilate(depth, np.ones((3, 3), np.uint8)) - near > 0.03
    strength = rng.uniform(0.7, 1.6) * (1 + 2 * sun)
    if sensor == "stereo":
        # Matching works on patches: detail is lost, and what noise there is has their size.
        depth = cv2.medianBlur(depth, 5)
        patches = cv2.GaussianBlur(_noise(depth.shape, rng), (0, 0), 1.6)
        measured: NDArray[Any] = depth + patches * 4.5 * 0.0018 * strength * (depth / 0.5) ** 2
        hole = 0.75 * is_edge
    else:
        flying = is_edge & (rng.random(depth.shape, np.float32) < 0.5)
        mix = rng.random(depth.shape, np.float32)
        measured = np.where(flying, near + (depth - near) * mix, depth)
        measured = measured + _noise(depth.shape, rng) * 0.0022 * strength * (depth / 0.5)
        measured = cv2.GaussianBlur(measured, (0, 0), 0.7)
        hole = 0.3 * is_edge
    mirror = np.clip((picture.slant - 0.97) * 30, 0, 1) * np.clip(picture.gloss - 0.3, 0, 1) * 0.8
    grazing = np.clip((0.25 - picture.slant) * 4, 0, 1)
    chance = np.maximum(np.maximum(hole, mirror), np.maximum(grazing, 0.35 * picture.is_dark))
    blobs = cv2.GaussianBlur(rng.random(depth.shape, np.float32), (0, 0), 1.2)
    low, high = float(blobs.min()), float(blobs.max())
    blobs = (blobs - low) / (high - low + 1e-6)
    # In the sun, time of flight loses its own light; stereo matches what texture there is.
    blinded = float(np.clip((0.6 if sensor == "tof" else 0.3) * sun - 0.15, 0, 0.8))
    is_hole = (np.maximum(chance, blinded) > blobs) | (measured > 3.5)
    is_hole |= rng.random(depth.shape, np.float32) < 0.003
    counts = np.where(is_hole, 0, np.rint(np.clip(measured, 0, 60) * 1000))
    return counts.astype(np.uint16)


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal(shape, np.float32)


def _quantised(linear: NDArray[Any], gamma: float) -> NDArray[np.uint8]:
    curved = np.clip(linear, 0, 1) ** np.float32(1 / gamma)
    quantised: NDArray[np.uint8] = (curved * 255 + 0.5).astype(np.uint8)
    return quantised


def _compressed(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what is left of a picture after the camera's own JPEG."""
    flag = cv2.IMREAD_COLOR if picture.ndim == 3 else cv2.IMREAD_GRAYSCALE
    quality = int(rng.integers(60, 96))
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, flag)  # type: ignore[return-value] # of what was just encoded
