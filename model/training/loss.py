"""The Average Binary Center loss: cross-entropy plus a term that separates the classes' features.

The paper's exact equation is not available. These are the three forms on record:

    none     plain cross-entropy, as the authors' released script trains
    batch    CE + a * exp(-b * MSE(mean of bona fide, mean of attack)), over a batch
    centre   CE + c * mean |f - C_y|^2 + d * exp(-e * MSE(C_0, C_1)), with learned centres C

Source: Kuang et al., ACM MM 2019, doi 10.1145/3343031.3351001, and its authors' release.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.composites import PAIRS
from model.data.planes import MODALITIES, SUBSETS
from model.errors import check_choice
from model.network.mmfcnn import ATTACK, BONA_FIDE

AbcForm = Literal["none", "batch", "centre"]
ABC_FORMS: tuple[AbcForm, ...] = ("none", "batch", "centre")

# Columns of the evidence: modalities alone, and in pairs.
_ALONE = [SUBSETS.index((name,)) for name in MODALITIES]
_PAIRS = [SUBSETS.index((MODALITIES[one], MODALITIES[other])) for one, other in PAIRS]
_ALONE_WEIGHT = 0.5
_BATCH_WEIGHT, _PULL_WEIGHT, _PUSH_WEIGHT = 0.1, 1e-3, 1e-3
_SCALES: dict[AbcForm, float] = {"batch": 1e-3, "centre": 1e-5}


def evidence_loss(
    evidence: Tensor, present: Tensor, planes: Tensor, pairs: Tensor, matching: float
) -> Tensor:
    """Return the cross-entropy of each modality's and each pair's own log odds, a scalar.

    So each of them says what its own planes show, and not what the others leave it to say.

    Args:
        evidence: (B, 7) float, see `Output.evidence`.
        present: (B, 3) bool.
        planes: (B, 3) int64, what each plane shows: 1 a person, 0 none.
        pairs: (B, 3) int64, whether pairs of planes are of one presentation: 1, 0, or -1: unknown.
        matching: weight of the pairs, >= 0.
    """
    both = torch.stack([present[:, one] & present[:, other] for one, other in PAIRS], 1)
    alone = _binary(evidence[:, _ALONE], planes, present)
    return _ALONE_WEIGHT * alone + matching * _binary(evidence[:, _PAIRS], pairs, both)


def _binary(odds: Tensor, label: Tensor, counts: Tensor) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(
        odds, label.clamp_min(0).float(), reduction="none"
    )
    known = (counts & (label >= 0)).float()
    return (each * known).sum() / known.sum().clamp_min(1)


class AverageBinaryCenterLoss(nn.Module):
    """Cross-entropy plus one of the forms above; the centre form's centres are its parameters."""

    def __init__(self, form: AbcForm, num_features: int, scale: float | None = None) -> None:
        """Choose the form.

        Args:
            form: one of `ABC_FORMS`.
            num_features: length F of the feature.
            scale: b of the batch form, or e of the centre form; None: the one on record, at which
                the push's gradient is less than a hundredth of cross-entropy's.

        Raises:
            SettingError: there is no such form.
        """
        super().__init__()
        check_choice("form", form, ABC_FORMS)
        self.form = form
        self.scale = _SCALES.get(form, 0.0) if scale is None else scale
        if form == "centre":
            self.centres = nn.Parameter(torch.randn(2, num_features))

    def forward(self, logits: Tensor, feature: Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            logits: (B, 2) float.
            feature: (B, F) float.
            label: (B,) int64, 0 attack, 1 bona fide.
        """
        loss = functional.cross_entropy(logits, label)
        if self.form == "batch":
            return loss + self._batch(feature, label)
        if self.form == "centre":
            return loss + self._centre(feature, label)
        return loss

    def _batch(self, feature: Tensor, label: Tensor) -> Tensor:
        is_bona_fide = label == BONA_FIDE
        if is_bona_fide.all() or not is_bona_fide.any():
            return feature.new_zeros(())  # with one class absent there is nothing to separate
        bona_fide, attack = feature[is_bona_fide].mean(0), feature[~is_bona_fide].mean(0)
        return _BATCH_WEIGHT * torch.exp(-self.scale * functional.mse_loss(bona_fide, attack))

    def _centre(self, feature: Tensor, label: Tensor) -> Tensor:
        pull = (feature - self.centres[label]).square().sum(1).mean()
        apart = functional.mse_loss(self.centres[BONA_FIDE], self.centres[ATTACK])
        return _PULL_WEIGHT * pull + _PUSH_WEIGHT * torch.exp(-self.scale * apart)
