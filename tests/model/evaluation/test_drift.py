"""Drift of a site's figures, against samples of known distributions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.data.dataset import Dataset, load_dataset
from model.evaluation.calibration import calibrate
from model.evaluation.drift import LIMIT, DriftError, drift, moved, reference_of
from model.serving.bundle import Bundle, load_bundle, save_bundle
from tests.model.pictures import learned_bundle, training_config, write_set

RNG = np.random.default_rng(0)
KEPT = reference_of({"figure": RNG.normal(0, 1, 1000)})["figure"]


@pytest.mark.parametrize(("shift", "is_alarming"), [(0.0, False), (0.1, False), (1.0, True)])
def test_what_has_moved_is_told(shift: float, is_alarming: bool) -> None:
    found = moved(KEPT, RNG.normal(shift, 1, 500))
    assert found.is_alarming == is_alarming
    assert found.now - found.before == pytest.approx(shift, abs=0.2)


def test_chance_alone_is_no_drift() -> None:
    indices = [moved(KEPT, RNG.normal(0, 1, 100)).index for _ in range(200)]
    assert np.mean(indices) < 0.1 * LIMIT
    assert max(indices) < LIMIT


def test_equal_values_are_no_drift() -> None:
    kept = reference_of({"figure": np.repeat([0.0, 1.0], [900, 100])})["figure"]
    assert moved(kept, np.repeat([0.0, 1.0], [90, 10])).index == pytest.approx(0, abs=0.05)
    assert moved(kept, np.repeat([0.0, 1.0], [10, 90])).is_alarming


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Dataset]:
    config = training_config(tmp_path_factory.mktemp("set"))
    folder: Path = config.train.parent
    dataset = load_dataset(write_set(folder, "site", 240, 5), 112)
    bundle = calibrate(learned_bundle(config), dataset, "apcer", 0.15)
    return load_bundle(save_bundle(bundle, folder / "site")), dataset


class TestOfABundle:
    def test_the_same_frames_have_not_moved(self, made: tuple[Bundle, Dataset]) -> None:
        bundle, dataset = made
        people = dataset.taken(np.flatnonzero(dataset.label == 1))
        found = drift(bundle, people)
        assert {"log_odds", "rgb_brightness", "depth_holes"} <= found.keys()
        assert max(each.index for each in found.values()) == pytest.approx(0, abs=1e-3)

    def test_a_brighter_lamp_shows(self, made: tuple[Bundle, Dataset]) -> None:
        bundle, dataset = made
        people = dataset.taken(np.flatnonzero(dataset.label == 1))
        people.planes.ir[:] = np.clip(people.planes.ir.astype(int) + 30, 0, 255)
        found = drift(bundle, people)
        assert found["ir_brightness"].is_alarming
        assert not found["rgb_brightness"].is_alarming

    def test_what_can_not_be_told_is_refused(self, made: tuple[Bundle, Dataset]) -> None:
        bundle, dataset = made
        with pytest.raises(DriftError, match="it takes 100"):
            drift(bundle, dataset.thinned(10))
        with pytest.raises(DriftError, match="calibrate it first"):
            drift(replace(bundle, about={}), dataset)
