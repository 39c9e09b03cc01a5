"""The fuzzer itself, for a moment: `make fuzz` is the same for longer."""

from pathlib import Path

import pytest

from tests.fuzz.run import fuzz_blindly
from tests.fuzz.target import Finding, Target, good_frame


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames_are_refused_or_decoded(seed: int, tmp_path: Path) -> None:
    assert "decoded" in fuzz_blindly(1500, seed, tmp_path)
