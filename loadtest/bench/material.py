"""What benchmarks send: frames of the sample set, encoded anew each way a camera may choose."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Literal

from loadtest.samples import SampleFrame, load_samples
from model.data.decoder import Picture, decode_planes
from workers.client.pictures import pco
from workers.wire.frame import EncodedPlane, Frame, pack_frame
from workers.wire.signing import sign

Encoding = Literal["jpeg + png", "jpeg + pco", "raw"]
ENCODINGS: tuple[Encoding, ...] = ("jpeg + png", "jpeg + pco", "raw")
# What a camera of ours sends where the deployment takes it.
BEST: Encoding = "jpeg + pco"
KEY = bytes(range(32))
NUM_CAMERAS = 64

Planes = Mapping[str, EncodedPlane]

_seqs = count(1)


def sample_frames(num_frames: int) -> list[SampleFrame]:
    """Return frames of the shipped set, as many as there are of it and no more."""
    return [frame for shown in load_samples() for frame in shown.frames][:num_frames]


def encoded(frames: Sequence[SampleFrame], encoding: Encoding) -> list[Planes]:
    """Return the planes of frames as a camera that chose `encoding` sends them."""
    return [_ENCODE[encoding](frame.planes) for frame in frames]


def signed(
    frames: Sequence[SampleFrame],
    planes: Sequence[Planes],
    num_frames: int,
    *,
    in_presentations: bool = False,
) -> Iterator[tuple[str, dict[bytes, bytes]]]:
    """Yield camera and entry of frames that were captured now, each with a seq of its own.

    Args:
        frames: to take turns.
        planes: of each.
        num_frames: how many.
        in_presentations: ten frames of a camera are of one, as of a person who stands there.
    """
    for number in range(num_frames):
        row, seq = number % len(frames), next(_seqs)
        camera_id = f"bench-{seq % NUM_CAMERAS}"
        presentation_id = f"{camera_id}-{seq // NUM_CAMERAS // 10}" if in_presentations else None
        now_ms = time.time_ns() // 1_000_000
        packed = pack_frame(
            Frame(camera_id, seq, now_ms, planes[row], presentation_id, frames[row].face_box)
        )
        yield camera_id, {b"f": packed, b"s": sign(packed, KEY)}


def key_file() -> dict[str, str]:
    """Return the content of the key file of all cameras."""
    return {f"bench-{number}": KEY.hex() for number in range(NUM_CAMERAS)}


def _with_pco(planes: Planes) -> Planes:
    depth = planes["depth"]
    picture = Picture(depth.codec, depth.data, depth.shape)
    return {**planes, "depth": pco(decode_planes({"depth": picture})["depth"], depth.unit_mm)}


def _raw(planes: Planes) -> Planes:
    pixels = decode_planes(
        {name: Picture(each.codec, each.data, each.shape) for name, each in planes.items()}
    )
    return {name: EncodedPlane("raw", each.tobytes(), each.shape) for name, each in pixels.items()}


_ENCODE: dict[Encoding, Callable[[Planes], Planes]] = {
    "jpeg + png": lambda planes: planes,
    "jpeg + pco": _with_pco,
    "raw": _raw,
}
