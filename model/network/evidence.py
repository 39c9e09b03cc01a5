"""Additive evidence: a network for each modality, one for each pair, and a score that is their sum.

Each modality's network says how much its plane speaks for a person who is there; each pair's says
whether two planes show the same. All are log odds. A missing modality takes its own and its pairs'
away, and nothing else changes: the sum explains the score exactly.

What says that two planes are of one scene is local and early: edges lie at the same places, though
they differ in sign and strength. So a pair compares maps at half the input's resolution, with their
mean and contrast of each patch taken out: what is left of two maps' product is a correlation, in
[-1, 1]. Source: Lewis, Fast Normalized Cross-Correlation, Vision Interface 1995.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.planes import SUBSETS
from model.data.tensors import PlaneTensors
from model.network.blocks import ConvNorm, initialise, stage
from model.network.config import BLOCKS, CHANNELS, PLANE_OF, NetworkConfig
from model.network.mmfcnn import Branch, FusionNetwork, Output, selecting

# Channels of the maps that pairs compare, and px of them that a patch is wide.
_COMPARED, _PATCH = 8, 8
# Variance of a map below which a patch shows nothing.
_NO_CONTRAST = 1e-3


class AdditiveEvidence(FusionNetwork):
    """A ResNet per view and a comparison per pair of views, whose log odds are summed."""

    is_additive = True

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with newly initialised weights."""
        super().__init__(config)
        self.pairs = (
            tuple((one, other) for other in range(len(config.views)) for one in range(other))
            if config.fusion != "heads"
            else ()
        )
        self.alone = nn.ModuleList(_Alone(CHANNELS[view], config) for view in config.views)
        compare = _Stacked if config.fusion == "stacked" else _Correlated
        self.local = nn.ModuleList(_Local(CHANNELS[view]) for view in config.views if self.pairs)
        self.together = nn.ModuleList(compare() for _ in self.pairs)
        self.apply(initialise)

    @property
    def num_features(self) -> int:
        """See `FusionNetwork.num_features`."""
        return self.config.channels[3] * len(self.config.views)

    def forward(self, stored: PlaneTensors) -> Output:
        """See `FusionNetwork.forward`."""
        is_present = self.is_present(stored)
        views = self.normalise(stored)
        features, alone = [], []
        for i, view in enumerate(views):
            feature, odds = self.alone[i](view, is_present[:, i])
            features.append(feature)
            alone.append(odds)
        local = [each(view) for each, view in zip(self.local, views, strict=False)]
        together = []
        for (one, other), compare in zip(self.pairs, self.together, strict=True):
            odds = compare(local[one], local[other])
            both = is_present[:, one] & is_present[:, other]
            together.append(torch.where(both, odds, odds.new_zeros(())))
        evidence = torch.stack([*alone, *together], 1)
        total = evidence.sum(1)
        logits = torch.stack([-total / 2, total / 2], 1)
        shares = self.shares([is_present.float()], is_present)
        return Output(logits, torch.cat(features, 1).float(), shares, self.by_subset(evidence))

    def by_subset(self, evidence: Tensor) -> Tensor:
        """Return log odds by the set of modalities that they rest on, see `Output.evidence`."""
        bit = [1 << PLANE_OF[view] for view in self.config.views]
        rests_on = [*bit, *(bit[one] | bit[other] for one, other in self.pairs)]
        columns = [bits - 1 for bits in rests_on]
        return evidence @ selecting(columns, len(SUBSETS), evidence)


class _Alone(nn.Module):
    """The network of one view: a ResNet with squeeze-and-excitation, and its log odds."""

    def __init__(self, inputs: int, config: NetworkConfig) -> None:
        super().__init__()
        channels, blocks = config.channels, BLOCKS[config.depth]
        self.branch = Branch(inputs, channels, blocks)
        self.top = stage(channels[2], channels[3], blocks[3], stride=2)
        self.head = nn.Linear(channels[3], 1)

    def forward(self, view: Tensor, is_present: Tensor) -> tuple[Tensor, Tensor]:
        """Return feature (B, F) and log odds (B,), both 0 in rows that lack this view."""
        feature = self.top(self.branch(view, is_present)[-1]).mean((2, 3)).float()
        feature = torch.where(is_present[:, None], feature, feature.new_zeros(()))
        odds = self.head(feature)[:, 0].float()
        return feature, torch.where(is_present, odds, odds.new_zeros(()))


class _Maps(NamedTuple):
    """What a view looks like at each place.

    Attributes:
        local: (B, C, S / 2, S / 2) float32.
        mean: of `local` over patches, (B, C, P, P).
        variance: of `local` over patches, (B, C, P, P).
    """

    local: Tensor
    mean: Tensor
    variance: Tensor


class _Local(nn.Module):
    """Maps of a view at half its resolution."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, _COMPARED, 5, 2)
        self.second = nn.Conv2d(_COMPARED, _COMPARED, 3, 1, 1)

    def forward(self, view: Tensor) -> _Maps:
        """Return the maps of a view, (B, C, S, S)."""
        local = self.second(functional.relu(self.first(view))).float()
        mean = _over_patches(local)
        return _Maps(local, mean, _over_patches(local * local) - mean * mean)


class _Correlated(nn.Module):
    """Compares two views by the correlation of their local maps, patch by patch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNorm(3 * _COMPARED, 24, 3)
        self.second = ConvNorm(24, 32, 3, 2)
        self.head = nn.Linear(32, 1)

    def forward(self, one: _Maps, other: _Maps) -> Tensor:
        """Return the log odds that both are of one presentation, (B,)."""
        together = _over_patches(one.local * other.local) - one.mean * other.mean
        spread = [each.variance.clamp_min(0) + _NO_CONTRAST for each in (one, other)]
        correlation = together * (spread[0] * spread[1]).rsqrt()
        x = torch.cat([correlation, spread[0].log(), spread[1].log()], 1)
        odds: Tensor = self.head(
            functional.relu(self.second(functional.relu(self.first(x)))).mean((2, 3))
        )
        return odds[:, 0].float()


class _Stacked(nn.Module):
    """Compares two views by convolutions of their local maps, stacked: the means without hints."""

    def __init__(self) -> None:
        super().__init__()
        self.first = ConvNorm(2 * _COMPARED, 24, 3, 2)
        self.second = ConvNorm(24, 24, 3, 2)
        self.third = ConvNorm(24, 32, 3, 2)
        self.head = nn.Linear(32, 1)

    def forward(self, one: _Maps, other: _Maps) -> Tensor:
        """See `_Correlated.forward`."""
        x = functional.relu(self.first(torch.cat([one.local, other.local], 1)))
        x = functional.relu(self.third(functional.relu(self.second(x))))
        odds: Tensor = self.head(x.mean((2, 3)))
        return odds[:, 0].float()


def _over_patches(maps: Tensor) -> Tensor:
    """Return means over patches, which overlap by half."""
    return functional.avg_pool2d(functional.avg_pool2d(maps, _PATCH // 2), 2, 1)
