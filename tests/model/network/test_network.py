"""mmfCNN: its size, and that each modality and each row does only what it should."""

import pickle
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.data.tensors import PlaneTensors
from model.errors import SettingError
from model.network.blocks import count_parameters
from model.network.config import NetworkConfig
from model.network.mmfcnn import MmfCNN, Output
from tests.bundles import random_planes, stored

FIVE = ("rgb", "depth", "ir", "hsv", "ycbcr")
THREE = ("rgb", "depth", "ir")


def small(**changes: Any) -> MmfCNN:
    torch.manual_seed(0)
    config = NetworkConfig(**{"depth": 18, "width": 0.125, "size": 64, **changes})
    return MmfCNN(config).eval()


def run(network: MmfCNN, planes: PlaneTensors) -> Output:
    with torch.inference_mode():
        output: Output = network(planes)
    return output


class TestSize:
    """Source of the figures: the table of variants at 112 x 112, parameters in millions."""

    @pytest.mark.parametrize(
        ("views", "depth", "millions"), [(FIVE, 34, 64.8), (THREE, 34, 45.3), (THREE, 18, 24.4)]
    )
    def test_parameters(self, views: tuple[str, ...], depth: int, millions: float) -> None:
        with torch.device("meta"):
            network = MmfCNN(NetworkConfig(views=views, depth=depth, gate="released"))
        assert count_parameters(network) / 1e6 == pytest.approx(millions, abs=0.06)

    def test_work_of_the_default(self) -> None:
        network = MmfCNN(NetworkConfig()).eval()
        planes = stored(random_planes(1, size=112))
        with FlopCounterMode(display=False) as counter:
            run(network, planes)
        assert counter.get_total_flops() / 2e9 == pytest.approx(2.54, rel=0.05)


@pytest.mark.parametrize("gate", ["paper", "released"])
class TestForward:
    def test_shapes(self, gate: str) -> None:
        network = small(gate=gate)
        output = run(network, stored(random_planes(3)))
        assert output.logits.shape == (3, 2)
        assert output.feature.shape == (3, network.config.channels[3])
        assert output.shares.shape == (3, 3)
        assert torch.allclose(output.shares.sum(1), torch.ones(3))
        assert (output.shares >= 0).all()

    def test_a_row_does_not_depend_on_the_others(self, gate: str) -> None:
        network, planes = small(gate=gate), stored(random_planes(5))
        together = run(network, planes)
        for row in range(5):
            alone = run(network, PlaneTensors(*(plane[row : row + 1] for plane in planes)))
            assert torch.allclose(alone.logits, together.logits[row : row + 1], atol=1e-4)
            assert torch.allclose(alone.shares, together.shares[row : row + 1], atol=1e-4)

    @pytest.mark.parametrize("column", range(3))
    def test_what_a_missing_modality_shows_changes_nothing(self, gate: str, column: int) -> None:
        network, first, second = small(gate=gate), random_planes(2, 1), random_planes(2, 2)
        for planes in (first, second):
            planes.present[:, column] = False
        mixed = [plane.copy() for plane in (first.rgb, first.depth, first.ir)]
        mixed[column] = (second.rgb, second.depth, second.ir)[column]
        before = run(network, stored(first))
        after = run(
            network, PlaneTensors(*map(torch.from_numpy, mixed), torch.from_numpy(first.present))
        )
        assert torch.equal(before.logits, after.logits)
        assert torch.equal(before.shares, after.shares)
        assert (after.shares[:, column] == 0).all()
        assert torch.allclose(after.shares.sum(1), torch.ones(2))

    @pytest.mark.parametrize("column", range(3))
    def test_what_a_present_modality_shows_counts(self, gate: str, column: int) -> None:
        network, first, second = small(gate=gate), random_planes(2, 1), random_planes(2, 2)
        mixed = [first.rgb, first.depth, first.ir]
        mixed[column] = (second.rgb, second.depth, second.ir)[column]
        before = run(network, stored(first))
        after = run(
            network, PlaneTensors(*map(torch.from_numpy, mixed), torch.from_numpy(first.present))
        )
        assert not torch.equal(before.feature, after.feature)

    def test_folding_changes_nothing(self, gate: str) -> None:
        network, planes = small(gate=gate), stored(random_planes(3))
        network.train()
        network(planes)  # gives batch normalisation something to fold
        before = run(network.eval(), planes)
        after = run(network.fold(), planes)
        assert torch.allclose(before.logits, after.logits, atol=1e-4)


def test_the_authors_five_views() -> None:
    output = run(small(views=FIVE), stored(random_planes(2)))
    assert output.shares.shape == (2, 3)
    assert torch.allclose(output.shares.sum(1), torch.ones(2))


@pytest.mark.parametrize(
    "fields",
    [
        {"views": ()},
        {"views": ("rgb", "rgb")},
        {"views": ("thermal",)},
        {"depth": 50},
        {"width": 0},
        {"gate": "open"},
        {"depth_mode": "mm"},
        {"size": 8},
        {"size": 64.0},
        {"size": True},
        {"depth": 18.0},
        {"width": float("nan")},
        {"width": 10**400},
        {"views": "rgb"},
        {"views": ([],)},
        {"gate": None},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_shape_that_can_not_be_built_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(fields))) as raised:
        NetworkConfig(**fields)
    assert raised.value.field in fields
    # An error of a worker process arrives as it was raised.
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301


@pytest.mark.parametrize("fields", [{}, {"layers": 18}, {"size": None}], ids=str)
def test_a_description_is_complete(fields: dict[str, Any]) -> None:
    described = NetworkConfig().to_dict()
    del described["size"]
    with pytest.raises(SettingError):
        NetworkConfig.from_dict({**described, **fields})


def test_a_config_survives_json() -> None:
    config = NetworkConfig(views=FIVE, depth=18, width=0.5, gate="released", depth_mode="casia8")
    assert NetworkConfig.from_dict(config.to_dict()) == config
