"""mmfCNN: a ResNet branch for each view, fused at three levels with modality weights.

Source: Kuang et al., Multi-modal Multi-layer _Fusion Network with Average Binary Center Loss for
Face Anti-spoofing, ACM MM 2019, doi 10.1145/3343031.3351001, and facts of its authors' release.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.normalise import CHANNELS, DEPTH_MODES, PLANE_OF, VIEWS, DepthMode, Normalise, Stored
from model.planes import MODALITIES

Gate = Literal["released", "paper"]
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
# Rows of the network's output, and of every label in this product.
ATTACK, BONA_FIDE = 0, 1
# Channels of the gate's descriptor for one map.
_DESCRIPTORS = {"released": 16, "paper": 1}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of an mmfCNN.

    Attributes:
        views: what the branches see: `rgb`, `depth`, `ir` by default; the authors add `hsv` and
            `ycbcr`.
        depth: of the ResNet branches, 18 or 34.
        width: factor on all channel counts, rounded to multiples of 8.
        gate: `released` (as in the authors' release) or `paper` (a softmax over the modalities).
        depth_mode: how stored depth is told to the network, see `model.normalise`.
        size: side of the input, px.
    """

    views: tuple[str, ...] = ("rgb", "depth", "ir")
    depth: int = 34
    width: float = 1.0
    gate: Gate = "paper"
    depth_mode: DepthMode = "face_relative"
    size: int = 112

    def __post_init__(self) -> None:
        """Refuse what can't be built, naming field, rule and value."""
        rules = {
            "views": (
                len(set(self.views)) == len(self.views) > 0 and set(self.views) <= set(VIEWS),
                f"some of {VIEWS}, each once",
            ),
            "depth": (self.depth in BLOCKS, f"one of {tuple(BLOCKS)}"),
            "width": (0 < self.width <= 4, "above 0, at most 4"),
            "gate": (self.gate in _DESCRIPTORS, f"one of {tuple(_DESCRIPTORS)}"),
            "depth_mode": (self.depth_mode in DEPTH_MODES, f"one of {DEPTH_MODES}"),
            "size": (32 <= self.size <= 512, "from 32 to 512 px"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise ValueError(f"{name} must be {rule}, is {getattr(self, name)!r}")

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channels of the four stages."""
        first, second, third, fourth = (
            max(8, round(base * self.width / 8) * 8) for base in (64, 128, 256, 512)
        )
        return first, second, third, fourth

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON takes them."""
        return {**asdict(self), "views": list(self.views)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "NetworkConfig":
        """Return the config that `to_dict` described.

        Raises:
            TypeError: a field is unknown.
            ValueError: a field is out of range.
        """
        return cls(**{**fields, "views": tuple(fields.get("views", ()))})


class Output(NamedTuple):
    """What the network says of a batch.

    Attributes:
        logits: (B, 2) float32, columns ATTACK and BONA_FIDE.
        feature: (B, F) float32, what the Average Binary Center loss looks at.
        shares: (B, 3) float32, weight of each of `model.planes.MODALITIES`, sums to 1.
    """

    logits: Tensor
    feature: Tensor
    shares: Tensor


class _ConvNorm(nn.Module):
    """Convolution and batch normalisation; `fold` makes one convolution of them for inference."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(x))
        return normed

    def fold(self) -> None:
        self.conv = torch.nn.utils.fuse_conv_bn_eval(self.conv, self.norm)  # type: ignore[arg-type]
        self.norm = nn.Identity()


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut. Source: He et al., CVPR 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _ConvNorm(inputs, outputs, 3, stride)
        self.second = _ConvNorm(outputs, outputs, 3)
        is_same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if is_same else _ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + self.shortcut(x))


class _SqueezeExcite(nn.Module):
    """Channel weights from global averages. Source: Hu et al., CVPR 2018; reduction 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(2, channels // 16), bias=False)
        self.excite = nn.Linear(max(2, channels // 16), channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.excite(functional.relu(self.squeeze(x.mean((2, 3)))))
        return x * torch.sigmoid(weights)[:, :, None, None]


class _Branch(nn.Module):
    """One view's ResNet up to its third stage; each stage's recalibrated output is fused.

    The output of a stage's squeeze-and-excitation feeds the next stage as well as the fusion.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = _ConvNorm(inputs, channels[0], 7, 2)
        before = (channels[0], *channels[:2])
        self.stages = nn.ModuleList(
            nn.Sequential(
                _stage(before[i], channels[i], blocks[i], stride=1 if i == 0 else 2),
                _SqueezeExcite(channels[i]),
            )
            for i in range(3)
        )

    def forward(self, x: Tensor, is_present: Tensor) -> list[Tensor]:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2, 1)
        maps = []
        for each in self.stages:
            # A missing view's map is zero at every level: biases would make it something else,
            # and `where`, unlike a product, does so whatever the map holds.
            x = torch.where(is_present[:, None, None, None], each(x), x.new_zeros(()))
            maps.append(x)
        return maps


class _Fusion(nn.Module):
    """One level: all maps convolved together, times a gate made of what each map says."""

    def __init__(self, num_views: int, inputs: int, outputs: int, gate: Gate, first: bool) -> None:
        super().__init__()
        self.gate: Gate = gate
        self.num_views = num_views
        num_maps = num_views + (not first)
        self.mix = _ConvNorm(inputs * num_maps, outputs, 3, 2)
        self.describe = nn.Conv2d(inputs, _DESCRIPTORS[gate], 3, 1, 1)
        self.weigh = nn.Linear(_DESCRIPTORS[gate] * num_maps, outputs, bias=False)

    def forward(self, maps: list[Tensor], is_present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the fused map, and each view's share of the gate, (B, views)."""
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

    def dead_ratio(self, maps: list[Tensor], is_present: Tensor) -> float:
        """Return the part of output channels that the released gate closes for a whole batch."""
        fused, _ = self.forward(maps, is_present)
        return float((fused.abs().amax((0, 2, 3)) == 0).float().mean())

    def _contributions(self, descriptors: Tensor) -> Tensor:
        """Return the size of what each map adds to the gate, (B, maps)."""
        per_map = self.weigh.weight.view(self.weigh.out_features, *descriptors.shape[1:])
        return torch.einsum("bmk,omk->bmo", descriptors, per_map).abs().sum(2)


class MmfCNN(nn.Module):
    """The network: stored planes in, logits, feature and modality shares out."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build it with fresh weights."""
        super().__init__()
        self.config = config
        channels, blocks = config.channels, BLOCKS[config.depth]
        self.normalise = Normalise(config.views, config.depth_mode)
        self.branches = nn.ModuleList(
            _Branch(CHANNELS[view], channels, blocks) for view in config.views
        )
        self.fusions = nn.ModuleList(
            _Fusion(len(config.views), channels[i], channels[i + 1], config.gate, first=i == 0)
            for i in range(3)
        )
        self.top = _stage(channels[3], channels[3], blocks[3], stride=2)
        self.hidden = nn.Linear(channels[3], max(16, channels[3] // 4), bias=False)
        self.head = nn.Linear(self.hidden.out_features, 2)
        self.apply(_initialise)

    def forward(self, stored: Stored) -> Output:
        """Run a batch.

        Args:
            stored: planes of `config.size` px; at least one modality of each row is present.
        """
        columns = [PLANE_OF[view] for view in self.config.views]
        is_present = stored.present[:, columns]
        levels = zip(
            *(
                branch(view, is_present[:, i])
                for i, (branch, view) in enumerate(
                    zip(self.branches, self.normalise(stored), strict=True)
                )
            ),
            strict=True,
        )
        fused: list[Tensor] = []
        shares = []
        for fusion, maps in zip(self.fusions, levels, strict=True):
            fused_map, share = fusion([*maps, *fused], is_present)
            fused = [fused_map]
            shares.append(share)
        feature = self.top(fused[0]).mean((2, 3))
        logits = self.head(torch.sigmoid(self.hidden(feature)))
        return Output(logits.float(), feature.float(), self._shares(shares, is_present))

    def fold(self) -> "MmfCNN":
        """Fold batch normalisations into their convolutions; for inference only."""
        self.eval()
        for module in list(self.modules()):
            if isinstance(module, _ConvNorm):
                module.fold()
        return self

    def _shares(self, levels: list[Tensor], is_present: Tensor) -> Tensor:
        """Return the mean over levels of each modality's share, over the present ones."""
        total = levels[0].new_zeros((len(is_present), len(MODALITIES)), dtype=torch.float32)
        columns = torch.tensor([PLANE_OF[view] for view in self.config.views], device=total.device)
        present = is_present.float()
        for level in levels:
            known = level.float() * present
            sums = known.sum(1, keepdim=True)
            # A gate that is closed altogether leans on nothing: then all present ones alike.
            even = present / present.sum(1, keepdim=True)
            known = torch.where(sums > 0, known / sums.clamp_min(1e-12), even)
            total = total.index_add(1, columns, known / len(levels))
        return total


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Return a ResNet stage: `blocks` basic blocks, the first with `stride`."""
    first = _BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def count_parameters(network: nn.Module) -> int:
    """Return the number of trained numbers."""
    return sum(parameter.numel() for parameter in network.parameters())


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
