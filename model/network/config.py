"""The shape of a network, and the names of its parts.

This module does not import torch: what only serves a bundle has to know the shape, too.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Literal

from model.data.planes import DepthKind
from model.errors import SettingError, check_choice, check_number, check_whole

DepthMode = Literal["face_filled", "face_relative", "casia8"]
DEPTH_MODES: tuple[DepthMode, ...] = ("face_filled", "face_relative", "casia8")
# What the depth values must stand for: one mode is meaningless on the other's.
DEPTH_KINDS: Mapping[DepthMode, DepthKind] = {
    "face_filled": "millimetres",
    "face_relative": "millimetres",
    "casia8": "8-bit",
}
VIEWS = ("rgb", "depth", "ir", "hsv", "ycbcr")
CHANNELS = {"rgb": 3, "depth": 1, "ir": 1, "hsv": 3, "ycbcr": 3}
# Column of the plane that a view is computed from: a view is present if its plane is.
PLANE_OF = {"rgb": 0, "depth": 1, "ir": 2, "hsv": 0, "ycbcr": 0}

Gate = Literal["released", "paper"]
Fusion = Literal["evidence", "stacked", "heads", "multi", "one", "halfway", "early", "feather"]
# Those of `model.network.evidence`.
ADDITIVE: tuple[Fusion, ...] = ("evidence", "stacked", "heads")
FUSIONS: tuple[Fusion, ...] = (*ADDITIVE, "multi", "one", "halfway", "early", "feather")
# Blocks of the four stages, by the number of layers.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
GATES: tuple[Gate, ...] = ("released", "paper")


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Shape of a network.

    Attributes:
        views: inputs, a branch each: `rgb`, `depth`, `ir`; the authors add `hsv` and `ycbcr`.
        depth: layers of the ResNet branches, 18 or 34.
        width: factor on all channel counts, [1/64, 4]; these are rounded to multiples of 8.
        fusion: `evidence` sums the log odds of each modality and of each pair, `heads` those of the
            modalities alone, and `stacked` compares pairs without correlation, see
            `model.network.evidence`; `multi` is mmfCNN, `one` has its last gated level only; the
            others are the peers of `model.network.peers`.
        gate: `released` (as in the authors' release) or `paper` (a softmax over the modalities).
        depth_mode: how stored depth is normalised, see `model.network.normalise`.
        size: side of the input, [32, 512] px.
    """

    views: tuple[str, ...] = ("rgb", "depth", "ir")
    depth: int = 34
    width: float = 1.0
    fusion: Fusion = "multi"
    gate: Gate = "paper"
    depth_mode: DepthMode = "face_filled"
    size: int = 112

    def __post_init__(self) -> None:
        """Refuse what can't be built.

        Raises:
            SettingError: a field breaks its rule.
        """
        if not isinstance(self.views, tuple) or not self.views:
            raise SettingError("views", f"some of {', '.join(VIEWS)}", self.views)
        for view in self.views:
            check_choice("views", view, VIEWS)
        if len(set(self.views)) < len(self.views):
            raise SettingError("views", "named once each", self.views)
        check_choice("depth", self.depth, tuple(BLOCKS))
        check_number("width", self.width, 1 / 64, 4)
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("gate", self.gate, GATES)
        check_choice("depth_mode", self.depth_mode, DEPTH_MODES)
        check_whole("size", self.size, 32, 512)

    @property
    def channels(self) -> tuple[int, int, int, int]:
        """Channel counts of the four stages."""
        first, second, third, fourth = (
            max(8, round(base * self.width / 8) * 8) for base in (64, 128, 256, 512)
        )
        return first, second, third, fourth

    @property
    def depth_kind(self) -> DepthKind:
        """What a stored depth value stands for, which follows from the depth mode."""
        return DEPTH_KINDS[self.depth_mode]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in a form that JSON can hold."""
        return {**asdict(self), "views": list(self.views)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "NetworkConfig":
        """Return the config that `to_dict` described.

        Raises:
            SettingError: a field is missing, unknown, or breaks its rule.
        """
        names = {each.name for each in dataclass_fields(cls)}
        if fields.keys() != names:
            raise SettingError(
                "network", f"described by {', '.join(sorted(names))}", sorted(fields)
            )
        views = fields["views"]
        return cls(**{**fields, "views": tuple(views) if isinstance(views, list) else views})
