"""The networks that mmfCNN is compared with, and what all networks here promise."""

from typing import Any

import numpy as np
import pytest
import torch

from model.data.tensors import PlaneTensors
from model.network.blocks import count_parameters
from model.network.config import FUSIONS, Fusion, NetworkConfig
from model.network.mmfcnn import FusionNetwork, MmfCNN, Output
from model.network.peers import build_network
from tests.bundles import random_planes, stored


def small(fusion: Fusion, **changes: Any) -> FusionNetwork:
    torch.manual_seed(0)
    fields = {"depth": 18, "width": 0.125, "size": 64, "fusion": fusion, **changes}
    return build_network(NetworkConfig(**fields)).eval()


def run(network: FusionNetwork, planes: PlaneTensors) -> Output:
    with torch.inference_mode():
        output: Output = network(planes)
        return output


def test_feathernet_is_as_small_as_published() -> None:
    network = build_network(NetworkConfig(fusion="feather"))
    assert count_parameters(network) / 1e6 == pytest.approx(0.35, abs=0.03)


def test_one_level_has_less_than_three() -> None:
    sizes = [count_parameters(small(fusion)) for fusion in ("one", "multi")]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("fusion", FUSIONS)
class TestNetworks:
    def test_shapes(self, fusion: Fusion) -> None:
        network = small(fusion)
        output = run(network, stored(random_planes(3)))
        assert output.logits.shape == (3, 2)
        assert output.feature.shape == (3, network.num_features)
        assert torch.allclose(output.shares.sum(1), torch.ones(3))

    def test_a_row_does_not_depend_on_the_others(self, fusion: Fusion) -> None:
        network, planes = small(fusion), stored(random_planes(4))
        together = run(network, planes).logits
        alone = run(network, PlaneTensors(*(plane[2:3] for plane in planes))).logits
        assert torch.allclose(alone, together[2:3], atol=1e-4)

    def test_what_a_missing_modality_shows_changes_nothing(self, fusion: Fusion) -> None:
        network, first, second = small(fusion), random_planes(2, 1), random_planes(2, 2)
        first.present[:, 2] = False
        other = stored(first)._replace(ir=torch.from_numpy(second.ir))
        assert torch.equal(run(network, stored(first)).logits, run(network, other).logits)
        assert (run(network, other).shares[:, 2] == 0).all()

    def test_folding_changes_nothing(self, fusion: Fusion) -> None:
        network, planes = small(fusion), stored(random_planes(3))
        network.train()(planes)
        before = run(network.eval(), planes).logits
        assert torch.allclose(run(network.fold(), planes).logits, before, atol=1e-4)

    def test_one_modality_alone(self, fusion: Fusion) -> None:
        network = small(fusion, views=("ir",))
        first, second = random_planes(2, 1), random_planes(2, 2)
        other = stored(first)._replace(
            rgb=torch.from_numpy(second.rgb), depth=torch.from_numpy(second.depth)
        )
        assert torch.equal(run(network, stored(first)).logits, run(network, other).logits)
        assert run(network, other).shares.tolist() == [[0, 0, 1]] * 2


def test_dead_gates_are_counted() -> None:
    network = small("multi", gate="released")
    assert isinstance(network, MmfCNN)
    planes = stored(random_planes(4))
    some = network.dead_gates(planes)
    # A released gate is a ReLU of a few weights drawn around zero: about half start closed.
    assert len(some) == 3
    assert all(0.1 < part < 0.9 for part in some)
    for fusion in network.fusions:
        torch.nn.init.constant_(fusion.weigh.weight, -1.0)  # type: ignore[union-attr, arg-type]
    assert network.dead_gates(planes) == [1, 1, 1]


def test_an_open_gate_is_not_dead() -> None:
    network = small("multi", gate="paper")
    assert isinstance(network, MmfCNN)
    assert np.mean(network.dead_gates(stored(random_planes(4)))) < 0.2
