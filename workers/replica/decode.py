"""A frame's encoded planes in, the network's planes out: how the wire's planes reach the decoder.

What is decoded, and what it may cost, is in `model/data/decoder.py`. It releases the interpreter
lock: `decode` is meant for a thread pool.
"""

from model.data.decoder import Picture, decode_planes
from model.data.planes import DepthKind, PlaneError, Planes, crop_planes, in_millimetres
from workers.wire.frame import Frame
from workers.wire.refusal import Undecodable


def decode(frame: Frame, size: int, margin: float, depth_kind: DepthKind | None = None) -> Planes:
    """Decode a frame's planes and cut the face out of them.

    Args:
        frame: as `workers.wire.frame.unpack_frame` returned it.
        size: side of the network's input, px.
        margin: part of the face box's longer side added around it, as the bundle says.
        depth_kind: the only kind of depth that the bundle can judge; None: any.

    Returns:
        The planes as the network takes them; modalities that the frame lacks are None.

    Raises:
        Undecodable: a plane is not what its codec, its modality or the other planes say, or its
            depth is of another kind than the bundle's.
    """
    pictures = {
        name: Picture(plane.codec, plane.data, plane.shape) for name, plane in frame.planes.items()
    }
    try:
        pixels = decode_planes(pictures)
        planes = crop_planes(
            pixels.get("rgb"),
            pixels.get("depth"),
            pixels.get("ir"),
            frame.face_box,
            size,
            margin,
        )
    except PlaneError as error:
        raise Undecodable(str(error)) from error
    if planes.depth is None:
        return planes
    if depth_kind not in (None, planes.depth_kind):
        raise Undecodable(
            f"depth is {planes.depth_kind}, the model was trained on {depth_kind}: send depth "
            + ("of 16 bits" if depth_kind == "millimetres" else "as it was stored for training")
        )
    return in_millimetres(planes, frame.planes["depth"].unit_mm)
