"""The fuzzer itself, for a moment: `make fuzz` does the same for longer."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from model.data.planes import Planes
from tests.fuzz import target as under_test
from tests.fuzz.run import fuzz_blindly
from tests.fuzz.seeds import good
from tests.fuzz.target import CAMERA, Finding, Target
from tests.hostile import hostile_jpegs, hostile_pcos, hostile_pngs
from workers.wire.frame import Codec, EncodedPlane, Frame, pack_frame


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    return Target(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_frames_are_refused_or_decoded(seed: int, tmp_path: Path) -> None:
    assert fuzz_blindly(1500, seed, tmp_path).startswith("1500 frames")


@pytest.mark.parametrize("codec", ["png", "jpeg", "pco"])
def test_what_is_hostile_costs_no_more_than_what_is_good(target: Target, codec: Codec) -> None:
    """The sizes that a stream entry can have, and beyond: a deployment may take larger ones."""
    pictures = {"png": hostile_pngs, "jpeg": hostile_jpegs, "pco": hostile_pcos}[codec]()
    shape = (1024, 1024) if codec == "pco" else None
    for _, data in pictures:
        for modality in ("rgb", "depth", "ir"):
            plane = EncodedPlane(codec, data, shape)
            target.run(pack_frame(Frame(CAMERA, 1, 1, {modality: plane})))


class TestFindings:
    """What the fuzzer looks for, it finds."""

    def test_good_frames_are_decoded(self, target: Target) -> None:
        before = target.num_passed
        for frame in good():
            target.run(frame)
        assert target.num_passed - before == len([*good()])

    def test_an_error_that_is_no_refusal(
        self, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> Planes:
            raise KeyError("rgb")

        monkeypatch.setattr(under_test, "decode", fail)
        with pytest.raises(KeyError):
            target.run(next(good()))

    def test_planes_that_the_network_does_not_take(
        self, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wrong(frame: Frame, *_: object) -> Planes:
            plane = np.zeros((7, 7), np.uint8)
            return Planes(**dict.fromkeys(frame.planes, plane))  # type: ignore[arg-type]

        monkeypatch.setattr(under_test, "decode", wrong)
        with pytest.raises(Finding, match="is \\(7, 7\\) uint8"):
            target.run(next(good()))

    @pytest.mark.parametrize(
        ("taken_s", "says"), [([0.002] * 9, "unsigned"), ([0.0, *[1e9] * 9], "a frame took")]
    )
    def test_what_is_slow_each_time(
        self,
        target: Target,
        monkeypatch: pytest.MonkeyPatch,
        taken_s: list[float],
        says: str,
    ) -> None:
        times: Iterator[float] = iter(taken_s)
        monkeypatch.setattr(under_test, "_cpu_s", lambda _: next(times))
        with pytest.raises(Finding, match=says):
            target.run(next(good()))

    def test_what_is_slow_once_is_none(
        self, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        times = iter([0.002, 0.0, 1e9, 1e9, 0.0])
        monkeypatch.setattr(under_test, "_cpu_s", lambda _: next(times))
        target.run(next(good()))

    def test_memory_that_grows(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = iter([100 << 20, 131 << 20, 133 << 20])
        monkeypatch.setattr(under_test, "_rss_bytes", lambda: next(sizes))
        target = Target(tmp_path)
        target.check_memory()
        target.check_memory()
        with pytest.raises(Finding, match="memory grew from 100 to 133 MiB"):
            target.check_memory()
