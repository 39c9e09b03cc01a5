"""The Average Binary Center loss, by hand."""

import math

import pytest
import torch
from torch.nn import functional

from model.training.loss import AverageBinaryCenterLoss

LOGITS = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
FEATURE = torch.tensor([[1.0, 2.0], [3.0, 0.0], [1.0, 0.0]])
LABEL = torch.tensor([0, 1, 0])
CROSS_ENTROPY = functional.cross_entropy(LOGITS, LABEL)


def loss_of(form: str) -> AverageBinaryCenterLoss:
    return AverageBinaryCenterLoss(form, 2)  # type: ignore[arg-type]


def test_none_is_cross_entropy() -> None:
    assert loss_of("none")(LOGITS, FEATURE, LABEL) == CROSS_ENTROPY


def test_batch_pushes_the_means_apart() -> None:
    # Means: bona fide (3, 0), attack (1, 1); MSE = (4 + 1) / 2.
    expected = float(CROSS_ENTROPY) + 0.1 * math.exp(-1e-3 * 2.5)
    assert float(loss_of("batch")(LOGITS, FEATURE, LABEL)) == pytest.approx(expected)


def test_batch_with_one_class_is_cross_entropy() -> None:
    label = torch.zeros(3, dtype=torch.int64)
    assert loss_of("batch")(LOGITS, FEATURE, label) == functional.cross_entropy(LOGITS, label)


def test_centre_pulls_to_the_class_and_pushes_the_centres() -> None:
    loss = loss_of("centre")
    with torch.no_grad():
        loss.centres.copy_(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
    # Squared distances 4, 16, 0; centres' MSE = (4 + 16) / 2.
    expected = float(CROSS_ENTROPY) + 1e-3 * 20 / 3 + 1e-3 * math.exp(-1e-5 * 10)
    assert float(loss(LOGITS, FEATURE, LABEL).detach()) == pytest.approx(expected)


def test_there_is_no_other_form() -> None:
    with pytest.raises(ValueError, match="form"):
        loss_of("margin")


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_factor_of_the_push_can_be_set(scale: float) -> None:
    loss = AverageBinaryCenterLoss("batch", 2, scale)
    expected = float(CROSS_ENTROPY) + 0.1 * math.exp(-scale * 2.5)
    assert float(loss(LOGITS, FEATURE, LABEL)) == pytest.approx(expected)


def test_on_record_the_push_is_next_to_nothing() -> None:
    """Source: the factor of the authors' release; at 1 it is a part that counts."""
    shares = []
    for scale in (None, 1.0):
        feature = FEATURE.clone().requires_grad_()
        logits = LOGITS + feature @ torch.eye(2)
        loss = AverageBinaryCenterLoss("batch", 2, scale)
        push = loss(logits, feature, LABEL) - functional.cross_entropy(logits, LABEL)
        (pushed,) = torch.autograd.grad(push, feature, retain_graph=True)
        (entropy,) = torch.autograd.grad(functional.cross_entropy(logits, LABEL), feature)
        shares.append(float(pushed.norm() / entropy.norm()))
    assert shares[0] < 0.01
    assert shares[1] > 10 * shares[0]
