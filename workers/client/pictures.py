"""The camera's pictures: arrays in, encoded planes out, and a frame that was checked.

What is not as it should be is refused with what to pass instead. Nothing is converted, scaled or
rounded here: a guess about a sensor is worse than an error on the first day.
"""

import operator
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pcodec import ChunkConfig, standalone

from workers.errors import WorkerError
from workers.wire.frame import EncodedPlane, Frame
from workers.wire.refusal import WrongType

FaceBox = tuple[float, float, float, float]

MAX_SIDE_PX = 2048
MAX_PLANE_PX = 1 << 20
_MAX_UNIT_MM = 100.0
_PNG_BITS_AT = 24
# A higher level takes longer and saves 2 % more.
_PCO = ChunkConfig(compression_level=6)
_MAX_NUMBER = 1e9
# Unix ms of 2001 and of 2286. A stamp in seconds lies before, one in microseconds after.
_FIRST_MS, _LAST_MS = 10**12, 10**13


class CameraError(WorkerError):
    """A camera can't publish; the message says why, and what to do."""


def jpeg(pixels: NDArray[np.uint8], quality: int = 92) -> EncodedPlane:
    """Encode an RGB picture (H, W, 3) or an infrared one (H, W), uint8.

    Raises:
        CameraError: the array is of another type, shape or size, or `quality` is not 1 to 100.
    """
    _check_array("jpeg", pixels)
    shape = pixels.shape
    if pixels.dtype != np.uint8:
        raise CameraError(f"jpeg takes uint8, not {_told(pixels)}: {_AS_UINT8[_kind(pixels)]}")
    if len(shape) != 2 and shape[2:] != (3,):
        raise CameraError(
            f"jpeg takes (H, W, 3) in RGB order or (H, W), not {_told(pixels)}: pass "
            "pixels[..., :3] of RGBA, pixels[..., 0] of one channel"
        )
    level = integer("quality", quality, 1, 100)
    image: NDArray[Any] = np.ascontiguousarray(pixels)
    if len(shape) == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return EncodedPlane("jpeg", _encoded(".jpg", image, cv2.IMWRITE_JPEG_QUALITY, level), shape)


def png(pixels: NDArray[np.uint16], unit_mm: float = 1.0) -> EncodedPlane:
    """Encode depth (H, W), uint16, 0 = hole, in counts of `unit_mm`; lossless.

    Raises:
        CameraError: the array is of another type, byte order, shape or size, or `unit_mm` is not
            above 0 and at most 100.
    """
    unit = _checked_depth("png", pixels, unit_mm)
    data = _encoded(".png", np.ascontiguousarray(pixels), cv2.IMWRITE_PNG_COMPRESSION, 1)
    return EncodedPlane("png", data, pixels.shape, unit)


def pco(pixels: NDArray[np.uint16], unit_mm: float = 1.0) -> EncodedPlane:
    """Encode depth as `png` takes it, as a Pco stream: lossless too, smaller and sooner decoded.

    For deployments that take it; `Camera.depth` knows whether its own does.

    Raises:
        CameraError: as `png`.
    """
    unit = _checked_depth("pco", pixels, unit_mm)
    numbers = np.ascontiguousarray(pixels).reshape(-1)
    return EncodedPlane("pco", standalone.simple_compress(numbers, _PCO), pixels.shape, unit)


def make_frame(
    planes: Mapping[str, EncodedPlane],
    captured_at_ms: int | None,
    presentation_id: str | None,
    face_box: FaceBox | None,
) -> Frame:
    """Return a frame that still lacks its camera and its seq; `Camera.publish` says of what.

    Raises:
        FrameRefused: an argument is of another kind than is taken; the message says which.
    """
    if not isinstance(planes, Mapping):
        raise WrongType(f"planes is {{'rgb': jpeg(rgb), ...}}, not a {type(planes).__name__}")
    checked = {_modality(name): _checked_plane(name, plane) for name, plane in planes.items()}
    person = _plain(presentation_id)
    if person is not None and not (isinstance(person, str) and person.isprintable()):
        raise WrongType(f"presentation_id is a printable text, not a {type(person).__name__}")
    if captured_at_ms is None:
        stamp_ms = time.time_ns() // 1_000_000
    else:
        try:
            stamp_ms = integer("captured_at_ms", captured_at_ms, _FIRST_MS, _LAST_MS)
        except CameraError as error:
            raise WrongType(f"{error}: pass Unix milliseconds") from error
    box = _box(face_box, checked["rgb"].shape if "rgb" in checked else None)
    return Frame("-", 0, stamp_ms, checked, person, box)


def _checked_depth(by: str, pixels: NDArray[np.uint16], unit_mm: object) -> float:
    _check_array(by, pixels)
    if pixels.dtype != np.uint16 or not pixels.dtype.isnative:
        raise CameraError(
            f"{by} takes native uint16, not {_told(pixels)}: {_AS_UINT16[_kind(pixels)]}"
        )
    if pixels.ndim != 2:
        raise CameraError(f"{by} takes depth as (H, W), not {_told(pixels)}: pass one channel")
    unit = _plain(unit_mm)
    is_number = isinstance(unit, int | float) and not isinstance(unit, bool)
    if not is_number or not 0 < unit <= _MAX_UNIT_MM:
        raise CameraError(
            f"unit_mm is the millimetres of one count, above 0, at most {_MAX_UNIT_MM:g}, "
            f"not {unit!r:.40}"
        )
    return float(unit)


def _check_array(by: str, pixels: object) -> None:
    if isinstance(pixels, np.ma.MaskedArray):
        raise CameraError(f"{by} takes no masked array: pass pixels.filled(0)")
    if not isinstance(pixels, np.ndarray):
        raise CameraError(
            f"{by} takes a numpy array, not a {type(pixels).__name__}: pass numpy.asarray(picture)"
        )
    height, width = pixels.shape[:2] if pixels.ndim >= 2 else (0, 0)
    is_in_size = 0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX
    if not is_in_size or height * width > MAX_PLANE_PX:
        raise CameraError(
            f"{by} takes 1 to {MAX_SIDE_PX} px a side and at most {MAX_PLANE_PX} in all, not "
            f"{_told(pixels)}: crop it around the face, or scale it down"
        )


def _modality(name: object) -> str:
    if name not in ("rgb", "depth", "ir"):
        raise WrongType(f"planes has {name!r:.40}, which is no modality: rgb, depth or ir")
    return str(name)


def _checked_plane(name: object, plane: object) -> EncodedPlane:
    if not isinstance(plane, EncodedPlane):
        how = "png(depth_mm)" if name == "depth" else "jpeg(pixels)"
        raise WrongType(f"planes[{name!r:.20}] is a {type(plane).__name__}: pass {how}")
    if not isinstance(plane.data, bytes):
        kind = type(plane.data).__name__
        raise WrongType(f"planes[{name!r:.20}].data is a {kind}: pass bytes, as of .tobytes()")
    shape = _shape(name, plane.shape)
    num_axes = len(shape or ())
    if name == "rgb" and num_axes == 2:
        raise WrongType("planes['rgb'] has one channel: pass jpeg of (H, W, 3), in RGB order")
    if name != "rgb" and shape is not None and shape[2:] not in ((), (1,)):
        raise WrongType(f"planes[{name!r}] has three channels: pass one, as pixels[..., 0]")
    is_16_bit = plane.codec == "png" and plane.data[_PNG_BITS_AT : _PNG_BITS_AT + 1] == b"\x10"
    if name != "depth" and is_16_bit:
        raise WrongType(f"planes[{name!r:.20}] has 16 bits: png is for depth, jpeg for others")
    unit_mm = _plain(plane.unit_mm)
    if not _is_number(unit_mm):
        raise WrongType(f"planes[{name!r:.20}].unit_mm is a number, not {unit_mm!r:.40}")
    return replace(plane, shape=shape, unit_mm=unit_mm)


def _shape(name: object, shape: Any) -> tuple[int, ...] | None:  # noqa: ANN401
    if shape is None:
        return None
    try:
        sides = tuple(map(operator.index, shape))
    except TypeError:
        sides = ()
    if len(sides) not in (2, 3):
        raise WrongType(f"planes[{name!r:.20}].shape is (height, width) or (height, width, 3)")
    return sides


def _box(face_box: Any, shape: tuple[int, ...] | None) -> FaceBox | None:  # noqa: ANN401
    if face_box is None:
        return None
    values = face_box.tolist() if isinstance(face_box, np.ndarray) else face_box
    numbers = [_plain(value) for value in values] if isinstance(values, list | tuple) else []
    if len(numbers) != 4 or not all(map(_is_number, numbers)):
        raise WrongType("face_box is four finite numbers (x, y, w, h), px in the RGB plane")
    x, y, w, h = numbers
    if w < 1 or h < 1:
        raise WrongType(
            f"face_box has a width of {w:g} and a height of {h:g} px: pass (x, y, w, h), 1 px or "
            "more wide and high"
        )
    if shape is not None and not (x < shape[1] and y < shape[0] and x + w > 0 and y + h > 0):
        raise WrongType(
            f"face_box ({x:g}, {y:g}, {w:g}, {h:g}) lies outside the RGB plane of "
            f"{shape[1]} x {shape[0]} px: pass (x, y, w, h) in its pixels"
        )
    return x, y, w, h


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < _MAX_NUMBER  # so neither is a NaN, nor an int that no float can hold


def integer(name: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number in a range, numpy's as well as Python's.

    Raises:
        CameraError: it is none.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = lowest - 1
    if isinstance(value, bool | np.bool_) or not lowest <= number <= highest:
        raise CameraError(
            f"{name} must be an integer from {lowest} to {highest}, is {type(value).__name__} "
            f"{value!r:.40}"
        )
    return number


def _plain(value: Any) -> Any:  # noqa: ANN401 - numpy's scalars are as good as Python's
    return value.item() if isinstance(value, np.generic) else value


def _kind(pixels: NDArray[Any]) -> str:
    return "swapped" if not pixels.dtype.isnative else pixels.dtype.kind


class _Advice(dict[str, str]):
    def __missing__(self, kind: str) -> str:
        return "pass the sensor's own counts"


_AS_UINT8 = _Advice(
    f="from 0 to 1, pass (255 * pixels).round().astype(numpy.uint8)",
    u="scale to 0..255 yourself, as (pixels >> 8).astype(numpy.uint8) for 16 bits",
    i="clip to 0..255, then pixels.astype(numpy.uint8)",
    b="pass pixels.astype(numpy.uint8) * 255",
)
_AS_UINT16 = _Advice(
    f="from metres, pass numpy.nan_to_num(1000 * depth_m).round().astype(numpy.uint16)",
    u="pass pixels.astype(numpy.uint16) if all counts are below 65536",
    i="clip to 0..65535, then pixels.astype(numpy.uint16)",
    swapped="pass pixels.astype(numpy.uint16), which swaps its bytes",
)


def _encoded(kind: str, image: NDArray[Any], flag: int, value: int) -> bytes:
    is_done, data = cv2.imencode(kind, image, [flag, value])
    if not is_done:
        raise CameraError(f"OpenCV can't encode {_told(image)} as {kind}")
    return bytes(data.tobytes())


def _told(pixels: NDArray[Any]) -> str:
    order = "" if pixels.dtype.isnative else " (not native byte order)"
    return f"{pixels.dtype}{order} of shape {pixels.shape}"
