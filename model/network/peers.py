"""The networks that mmfCNN is compared with, implemented from their published descriptions.

early     one ResNet over the channels of all views; with one view, a single-modality network
halfway   a branch per view with squeeze-and-excitation, concatenated before the last stage.
          Source: Zhang et al., CASIA-SURF, CVPR 2019
feather   a small network of inverted residuals and a streaming module, over all views.
          Source: Zhang et al., FeatherNets, CVPR workshops 2019
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.tensors import PlaneTensors
from model.network.blocks import ConvNorm, SqueezeExcite, initialise, stage
from model.network.config import BLOCKS, CHANNELS, NetworkConfig
from model.network.evidence import AdditiveEvidence
from model.network.mmfcnn import Branch, FusionNetwork, MmfCNN, Output


def build_network(config: NetworkConfig) -> FusionNetwork:
    """Return a network of the given shape, with newly initialised weights."""
    return _NETWORKS[config.fusion](config)


class _Peer(FusionNetwork):
    """A network without modality weights."""

    def inputs(self, stored: PlaneTensors) -> list[Tensor]:
        """Return the views, (B, C, S, S) float32 each; all zero in rows that lack one."""
        is_present = self.is_present(stored)
        return [
            torch.where(is_present[:, i, None, None, None], view, view.new_zeros(()))
            for i, view in enumerate(self.normalise(stored))
        ]

    def output(self, stored: PlaneTensors, feature: Tensor, logits: Tensor) -> Output:
        """Return the output, with the same share for each modality that is present."""
        is_present = self.is_present(stored)
        shares = self.shares([torch.ones_like(is_present, dtype=torch.float32)], is_present)
        return Output(logits.float(), feature.float(), shares, self.whole(logits, stored))


class EarlyConcat(_Peer):
    """A ResNet over the channels of all views."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with newly initialised weights."""
        super().__init__(config)
        channels, blocks = config.channels, BLOCKS[config.depth]
        self.stem = ConvNorm(sum(CHANNELS[view] for view in config.views), channels[0], 7, 2)
        before = (channels[0], *channels[:3])
        self.stages = nn.Sequential(
            *(stage(before[i], channels[i], blocks[i], 1 if i == 0 else 2) for i in range(4))
        )
        self.head = nn.Linear(channels[3], 2)
        self.apply(initialise)

    def forward(self, stored: PlaneTensors) -> Output:
        """See `FusionNetwork.forward`."""
        x = functional.relu(self.stem(torch.cat(self.inputs(stored), 1)))
        feature = self.stages(functional.max_pool2d(x, 3, 2, 1)).mean((2, 3))
        return self.output(stored, feature, self.head(feature))


class HalfwayConcat(_Peer):
    """A ResNet branch per view, concatenated before the last stage."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with newly initialised weights."""
        super().__init__(config)
        channels, blocks = config.channels, BLOCKS[config.depth]
        self.branches = nn.ModuleList(
            Branch(CHANNELS[view], channels, blocks) for view in config.views
        )
        self.top = stage(len(config.views) * channels[2], channels[3], blocks[3], stride=2)
        self.head = nn.Linear(channels[3], 2)
        self.apply(initialise)

    def forward(self, stored: PlaneTensors) -> Output:
        """See `FusionNetwork.forward`."""
        is_present = self.is_present(stored)
        views = zip(self.branches, self.normalise(stored), strict=True)
        maps = [branch(view, is_present[:, i])[-1] for i, (branch, view) in enumerate(views)]
        feature = self.top(torch.cat(maps, 1)).mean((2, 3))
        return self.output(stored, feature, self.head(feature))


class _InvertedResidual(nn.Module):
    """Expand, filter each channel, project, recalibrate; strided blocks have a pooled shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inputs * widen
        self.widen = ConvNorm(inputs, wide, 1)
        self.filter = ConvNorm(wide, wide, 3, stride, groups=wide)
        self.narrow = ConvNorm(wide, outputs, 1)
        self.weigh = SqueezeExcite(outputs)
        self.stride = stride
        self.around = ConvNorm(inputs, outputs, 1) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        wide = functional.relu6(self.filter(functional.relu6(self.widen(x))))
        y: Tensor = self.weigh(self.narrow(wide))
        if self.stride == 2:
            around: Tensor = self.around(functional.avg_pool2d(x, 2, 2, ceil_mode=True))
            return y + around
        return y + x if x.shape == y.shape else y


class FeatherNet(_Peer):
    """Inverted residuals and a streaming module instead of global pooling; 0.35 M parameters."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with newly initialised weights."""
        super().__init__(config)
        # Output channels, stride of the first block, expansion and number of blocks of each group.
        groups = ((16, 2, 1, 1), (32, 2, 6, 2), (48, 2, 6, 6), (64, 2, 6, 3))
        inputs = 32
        self.stem = ConvNorm(sum(CHANNELS[view] for view in config.views), inputs, 3, 2)
        blocks: list[nn.Module] = []
        for outputs, stride, widen, count in groups:
            for number in range(count):
                blocks.append(
                    _InvertedResidual(inputs, outputs, stride if number == 0 else 1, widen)
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.stream = ConvNorm(inputs, inputs, 3, 2, groups=inputs)
        side = config.size
        for _ in range(6):
            side = (side + 1) // 2
        self.head = nn.Linear(inputs * side * side, 2)
        self.apply(initialise)

    @property
    def num_features(self) -> int:
        """See `FusionNetwork.num_features`."""
        return self.head.in_features

    def forward(self, stored: PlaneTensors) -> Output:
        """See `FusionNetwork.forward`."""
        x = functional.relu6(self.stem(torch.cat(self.inputs(stored), 1)))
        feature = self.stream(self.blocks(x)).flatten(1)
        return self.output(stored, feature, self.head(feature))


_NETWORKS: dict[str, type[FusionNetwork]] = {
    "evidence": AdditiveEvidence,
    "stacked": AdditiveEvidence,
    "heads": AdditiveEvidence,
    "multi": MmfCNN,
    "one": MmfCNN,
    "halfway": HalfwayConcat,
    "early": EarlyConcat,
    "feather": FeatherNet,
}
