"""mmfCNN: a ResNet branch per view, fused at three levels with modality weights.

Source: Kuang et al., Multi-modal Multi-layer Fusion Network with Average Binary Center Loss for
Face Anti-spoofing, ACM MM 2019, doi 10.1145/3343031.3351001, and facts of its authors' release.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.planes import MODALITIES, SUBSETS
from model.data.tensors import PlaneTensors
from model.network.blocks import ConvNorm, SqueezeExcite, initialise, stage
from model.network.config import BLOCKS, CHANNELS, PLANE_OF, Gate, NetworkConfig
from model.network.normalise import Normalise

# Columns of the logits, and the labels everywhere in this project.
ATTACK, BONA_FIDE = 0, 1
# Length of the gate's descriptor of one map.
_DESCRIPTORS = {"released": 16, "paper": 1}


class Output(NamedTuple):
    """Output of a network for a batch.

    Attributes:
        logits: (B, 2) float32, columns ATTACK and BONA_FIDE.
        feature: (B, F) float32, the input of the Average Binary Center loss.
        shares: (B, 3) float32 in [0, 1], weight of each of `model.data.planes.MODALITIES`; rows
            sum to 1.
        evidence: (B, 7) float32, log odds of bona fide by what they rest on, in the order of
            `model.data.planes.SUBSETS`; rows sum to the log odds of the score. Where a network does
            not tell, all of it is with the set of what is present.
    """

    logits: Tensor
    feature: Tensor
    shares: Tensor
    evidence: Tensor


class FusionNetwork(nn.Module):
    """Base of all networks: their shape, their normalisation, and how to run them.

    Attributes:
        is_additive: whether a missing modality takes its own evidence away, and nothing else.
    """

    is_additive = False

    def __init__(self, config: NetworkConfig) -> None:
        """Keep the shape; subclasses add the layers."""
        super().__init__()
        self.config = config
        self.normalise = Normalise(config.views, config.depth_mode)

    def forward(self, stored: PlaneTensors) -> Output:
        """Run a batch.

        Args:
            stored: planes of `config.size` px; each row has at least one modality.
        """
        raise NotImplementedError

    def fold(self) -> "FusionNetwork":
        """Merge batch normalisations into their convolutions, in place; for inference only."""
        self.eval()
        for module in list(self.modules()):
            if isinstance(module, ConvNorm):
                module.fold()
        return self

    @property
    def num_features(self) -> int:
        """Length of `Output.feature`."""
        return self.config.channels[3]

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return next(self.parameters()).device

    def is_present(self, stored: PlaneTensors) -> Tensor:
        """Return which views are present in each row, (B, views) bool."""
        return stored.present[:, [PLANE_OF[view] for view in self.config.views]]

    def whole(self, logits: Tensor, stored: PlaneTensors) -> Tensor:
        """Return `Output.evidence` of a network that does not tell what its score rests on."""
        bits = torch.tensor([1 << at for at in range(len(MODALITIES))], device=logits.device)
        which = (stored.present.long() * bits).sum(1, keepdim=True) - 1
        is_it = which == torch.arange(len(SUBSETS), device=logits.device)
        odds = (logits[:, BONA_FIDE] - logits[:, ATTACK]).float()
        return torch.where(is_it, odds[:, None], odds.new_zeros(()))

    def shares(self, levels: list[Tensor], is_present: Tensor) -> Tensor:
        """Return each modality's share, (B, 3): the mean over levels, among what is present.

        Args:
            levels: (B, views) float each, >= 0.
            is_present: (B, views) bool.
        """
        present = is_present.float()
        # A gate that is closed weighs nothing: then all present views count the same.
        even = present / present.sum(1, keepdim=True).clamp_min(1)
        mean = torch.zeros_like(present)
        for level in levels:
            known = level.float() * present
            sums = known.sum(1, keepdim=True)
            share = torch.where(sums > 0, known / sums.clamp_min(1e-12), even)
            mean = mean + share / len(levels)
        return mean @ selecting(
            [PLANE_OF[view] for view in self.config.views], len(MODALITIES), mean
        )


def selecting(columns: Sequence[int], count: int, like: Tensor) -> Tensor:
    """Return the matrix that adds each row's values to columns, (values, count) float32.

    A constant in an exported graph, unlike `index_add`, which there takes a fixed batch.

    Args:
        columns: of each value.
        count: number of columns.
        like: on whose device it is.
    """
    return torch.tensor(
        [[float(column == at) for at in range(count)] for column in columns], device=like.device
    )


class Branch(nn.Module):
    """A view's ResNet up to its third stage.

    The output of each stage's squeeze-and-excitation feeds the next stage as well as the fusion.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        """Build stem and three stages."""
        super().__init__()
        self.stem = ConvNorm(inputs, channels[0], 7, 2)
        before = (channels[0], *channels[:2])
        self.stages = nn.ModuleList(
            nn.Sequential(
                stage(before[i], channels[i], blocks[i], stride=1 if i == 0 else 2),
                SqueezeExcite(channels[i]),
            )
            for i in range(3)
        )

    def forward(self, x: Tensor, is_present: Tensor) -> list[Tensor]:
        """Return the maps of the three stages; all zero in rows that lack this view.

        Args:
            x: (B, C, S, S) float, the view.
            is_present: (B,) bool.
        """
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2, 1)
        maps = []
        for each in self.stages:
            # Biases would make the map of a missing view something else than zero. `where`, unlike
            # a product, gives zero even if the map holds NaN.
            x = torch.where(is_present[:, None, None, None], each(x), x.new_zeros(()))
            maps.append(x)
        return maps


class _Fusion(nn.Module):
    """A fusion level: all maps convolved together, times a gate computed from each map."""

    def __init__(self, num_views: int, inputs: int, outputs: int, gate: Gate, first: bool) -> None:
        super().__init__()
        self.gate: Gate = gate
        self.num_views = num_views
        num_maps = num_views + (not first)
        self.mix = ConvNorm(inputs * num_maps, outputs, 3, 2)
        self.describe = nn.Conv2d(inputs, _DESCRIPTORS[gate], 3, 1, 1)
        self.weigh = nn.Linear(_DESCRIPTORS[gate] * num_maps, outputs, bias=False)

    def forward(self, maps: list[Tensor], is_present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused map, (B, outputs, H', W'), and each view's weight, (B, views)."""
        fused = functional.relu(self.mix(torch.cat(maps, 1)))
        said = [functional.relu(self.describe(each)).mean((2, 3)) for each in maps]
        descriptors = torch.stack(said, 1)  # (B, maps, K)
        counts = functional.pad(is_present, (0, len(maps) - self.num_views), value=True)
        if self.gate == "paper":
            logits = descriptors[:, :, 0].masked_fill(~counts, -torch.inf)
            weights = logits.softmax(1)
            factors = torch.sigmoid(self.weigh(weights))
        else:
            descriptors = torch.where(counts[:, :, None], descriptors, descriptors.new_zeros(()))
            weights = self._contributions(descriptors)
            factors = functional.relu(self.weigh(descriptors.flatten(1)))
        return fused * factors[:, :, None, None], weights[:, : self.num_views]

    def _contributions(self, descriptors: Tensor) -> Tensor:
        """Return the magnitude of each map's contribution to the gate, (B, maps)."""
        per_map = self.weigh.weight.view(self.weigh.out_features, *descriptors.shape[1:])
        return torch.einsum("bmk,omk->bmo", descriptors, per_map).abs().sum(2)


class MmfCNN(FusionNetwork):
    """The fusion network of the paper."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with newly initialised weights."""
        super().__init__(config)
        channels, blocks = config.channels, BLOCKS[config.depth]
        self.branches = nn.ModuleList(
            Branch(CHANNELS[view], channels, blocks) for view in config.views
        )
        self.first_level = 0 if config.fusion == "multi" else 2
        self.fusions = nn.ModuleList(
            _Fusion(len(config.views), channels[i], channels[i + 1], config.gate, is_first)
            for i in range(self.first_level, 3)
            for is_first in [i == self.first_level]
        )
        self.top = stage(channels[3], channels[3], blocks[3], stride=2)
        self.hidden = nn.Linear(channels[3], max(16, channels[3] // 4), bias=False)
        self.head = nn.Linear(self.hidden.out_features, 2)
        self.apply(initialise)

    def forward(self, stored: PlaneTensors) -> Output:
        """See `FusionNetwork.forward`."""
        is_present = self.is_present(stored)
        views = zip(self.branches, self.normalise(stored), strict=True)
        maps_of = [branch(view, is_present[:, i]) for i, (branch, view) in enumerate(views)]
        fused: list[Tensor] = []
        shares = []
        for level, fusion in enumerate(self.fusions, self.first_level):
            maps = [maps[level] for maps in maps_of]
            fused_map, share = fusion([*maps, *fused], is_present)
            fused = [fused_map]
            shares.append(share)
        feature = self.top(fused[0]).mean((2, 3))
        logits = self.head(torch.sigmoid(self.hidden(feature)))
        return Output(
            logits.float(),
            feature.float(),
            self.shares(shares, is_present),
            self.whole(logits, stored),
        )

    def dead_gates(self, stored: PlaneTensors) -> list[float]:
        """Return, for each level, the part of its channels that the gate closes for all of a batch.

        The released gate is a ReLU of weights drawn around zero without a bias, so it starts half
        closed and can stay so.

        Args:
            stored: a batch.

        Returns:
            A value in [0, 1] per level.
        """
        is_closed: list[float] = []

        def watch(_: nn.Module, __: object, output: tuple[Tensor, Tensor]) -> None:
            is_closed.append(float((output[0].abs().amax((0, 2, 3)) == 0).float().mean()))

        hooks = [fusion.register_forward_hook(watch) for fusion in self.fusions]
        with torch.inference_mode():
            self(stored.to(self.device))
        for hook in hooks:
            hook.remove()
        return is_closed
