"""Wire format, version 1: the bytes of a frame.

`workers/README.md` documents it to the byte; golden files under `tests/` freeze it.

Bytes that break a rule raise a `workers.wire.refusal.FrameRefused` that names the key, the
rule, and type and length of the value, but never shows the value itself.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import msgpack

from workers.wire.decision import VERSION
from workers.wire.msgpack_walk import check_size, find_text
from workers.wire.refusal import (
    FrameTooLarge,
    MalformedFrame,
    MissingKey,
    UnknownVersion,
    WrongType,
)

MAX_FRAME_BYTES = 1 << 20
MAX_SEQ = 2**64 - 1
CAMERA_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_CAMERA_ID_RULE = "1 to 64 of A-Z a-z 0-9 . _ -"

Codec = Literal["jpeg", "png", "raw", "pco"]
CODECS: tuple[Codec, ...] = ("jpeg", "png", "raw", "pco")
# What each deployment has taken from the first on.
FIRST_CODECS: frozenset[str] = frozenset(("jpeg", "png", "raw"))
_MODALITIES = ("rgb", "depth", "ir")
_FIELDS = frozenset((b"f", b"s"))
_MAX_FIELDS = 16
_MAX_TEXT_LEN = 128
_MAX_UNIT_MM = 100.0
_MAX_BOX_PX = 2**16


@dataclass(frozen=True, slots=True)
class EncodedPlane:
    """One modality's picture as the camera sent it.

    Attributes:
        codec: how `data` is encoded.
        data: the encoded picture.
        shape: (height, width) or (height, width, channels) px; needed for `raw` and `pco`.
        unit_mm: depth only: millimetres a count; 0 is a hole whatever the unit.
    """

    codec: Codec
    data: bytes
    shape: tuple[int, ...] | None = None
    unit_mm: float = 1.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose signature and structure were checked, its planes still encoded.

    Attributes:
        camera_id: who sends it.
        seq: the frame's own number, 0 to 2**64 - 1.
        captured_at_ms: wall clock of the camera, Unix ms.
        planes: 1 to 3 of `rgb`, `depth`, `ir`, registered to each other.
        presentation_id: one person standing at the door, as tracked by the camera.
        face_box: (x, y, w, h) px in the RGB plane; None: the planes are face crops.
    """

    camera_id: str
    seq: int
    captured_at_ms: int
    planes: Mapping[str, EncodedPlane]
    presentation_id: str | None = None
    face_box: tuple[float, float, float, float] | None = None


def pack_frame(frame: Frame) -> bytes:
    """Return the bytes of the field `f`; sign exactly these."""
    body: dict[str, Any] = {
        "v": VERSION,
        "camera_id": frame.camera_id,
        "seq": frame.seq,
        "captured_at_ms": frame.captured_at_ms,
    }
    if frame.presentation_id is not None:
        body["presentation_id"] = frame.presentation_id
    if frame.face_box is not None:
        body["face_box"] = list(frame.face_box)
    body["planes"] = {name: _plane_map(plane) for name, plane in frame.planes.items()}
    packed: bytes = msgpack.packb(body)
    return packed


def take_fields(
    fields: Mapping[bytes, bytes], max_bytes: int = MAX_FRAME_BYTES
) -> tuple[bytes, bytes | None]:
    """Return the fields `f` and `s` of an entry; `s` is None where it is missing.

    Raises:
        FrameTooLarge: the fields have more than `max_bytes` in all.
        MalformedFrame: `f` is missing, or there are fields that a frame does not have.
    """
    if len(fields) > _MAX_FIELDS:  # first of all: to sum up a million fields takes a while
        raise MalformedFrame(f"the entry has {len(fields)} fields, a frame has f and s")
    num_bytes = sum(map(len, fields.values()))
    if num_bytes > max_bytes:
        raise FrameTooLarge(f"the entry has {num_bytes} bytes, at most {max_bytes} are taken")
    if b"f" not in fields:
        raise MissingKey("the entry has no field f")
    for name in fields.keys() - _FIELDS:
        raise MalformedFrame(f"the entry has an unknown field, its name has {len(name)} bytes")
    return fields[b"f"], fields.get(b"s")


def peek_camera_id(packed: bytes) -> str:
    """Return the camera that a frame claims to be of; the rest of it is walked over, not read.

    The signature covers the whole of `f`, and the key to check it with is the camera's: so this
    one value is read first, everything else only once the signature holds. It costs
    microseconds, whatever the bytes are.

    Raises:
        MalformedFrame: there is no map, or no well-formed `camera_id` in it.
    """
    camera_id = find_text(packed, b"camera_id")
    if camera_id is None:
        raise MissingKey("camera_id is missing, or is no text")
    if len(camera_id) > _MAX_TEXT_LEN:
        _wrong("camera_id", _CAMERA_ID_RULE, camera_id)
    return _camera_id(camera_id.decode("ascii", "replace"))


def unpack_frame(packed: bytes) -> Frame:
    """Return the frame in `packed`, checked key by key.

    Raises:
        MalformedFrame: one of its subclasses says what is wrong, naming key and rule.
    """
    body = _unpack_map(packed)
    version = _take(body, "v")
    if version != VERSION or isinstance(version, bool):
        raise UnknownVersion(f"v must be {VERSION}, is another {_shown(version)}")
    frame = Frame(
        camera_id=_camera_id(_take(body, "camera_id")),
        seq=_integer("seq", _take(body, "seq"), MAX_SEQ),
        captured_at_ms=_integer("captured_at_ms", _take(body, "captured_at_ms"), 2**63 - 1),
        planes=_planes(_take(body, "planes")),
        presentation_id=_presentation_id(body.pop("presentation_id", None)),
        face_box=_face_box(body.pop("face_box", None)),
    )
    _refuse_rest("the frame", body)
    return frame


def _plane_map(plane: EncodedPlane) -> dict[str, Any]:
    body: dict[str, Any] = {"codec": plane.codec, "data": plane.data}
    if plane.shape is not None:
        body["shape"] = list(plane.shape)
    if plane.unit_mm != 1.0:
        body["unit_mm"] = plane.unit_mm
    return body


def _unpack_map(packed: bytes) -> dict[str, Any]:
    check_size(packed)
    try:
        body = msgpack.unpackb(packed, object_pairs_hook=_unique, max_str_len=_MAX_TEXT_LEN)
    except MalformedFrame:
        raise
    except Exception as error:
        # The library raises errors of many types, some of which quote what they met.
        raise MalformedFrame(f"f is no msgpack that is taken: {type(error).__name__}") from error
    if not isinstance(body, dict):
        raise WrongType(f"f must be a map, is {_shown(body)}")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        # Readers differ in which of two equal keys they take: no frame may say two things.
        raise MalformedFrame("a key stands twice in one map")
    return body


def _take(body: dict[str, Any], key: str) -> Any:  # noqa: ANN401 - checked by the caller
    if key not in body:
        raise MissingKey(f"{key} is missing")
    return body.pop(key)


def _refuse_rest(where: str, body: dict[str, Any]) -> None:
    for key in body:
        raise MalformedFrame(f"{where} has an unknown key, {_shown(key)}")


def _wrong(key: str, rule: str, value: object) -> NoReturn:
    raise WrongType(f"{key} must be {rule}, is {_shown(value)}")


def _shown(value: object) -> str:
    """Return type and length of a value: what is in it may be a face, a name, or an attack."""
    if isinstance(value, str | bytes | list | dict):
        return f"{type(value).__name__} of length {len(value)}"
    return type(value).__name__


def _camera_id(value: object) -> str:
    if not isinstance(value, str) or not CAMERA_ID.fullmatch(value):
        _wrong("camera_id", _CAMERA_ID_RULE, value)
    return value


def _presentation_id(value: object) -> str | None:
    if value is not None and not (isinstance(value, str) and value and value.isprintable()):
        _wrong("presentation_id", f"a printable text of 1 to {_MAX_TEXT_LEN} bytes", value)
    return value


def _integer(key: str, value: object, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        _wrong(key, f"an integer from 0 to {maximum}", value)
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _face_box(value: object) -> tuple[float, float, float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        _wrong("face_box", "[x, y, w, h] in px", value)
    if not all(abs(number) <= _MAX_BOX_PX for number in value):
        _wrong("face_box", f"within {_MAX_BOX_PX} px", value)
    x, y, w, h = (float(number) for number in value)
    if w < 1 or h < 1:
        _wrong("face_box", "at least 1 px wide and high", value)
    return x, y, w, h


def _planes(value: object) -> dict[str, EncodedPlane]:
    if not isinstance(value, dict) or not value:
        _wrong("planes", "a map of 1 to 3 modalities", value)
    unknown = [name for name in value if name not in _MODALITIES]
    if unknown:
        raise WrongType(f"planes has an unknown modality, {_shown(unknown[0])}")
    return {name: _plane(f"planes.{name}", name, plane) for name, plane in value.items()}


def _plane(where: str, modality: str, value: object) -> EncodedPlane:
    if not isinstance(value, dict):
        _wrong(where, "a map", value)
    codec, data = _take(value, "codec"), _take(value, "data")
    if codec not in CODECS:
        _wrong(f"{where}.codec", f"one of {', '.join(CODECS)}", codec)
    if not isinstance(data, bytes) or not data:
        _wrong(f"{where}.data", "non-empty bin", data)
    shape = _shape(f"{where}.shape", value.pop("shape", None))
    if codec in ("raw", "pco") and shape is None:
        raise MissingKey(f"{where}.shape is missing: {codec} data do not say how wide they are")
    unit_mm = value.pop("unit_mm", 1.0) if modality == "depth" else 1.0
    if not _is_number(unit_mm) or not 0 < unit_mm <= _MAX_UNIT_MM:
        _wrong(f"{where}.unit_mm", f"a number above 0, at most {_MAX_UNIT_MM:g}", unit_mm)
    _refuse_rest(where, value)
    return EncodedPlane(codec, data, shape, float(unit_mm))


def _shape(where: str, value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) not in (2, 3):
        _wrong(where, "[height, width] or [height, width, channels]", value)
    return tuple(_integer(where, side, 2**16) for side in value)
