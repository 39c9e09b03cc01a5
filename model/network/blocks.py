"""The building blocks of the networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Module):
    """Convolution and batch normalisation; `fold` merges them for inference."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        """Build it; padding is half the kernel, so only the stride changes the size."""
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H', W')."""
        normed: Tensor = self.norm(self.conv(x))
        return normed

    def fold(self) -> None:
        """Merge the two into one convolution; in evaluation mode only."""
        self.conv = torch.nn.utils.fuse_conv_bn_eval(self.conv, self.norm)  # type: ignore[arg-type]
        self.norm = nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut. Source: He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Build it; the shortcut is a convolution where shapes differ."""
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, H', W')."""
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + self.shortcut(x))


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation with reduction 16. Source: Hu et al., CVPR 2018."""

    def __init__(self, channels: int) -> None:
        """Build it for maps with `channels` channels."""
        super().__init__()
        self.squeeze = nn.Linear(channels, max(2, channels // 16), bias=False)
        self.excite = nn.Linear(max(2, channels // 16), channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map, (B, C, H, W), with each channel weighted."""
        weights = self.excite(functional.relu(self.squeeze(x.mean((2, 3)))))
        return x * torch.sigmoid(weights)[:, :, None, None]


def stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a ResNet stage: `blocks` basic blocks, the first with `stride`."""
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def initialise(module: nn.Module) -> None:
    """Initialise a convolution's weights; for `Module.apply`. Source: He et al., ICCV 2015."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
