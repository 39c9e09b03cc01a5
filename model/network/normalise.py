"""Normalisation: from stored pixel values to the network's input, as part of its graph.

Depth has three modes. `face_filled` takes millimetres: what matters is the relief of the face, not
its distance, so depth is relative to the median of the middle of the crop, and holes are filled
from around them: where a sensor is blind says nothing of a class. `face_relative`, which older
bundles have, counts holes as far. `casia8` takes the 8-bit values of CASIA-SURF as they are.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.tensors import PlaneTensors
from model.network.config import DepthMode

_WINDOW_MM = 150.0
_FAR = -1.0


class Normalise(nn.Module):
    """Maps stored planes to float maps in about [-1, 1], one per view."""

    def __init__(self, views: tuple[str, ...], depth_mode: DepthMode) -> None:
        """Set the views, in the order of the output, and the depth mode."""
        super().__init__()
        self.views = views
        self.depth_mode = depth_mode

    def forward(self, stored: PlaneTensors) -> list[Tensor]:
        """Return a (B, C, S, S) float32 map per view."""
        rgb = stored.rgb.permute(0, 3, 1, 2).float() / 255
        return [self._view(name, rgb, stored) for name in self.views]

    def _view(self, name: str, rgb: Tensor, stored: PlaneTensors) -> Tensor:
        if name == "rgb":
            return rgb * 2 - 1
        if name == "hsv":
            return hsv(rgb) * 2 - 1
        if name == "ycbcr":
            return ycbcr(rgb) * 2 - 1
        if name == "ir":
            return stored.ir.unsqueeze(1).float() / 127.5 - 1
        depth = stored.depth.unsqueeze(1).float()
        if self.depth_mode == "casia8":
            return depth / 127.5 - 1
        return face_filled(depth) if self.depth_mode == "face_filled" else face_relative(depth)


def face_filled(depth_mm: Tensor) -> Tensor:
    """Return depth relative to the face, nearer = larger, in [-1, 1], holes filled.

    The median of the valid pixels in the middle half is the face's distance; 150 mm nearer is 1,
    150 mm farther is -1. A plane without any depth is 0 all over.

    Args:
        depth_mm: (B, 1, S, S) float, mm, 0 = hole.

    Returns:
        (B, 1, S, S) float in [-1, 1].
    """
    return filled(_relief(depth_mm), depth_mm > 0)


def face_relative(depth_mm: Tensor) -> Tensor:
    """Return what `face_filled` does, but with holes counted as far.

    Args:
        depth_mm: (B, 1, S, S) float, mm, 0 = hole.
    """
    relief = _relief(depth_mm)
    return torch.where(depth_mm > 0, relief, torch.full_like(relief, _FAR))


def filled(values: Tensor, known: Tensor) -> Tensor:
    """Return maps whose unknown pixels have the mean of the known ones nearest to them.

    Each coarser level holds the means of what is known below it; what is unknown takes its value
    from the finest level that knows. Nothing known at all: 0.

    Source: the pull-push of Gortler et al., The Lumigraph, SIGGRAPH 1996.

    Args:
        values: (B, C, S, S) float.
        known: (B, C, S, S) bool.
    """
    if values.shape[-1] == 1:
        return torch.where(known, values, torch.zeros_like(values))
    share = known.to(values.dtype)
    total, share = (
        functional.avg_pool2d(each, 2, ceil_mode=True) for each in (values * share, share)
    )
    coarse = filled(total / share.clamp_min(1e-6), share > 0)
    size = list(values.shape[-2:])
    around = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return torch.where(known, values, around)


def _relief(depth_mm: Tensor) -> Tensor:
    """Return how much nearer than the face's distance each pixel is, in windows, in [-1, 1]."""
    side = depth_mm.shape[-1]
    low, high = side // 4, side - side // 4
    middle = depth_mm[:, 0, low:high, low:high].flatten(1)
    is_known = middle > 0
    # The lower median. Exported graphs have no `nanmedian`, so holes are sorted to the end.
    ordered = torch.where(is_known, middle, middle.new_full((), 1e6)).sort(dim=1).values
    at = (is_known.sum(1, keepdim=True) - 1).clamp_min(0) // 2
    median = ordered.gather(1, at)
    median = torch.where(is_known.any(1, keepdim=True), median, median.new_zeros(()))
    median = median.view(-1, 1, 1, 1)
    return ((median - depth_mm) / _WINDOW_MM).clamp(-1, 1)


def hsv(rgb: Tensor) -> Tensor:
    """Return hue, saturation and value of RGB, all (B, 3, S, S) in [0, 1].

    Source: A. R. Smith, Color gamut transform pairs, SIGGRAPH 1978.
    """
    value, index = rgb.max(dim=1)
    chroma = value - rgb.min(dim=1).values
    safe = chroma.clamp_min(1e-6)
    red, green, blue = rgb.unbind(1)
    sextant = torch.stack(
        [(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4], dim=1
    ).gather(1, index.unsqueeze(1))[:, 0]
    hue = torch.where(chroma > 1e-6, sextant / 6, torch.zeros_like(sextant))
    return torch.stack([hue, chroma / value.clamp_min(1e-6), value], dim=1)


def ycbcr(rgb: Tensor) -> Tensor:
    """Return luma and the two colour differences of RGB, all (B, 3, S, S) in [0, 1].

    Source: ITU-R BT.601.
    """
    red, green, blue = rgb.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luma, (blue - luma) * 0.564 + 0.5, (red - luma) * 0.713 + 0.5], dim=1)
