"""Depth as a Pco stream: lossless, and whatever it claims it costs no more than a good one."""

import tracemalloc

import numpy as np
import pytest

from model.data.decoder import Picture, decode_planes
from model.data.planes import PlaneError
from tests.hostile import DEPTH, FACE, hostile_pcos, pco_of

PCOS = dict(hostile_pcos())


@pytest.mark.parametrize("name", PCOS)
def test_hostile_ones_are_refused(name: str) -> None:
    with pytest.raises(PlaneError, match=r"^depth "):
        decode_planes({"depth": Picture("pco", PCOS[name], FACE.shape)})


@pytest.mark.parametrize("level", [0, 4, 6, 8, 12])
def test_it_is_lossless(level: int) -> None:
    noise = np.random.default_rng(level).integers(0, 2**16, (40, 56)).astype(np.uint16)
    for pixels in (DEPTH, noise, np.zeros((1, 1), np.uint16)):
        picture = Picture("pco", pco_of(pixels, compression_level=level), pixels.shape)
        decoded = decode_planes({"depth": picture})["depth"]
        assert decoded.dtype == np.uint16
        assert np.array_equal(decoded, pixels)


def test_what_was_written_by_pcodec_1_1_is_read() -> None:
    """Cameras are updated later than replicas."""
    stream = bytes.fromhex(
        "70636f21030006100401073f00001061030000c10ff4018000d00f04f4014387d3300c00"
    )
    pixels = np.arange(500, 564, dtype=np.uint16).reshape(8, 8)
    pixels[0, 5] = 0
    decoded = decode_planes({"depth": Picture("pco", stream, (8, 8))})["depth"]
    assert np.array_equal(decoded, pixels)


def test_what_follows_its_end_is_no_part_of_it() -> None:
    picture = Picture("pco", pco_of(DEPTH) + bytes(100), DEPTH.shape)
    assert np.array_equal(decode_planes({"depth": picture})["depth"], DEPTH)


@pytest.mark.parametrize("modality", ["rgb", "ir"])
def test_it_is_for_depth_alone(modality: str) -> None:
    with pytest.raises(PlaneError, match=f"^{modality} can't be Pco"):
        decode_planes({modality: Picture("pco", pco_of(DEPTH), DEPTH.shape)})


@pytest.mark.parametrize("shape", [None, (48,), (48, 47), (48, 48, 3), (0, 48), (48, 0), (1, 1)])
def test_its_shape_must_be_its_own(shape: tuple[int, ...] | None) -> None:
    with pytest.raises(PlaneError, match=r"^depth "):
        decode_planes({"depth": Picture("pco", pco_of(DEPTH), shape)})


def test_a_claim_costs_nothing() -> None:
    """The stream says 2**24 numbers, the shape 2**20 and the rule at most 2**20."""
    bomb = pco_of(np.zeros(1 << 24, np.uint16))
    tracemalloc.start()
    with pytest.raises(PlaneError, match="another number of px"):
        decode_planes({"depth": Picture("pco", bomb, (1024, 1024))})
    with pytest.raises(PlaneError, match="at most"):
        decode_planes({"depth": Picture("pco", bomb, (4096, 4096))})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 4 << 20
