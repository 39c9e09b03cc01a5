"""What the sensors make of a picture: noise, holes and compression, as cameras have them.

Sources of the depth models' shapes: Khoshelham and Elberink, Sensors 2012 (structured light and
stereo: noise grows with the square of the distance); Foix et al., IEEE Sensors J. 2011 (time of
flight: flying pixels at edges). The constants are ours.
"""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.render.rays import Array
from model.render.scene import Picture

DepthSensor = Literal["stereo", "tof"]
DEPTH_SENSORS: tuple[DepthSensor, ...] = ("stereo", "tof")


def colour(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (S, S, 3) uint8 RGB: exposure, white balance, blur, noise and sRGB's curve."""
    linear: NDArray[Any] = cv2.GaussianBlur(picture.rgb, (0, 0), float(rng.uniform(0.4, 0.9)))
    bright = np.percentile(linear, 90) + 1e-6
    linear = linear * (rng.uniform(0.45, 0.95) / bright)
    linear = linear * rng.uniform(0.92, 1.08, 3)
    gain = rng.uniform(0.002, 0.012)
    linear = linear + rng.normal(0, 1, linear.shape) * gain * (0.3 + np.sqrt(np.abs(linear)))
    return _quantised(linear, 2.2)


def infrared(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (S, S) uint8, exposed for what is in the middle, as far as the gain goes."""
    linear: NDArray[Any] = cv2.GaussianBlur(picture.nir, (0, 0), float(rng.uniform(0.4, 0.9)))
    quarter = len(linear) // 4
    bright = float(np.percentile(linear[quarter:-quarter, quarter:-quarter], 85)) + 1e-6
    gain = float(np.clip(rng.uniform(0.3, 0.6) / bright, 0.3, 5.0))
    # Gain lifts the noise with the picture: a dark frame stays a noisy, dark frame.
    linear = (linear + rng.normal(0, 1, linear.shape) * rng.uniform(0.002, 0.008)) * gain
    return _quantised(linear, 1.6)


def depth_mm(picture: Picture, sensor: DepthSensor, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return (S, S) uint16 mm, 0 = hole."""
    depth: NDArray[Any] = picture.depth_m.astype(np.float32)
    near = cv2.erode(depth, np.ones((3, 3), np.uint8))
    is_edge = cv2.dilate(depth, np.ones((3, 3), np.uint8)) - near > 0.03
    strength = rng.uniform(0.7, 1.6)
    if sensor == "stereo":
        # Matching works on patches: detail is lost, and what noise there is has their size.
        depth = cv2.medianBlur(depth, 5)
        patches = cv2.GaussianBlur(rng.normal(0, 1, depth.shape).astype(np.float32), (0, 0), 1.6)
        measured: NDArray[Any] = depth + patches * 4.5 * 0.0018 * strength * (depth / 0.5) ** 2
        hole = 0.75 * is_edge
    else:
        flying = is_edge & (rng.random(depth.shape) < 0.5)
        mix = rng.random(depth.shape).astype(np.float32)
        measured = np.where(flying, near + (depth - near) * mix, depth)
        measured = measured + rng.normal(0, 0.0022 * strength, depth.shape) * (depth / 0.5)
        measured = cv2.GaussianBlur(measured.astype(np.float32), (0, 0), 0.7)
        hole = 0.3 * is_edge
    mirror = np.clip((picture.slant - 0.97) * 30, 0, 1) * np.clip(picture.gloss - 0.3, 0, 1) * 0.8
    grazing = np.clip((0.25 - picture.slant) * 4, 0, 1)
    chance = np.maximum.reduce([hole, mirror, grazing, 0.35 * picture.is_dark])
    blobs = cv2.GaussianBlur(rng.random(depth.shape).astype(np.float32), (0, 0), 1.2)
    blobs = (blobs - blobs.min()) / (np.ptp(blobs) + 1e-6)
    is_hole = (chance > blobs) | (measured > 3.5) | (rng.random(depth.shape) < 0.003)
    counts = np.where(is_hole, 0, np.rint(np.clip(measured, 0, 60) * 1000))
    return counts.astype(np.uint16)


def to_uint8(linear: Array) -> NDArray[np.uint8]:
    """Return a linear picture as 8-bit sRGB, without noise: what a printer or screen is given."""
    return _quantised(linear, 2.2)


def _quantised(linear: NDArray[Any], gamma: float) -> NDArray[np.uint8]:
    curved = np.clip(linear, 0, 1) ** (1 / gamma)
    quantised: NDArray[np.uint8] = (curved * 255 + 0.5).astype(np.uint8)
    return quantised
