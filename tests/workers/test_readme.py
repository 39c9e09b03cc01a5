"""The byte-level example in workers/README.md is what the code makes."""

from pathlib import Path

from workers.wire import keys
from workers.wire.frame import EncodedPlane, Frame, pack_frame
from workers.wire.signing import sign

README = Path(__file__).parents[2] / "workers" / "README.md"


def test_the_example_is_true() -> None:
    plane = EncodedPlane("raw", bytes([0, 1, 2, 3]), (2, 2))
    packed = pack_frame(Frame("gate-1", 1, 1_700_000_000_000, {"ir": plane}))
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert packed.hex(" ") in text
    assert sign(packed, bytes(range(32))).hex(" ") in text
    assert keys.frames(keys.partition_of("gate-1", 4)) in text
