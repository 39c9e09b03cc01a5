"""What is fuzzed, and what must hold of it: from a stream entry to the network's planes.

- Nothing is raised but a refusal.
- What passes is what the network takes.
- Looking at unsigned bytes takes less than a millisecond.
- No frame takes twice as long as the largest good one, in CPU time, measured in the same process.
- Memory stays flat.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from model.data.planes import Planes
from model.data.quality import QualityLimits, faults, measure
from tests.workers.frames import KEY
from workers.client.camera import jpeg, png
from workers.replica.decode import decode
from workers.wire.frame import (
    EncodedPlane,
    Frame,
    pack_frame,
    peek_camera_id,
    take_fields,
    unpack_frame,
)
from workers.wire.keyring import Keyring, write_keys
from workers.wire.refusal import FrameRefused
from workers.wire.signing import sign

SIZE, MARGIN = 112, 0.13
CAMERA = "gate-1"
_MAX_UNSIGNED_S = 1e-3
_MAX_RATIO = 2.0
_TRIES = 5
_MAX_GROWTH_BYTES = 32 << 20
_DTYPES = {"rgb": np.uint8, "depth": np.uint16, "ir": np.uint8}


class Finding(AssertionError):
    """A frame did what no frame may do; the message says what."""


def good_frame(height: int, width: int, *flags: int, seed: int = 0) -> bytes:
    """Return a packed frame that is decoded: a face-like pattern with noise, in three planes.

    Args:
        height: of all planes, px.
        width: of all planes, px.
        flags: of OpenCV, for the JPEGs.
        seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    down, across = np.sin(np.arange(height) / 9)[:, None], np.cos(np.arange(width) / 7)[None]
    waves = 130 + 60 * down * across
    grey = (waves + rng.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)
    depth = (600 + waves / 4 + rng.normal(0, 2, waves.shape)).astype(np.uint16)
    colour = np.dstack([grey, np.roll(grey, 5, 1), np.roll(grey, 9, 0)])
    planes = {"rgb": jpeg(colour, 60), "depth": png(depth), "ir": jpeg(grey, 60)}
    if flags:
        _, data = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 60, *flags])
        planes["rgb"] = EncodedPlane("jpeg", data.tobytes())
    box = (width / 4, height / 4, width / 2, height / 2)
    return pack_frame(Frame(CAMERA, seed, 1_700_000_000_000, planes, "someone", box))


class Target:
    """Takes frames as a replica does, and measures what they cost."""

    def __init__(self, folder: Path) -> None:
        """Make keys in `folder`, and measure the largest good frame."""
        write_keys(folder / "keys.json", {CAMERA: KEY})
        self._keyring = Keyring(folder / "keys.json")
        self.largest = good_frame(
            1024,
            1024,
            cv2.IMWRITE_JPEG_PROGRESSIVE,
            1,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        )
        self._largest_s = min(_cpu_s(lambda: self._open(self.largest)) for _ in range(_TRIES))
        self.num_frames = self.num_passed = 0
        self.slowest_s = self.slowest_unsigned_s = 0.0
        self._rss_bytes = self.growth_bytes = 0

    def run(self, packed: bytes) -> None:
        """Take one frame, signed and unsigned.

        Raises:
            Finding: it broke a rule.
            Exception: whatever else is raised is a finding, too.
        """
        self.num_frames += 1
        self.slowest_unsigned_s = max(
            self.slowest_unsigned_s,
            _checked_s(lambda: _look(packed), _MAX_UNSIGNED_S, "unsigned bytes"),
        )
        limit_s = _MAX_RATIO * self._largest_s
        self.slowest_s = max(
            self.slowest_s, _checked_s(lambda: self._try(packed), limit_s, "a frame")
        )

    def check_memory(self) -> None:
        """Compare what the process holds with what it held at the first call.

        Not for code that atheris instruments: its hooks leak 170 bytes a frame.

        Raises:
            Finding: it grew.
        """
        now_bytes = _rss_bytes()
        self._rss_bytes = self._rss_bytes or now_bytes
        self.growth_bytes = now_bytes - self._rss_bytes
        if self.growth_bytes > _MAX_GROWTH_BYTES:
            raise Finding(f"memory grew from {self._rss_bytes >> 20} to {now_bytes >> 20} MiB")

    def report(self) -> str:
        """Return what was seen, in one line."""
        return (
            f"{self.num_frames} frames, {self.num_passed} decoded; the slowest took "
            f"{self.slowest_s / self._largest_s:.2f} of the largest good one's "
            f"{self._largest_s * 1e3:.0f} ms; unsigned {self.slowest_unsigned_s * 1e3:.2f} ms at "
            "most; "
            + (
                f"memory grew by {self.growth_bytes >> 20} MiB"
                if self._rss_bytes
                else "memory unseen"
            )
        )

    def _try(self, packed: bytes) -> None:
        with suppress(FrameRefused):
            self._open(packed)
            self.num_passed += 1

    def _open(self, packed: bytes) -> None:
        body, signature = take_fields({b"f": packed, b"s": sign(packed, KEY)}, 2 << 20)
        self._keyring.verify(peek_camera_id(body), body, signature)
        frame = unpack_frame(body)
        planes = decode(frame, SIZE, MARGIN, "millimetres")
        _check(frame, planes)
        faults(measure(planes, None), QualityLimits())


def _look(packed: bytes) -> None:
    """Do all that is done before the signature is checked."""
    with suppress(FrameRefused):
        body, _ = take_fields({b"f": packed, b"s": b""})
        peek_camera_id(body)


def _check(frame: Frame, planes: Planes) -> None:
    if set(planes.present) != set(frame.planes):
        raise Finding(f"of {sorted(frame.planes)} there are {planes.present}")
    for name in planes.present:
        plane = getattr(planes, name)
        shape = (SIZE, SIZE, 3) if name == "rgb" else (SIZE, SIZE)
        if plane.shape != shape or plane.dtype != _DTYPES[name]:
            raise Finding(f"{name} is {plane.shape} {plane.dtype}")
    if not all(np.isfinite(value) for value in measure(planes).values()):
        raise Finding("a figure of its quality is not a number")


def _checked_s(step: Callable[[], None], limit_s: float, what: str) -> float:
    """Return what a step takes; what was slow once, beside other load, may be quick later."""
    taken_s = _cpu_s(step)
    for _ in range(_TRIES):
        if taken_s <= limit_s:
            return taken_s
        taken_s = min(taken_s, _cpu_s(step))
    raise Finding(f"{what} took {taken_s * 1e3:.1f} ms, at most {limit_s * 1e3:.1f} are taken")


def _cpu_s(step: Callable[[], None]) -> float:
    started_s = time.thread_time()
    step()
    return time.thread_time() - started_s


def _rss_bytes() -> int:
    """Return what the process holds, without what the C library keeps for next time."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
