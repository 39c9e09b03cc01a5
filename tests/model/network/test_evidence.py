"""Additive evidence: each modality and each pair says its own, and the sum is the score."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.data.planes import MODALITIES, SUBSETS
from model.data.tensors import PlaneTensors
from model.network.config import ADDITIVE, Fusion, NetworkConfig
from model.network.evidence import AdditiveEvidence
from model.network.mmfcnn import BONA_FIDE, Output
from model.network.peers import build_network
from model.training.loss import evidence_loss
from tests.bundles import random_planes, stored


def network(fusion: Fusion = "evidence") -> AdditiveEvidence:
    torch.manual_seed(0)
    made = build_network(NetworkConfig(depth=18, width=0.125, size=64, fusion=fusion))
    assert isinstance(made, AdditiveEvidence)
    return made.eval()


def run(made: AdditiveEvidence, present: torch.Tensor | None = None) -> Output:
    planes = stored(random_planes(4))
    with torch.inference_mode():
        output: Output = made(planes if present is None else planes._replace(present=present))
    return output


@pytest.mark.parametrize("fusion", ADDITIVE)
def test_the_sum_is_the_score(fusion: Fusion) -> None:
    output = run(network(fusion))
    assert output.evidence.shape == (4, 7)
    odds = output.logits.softmax(1)[:, BONA_FIDE].logit()
    assert torch.allclose(output.evidence.sum(1), odds, atol=1e-3)
    has_pairs = (output.evidence[:, [2, 4, 5]] != 0).all()
    assert bool(has_pairs) == (fusion != "heads")
    assert (output.evidence[:, 6] == 0).all()


@pytest.mark.parametrize("lost", range(3))
def test_a_lost_modality_takes_its_own_away_and_nothing_else(lost: int) -> None:
    made = network()
    present = torch.ones((4, 3), dtype=torch.bool)
    present[:, lost] = False
    whole, rest = run(made).evidence, run(made, present).evidence
    for at, names in enumerate(SUBSETS):
        if MODALITIES[lost] in names:
            assert (rest[:, at] == 0).all()
        else:
            assert torch.allclose(rest[:, at], whole[:, at], atol=1e-5)


def test_what_a_lost_plane_holds_does_not_matter() -> None:
    made, present = network(), torch.tensor([[True, False, True]] * 4)
    planes = stored(random_planes(4))._replace(present=present)
    other = planes._replace(depth=torch.zeros_like(planes.depth))
    with torch.inference_mode():
        assert torch.equal(made(planes).evidence, made(other).evidence)


def test_folding_changes_nothing() -> None:
    made = network()
    before = run(made).evidence
    made.fold()
    assert torch.allclose(run(made).evidence, before, atol=1e-3)


def test_the_pairs_are_the_smaller_part() -> None:
    made = build_network(NetworkConfig(depth=18, width=0.25, size=112, fusion="evidence"))
    heads = build_network(NetworkConfig(depth=18, width=0.25, size=112, fusion="heads"))
    flops = []
    for each in (made, heads):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            each.eval()(stored(random_planes(1, size=112)))
        flops.append(counter.get_total_flops())
    assert flops[0] - flops[1] < 0.3 * flops[0]


def test_each_is_taught_by_its_own_label() -> None:
    evidence = torch.zeros((2, 7), requires_grad=True)
    present = torch.tensor([[True, True, True], [True, True, False]])
    planes = torch.tensor([[1, 1, 1], [0, 0, 0]])
    pairs = torch.tensor([[0, 0, 1], [-1, -1, -1]])
    loss = evidence_loss(evidence, present, planes, pairs, matching=1.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert evidence.grad is not None
    direction = evidence.grad.sign().tolist()
    # Columns: rgb, depth, rgb+depth, ir, rgb+ir, depth+ir, all. Down the gradient is the label.
    assert direction[0] == [-1, -1, 1, -1, 1, -1, 0]
    assert direction[1] == [1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("fusion", ["evidence", "multi"])
def test_the_graph_can_be_exported_for_any_batch(fusion: Fusion) -> None:
    """Other runtimes take the graph with its preprocessing, and batches of any size."""
    config = NetworkConfig(depth=18, width=0.125, size=64, fusion=fusion)
    made = build_network(config).eval()

    class Served(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = made

        def forward(
            self,
            rgb: torch.Tensor,
            depth: torch.Tensor,
            ir: torch.Tensor,
            present: torch.Tensor,
        ) -> torch.Tensor:
            evidence: torch.Tensor = self.network(PlaneTensors(rgb, depth, ir, present)).evidence
            return evidence

    rows = torch.export.Dim("rows", min=1, max=64)
    inputs = stored(random_planes(2))
    graph = torch.export.export(Served(), tuple(inputs), dynamic_shapes=({0: rows},) * 4)
    other = stored(random_planes(5, seed=1))
    other.present[0, 0] = other.present[1, 1:] = False
    with torch.inference_mode():
        expected = made(other).evidence
        assert torch.allclose(graph.module()(*other), expected, atol=1e-4)
