"""Data as torch takes it: a batch of planes, still with the values the sensors gave."""

from typing import NamedTuple

import torch
from torch import Tensor

from model.data.planes import PlaneBatch


class PlaneTensors(NamedTuple):
    """A batch as it comes from `model.data.planes.collate`, as tensors.

    Attributes:
        rgb: (B, S, S, 3) uint8.
        depth: (B, S, S) uint16.
        ir: (B, S, S) uint8.
        present: (B, 3) bool.
    """

    rgb: Tensor
    depth: Tensor
    ir: Tensor
    present: Tensor

    def to(self, device: torch.device) -> "PlaneTensors":
        """Return the batch on another device."""
        return PlaneTensors(*(tensor.to(device) for tensor in self))


def tensors(batch: PlaneBatch) -> PlaneTensors:
    """Return a batch as tensors, which share its memory."""
    return PlaneTensors(
        torch.from_numpy(batch.rgb),
        torch.from_numpy(batch.depth),
        torch.from_numpy(batch.ir),
        torch.from_numpy(batch.present),
    )
