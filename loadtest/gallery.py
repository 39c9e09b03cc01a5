"""What the cameras of a fleet show: stills, packed once, in presentations with their truth."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import msgpack

from loadtest.errors import LoadtestError
from loadtest.samples import load_samples
from loadtest.sources import RENDERED, open_source
from workers.wire.decision import VERSION
from workers.wire.frame import EncodedPlane, Frame, pack_frame, unpack_frame

_MAX_STILLS = 512
_MAP_OF = 0x80  # msgpack: a map of up to 15 pairs
_TAIL_PAIRS = 4  # camera_id, seq, captured_at_ms, presentation_id


class GalleryError(LoadtestError):
    """The source can't be shown as the scenario says; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Still:
    """The part of a frame that is the same whoever sends it and whenever: it is packed first.

    Attributes:
        packed: the beginning of the field `f`: all but camera, seq, stamp and presentation.
        rgb_only: the same without depth and infrared.
    """

    packed: bytes
    rgb_only: bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """A presentation.

    Attributes:
        is_bona_fide: the truth; None where the source does not tell.
        stills: numbers of its stills.
    """

    is_bona_fide: bool | None
    stills: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """All stills of a source, and the presentations that they make up."""

    stills: Sequence[Still]
    bona_fide: Sequence[Shown]
    attacks: Sequence[Shown]

    def pick(self, attacks: float, order: random.Random) -> Shown:
        """Return the next presentation before a camera; an attack at the given share."""
        is_attack = bool(self.attacks) and order.random() < attacks
        return order.choice(self.attacks if is_attack or not self.bona_fide else self.bona_fide)


def open_gallery(source: str, frame_bytes: int | None = None) -> Gallery:
    """Return the stills of a source.

    Args:
        source: as for `loadtest.sources.open_source`.
        frame_bytes: fill the field `f` of each frame up to it; None: as it is.

    Raises:
        SourceError: there is no such source.
        GalleryError: a frame is larger than `frame_bytes`.
    """
    stills: list[Still] = []
    bona_fide: list[Shown] = []
    attacks: list[Shown] = []
    if source == RENDERED:
        for presentation in load_samples():
            numbers = range(len(stills), len(stills) + len(presentation.frames))
            for each in presentation.frames:
                stills.append(_still(each.planes, each.face_box, frame_bytes))
            shown = Shown(presentation.is_bona_fide, tuple(numbers))
            (bona_fide if presentation.is_bona_fide else attacks).append(shown)
        return Gallery(stills, bona_fide, attacks)
    names: dict[str, None] = {}
    for frame in islice(open_source(source), _MAX_STILLS):
        if frame.name in names:
            break  # it begins anew
        names[frame.name] = None
        kept = attacks if frame.is_bona_fide is False else bona_fide
        kept.append(Shown(frame.is_bona_fide, (len(stills),)))
        stills.append(_still(frame.planes, frame.face_box, frame_bytes))
    return Gallery(stills, bona_fide, attacks)


def _still(
    planes: dict[str, EncodedPlane],
    face_box: tuple[float, float, float, float] | None,
    frame_bytes: int | None,
) -> Still:
    unpack_frame(pack_frame(Frame("-", 0, 0, planes, None, face_box)))  # refused here, not there
    packed = _packed(planes, face_box)
    if frame_bytes is not None:
        missing = frame_bytes - len(packed)
        if missing < 0:
            raise GalleryError(
                f"fleet.frame_size is {frame_bytes} bytes, and a frame of the source has "
                f"{len(packed)}: raise it, or leave it out"
            )
        # What follows the end of a picture is no part of it, to any decoder.
        name = next((each for each in planes if planes[each].codec != "raw"), None)
        if name is None:
            raise GalleryError("fleet.frame_size fills JPEG and PNG alone: leave it out")
        plane = planes[name]
        padded = EncodedPlane(plane.codec, plane.data + bytes(missing), plane.shape, plane.unit_mm)
        packed = _packed({**planes, name: padded}, face_box)
    rgb = {name: plane for name, plane in planes.items() if name == "rgb"} or dict(
        islice(planes.items(), 1)
    )
    return Still(packed, _packed(rgb, face_box if "rgb" in rgb else None))


def _packed(
    planes: dict[str, EncodedPlane], face_box: tuple[float, float, float, float] | None
) -> bytes:
    """Return the pairs that never change, behind a header that counts those to come as well."""
    whole = pack_frame(Frame("-", 0, 0, planes, None, face_box))
    body = msgpack.unpackb(whole)
    fixed = {"v": VERSION, "planes": body["planes"]}
    if face_box is not None:
        fixed["face_box"] = body["face_box"]
    pairs: bytes = msgpack.packb(fixed)
    return bytes([_MAP_OF + len(fixed) + _TAIL_PAIRS]) + pairs[1:]
