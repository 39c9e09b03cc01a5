"""Scores of a data set: for each set of modalities, and by other face boxes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.data.dataset import Dataset, load_dataset
from model.data.planes import SUBSETS
from model.evaluation.scoring import (
    Jitter,
    evidence,
    from_log_odds,
    log_odds,
    score,
    score_all_sets,
)
from model.network.config import FUSIONS, Fusion, NetworkConfig
from model.network.peers import build_network
from tests.model.pictures import write_set


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("set")
    return load_dataset(write_set(folder, "some", 10, 4), 64)


@pytest.mark.parametrize("fusion", [each for each in FUSIONS if each != "feather"])
def test_one_run_tells_what_a_run_for_each_set_tells(dataset: Dataset, fusion: Fusion) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(depth=18, width=0.125, size=64, fusion=fusion))
    done: list[float] = []
    together = score_all_sets(network, dataset, done.append)
    assert sum(done) == pytest.approx(7)
    for names in SUBSETS:
        alone = score(network, dataset, names)
        assert together["+".join(names)] == pytest.approx(alone, abs=1e-5)
        assert ((alone > 0) & (alone < 1)).all()


def test_another_box_is_another_score_and_the_same_every_time(dataset: Dataset) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkConfig(depth=18, width=0.125, size=64, fusion="evidence"))
    names = ("rgb", "depth", "ir")
    still = evidence(network, dataset, names)
    assert np.array_equal(evidence(network, dataset, names, jitter=Jitter()), still)
    once, again, other = (
        evidence(network, dataset, names, jitter=Jitter(0.1, 0.1, seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(once, again)
    assert not np.allclose(once, still)
    assert not np.allclose(once, other)


def test_log_odds_of_scores() -> None:
    odds = np.array([-800.0, -3.0, 0.0, 5.0, 800.0])
    scores = from_log_odds(odds)
    assert scores.tolist()[0::2] == pytest.approx([0.0, 0.5, 1.0])
    assert log_odds(scores)[1:4] == pytest.approx(odds[1:4])
    assert np.isfinite(log_odds(scores)).all()
