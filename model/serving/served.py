"""What a replica needs of a bundle: all but the network, read and checked without torch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.planes import MODALITIES, DepthKind, PlaneBatch
from model.data.quality import QualityLimits
from model.network.config import NetworkConfig
from model.serving.folder import MANIFEST, BundleCorrupt, read_file
from model.serving.manifest import Manifest, Threshold, read_manifest
from model.serving.presentations import ErrorRates
from model.serving.selftest import read_selftest

WEIGHTS, SELFTEST = "weights.safetensors", "selftest.npz"
# `bundle.json` first: it says which the others have to be.
MAX_BYTES = {MANIFEST: 1 << 20, WEIGHTS: 1 << 30, SELFTEST: 1 << 26}

# At most so high are the rates that `model.evaluation.calibration` did not have to limit.
_WORST = ErrorRates(apcer=0.3, bpcer=0.1)


@dataclass(frozen=True)
class ServedBundle:
    """A bundle on disk, from `read_bundle`.

    Attributes:
        folder: where it is.
        manifest: what it says of itself.
        digest: SHA-256 of `bundle.json`, which stands for all that it holds.
        weights: content of `weights.safetensors`, which is what the manifest says.
        selftest: inputs, at least one bona fide and one attack presentation.
        selftest_scores: (B,) float32 in [0, 1], the scores that they must give.
    """

    folder: Path
    manifest: Manifest
    digest: str
    weights: bytes
    selftest: PlaneBatch
    selftest_scores: NDArray[np.float32]

    @property
    def model_id(self) -> str:
        """Name and the digest's first 12 digits: what decisions carry."""
        return model_id(self.manifest.name, self.digest)

    @property
    def config(self) -> NetworkConfig:
        """Shape of the network."""
        return self.manifest.network

    @property
    def crop_margin(self) -> float:
        """Part of the face box's longer side added on each side, [0, 1]."""
        return self.manifest.crop_margin

    @property
    def quality(self) -> QualityLimits:
        """Limits of the quality gates."""
        return self.manifest.quality

    @property
    def depth_kind(self) -> DepthKind:
        """What the depth values that the network was trained on stand for."""
        return self.config.depth_kind

    @property
    def thresholds(self) -> Mapping[str, Threshold]:
        """Keyed by modalities; `rgb+depth+ir` is always there."""
        return self.manifest.thresholds

    @property
    def required(self) -> tuple[str, ...]:
        """Modalities without which no decision is made."""
        return self.manifest.required


def model_id(name: str, digest: str) -> str:
    """Return what decisions name a bundle by."""
    return f"{name}@{digest[:12] or 'unsaved'}"


def threshold_for(
    thresholds: Mapping[str, Threshold], required: Sequence[str], modalities: Sequence[str]
) -> float | None:
    """Return the threshold for frames that have `modalities`.

    Returns:
        The threshold in [0, 1]; None: a required modality is missing, or the bundle is not
        calibrated for this set.
    """
    if not set(required) <= set(modalities):
        return None
    threshold = thresholds.get(_key(modalities))
    return threshold.value if threshold is not None else None


def error_rates(thresholds: Mapping[str, Threshold], modalities: Sequence[str]) -> ErrorRates:
    """Return how often the threshold for frames that have `modalities` is wrong, at most.

    Where the calibration does not tell, it is what a calibration would have refused.
    """
    key = _key(modalities)
    told = thresholds[key].calibration if key in thresholds else {}
    apcer, bpcer = (
        value if isinstance(value, float | int) and 0 <= value <= 1 else worst
        for value, worst in zip(
            (told.get("apcer_upper"), told.get("bpcer_upper")), _WORST, strict=True
        )
    )
    return ErrorRates(apcer, bpcer)


def read_bundle(folder: Path) -> ServedBundle:
    """Read a bundle and check all of it but the weights' content and the self-test's outcome.

    Raises:
        BundleError: one of its subclasses says what is wrong.
    """
    files = {name: read_file(folder / name, most) for name, most in MAX_BYTES.items()}
    manifest = read_manifest(folder / MANIFEST, files[MANIFEST])
    for name, digest in ((WEIGHTS, manifest.weights_sha256), (SELFTEST, manifest.selftest_sha256)):
        if sha256(files[name]) != digest:
            raise BundleCorrupt(f"{folder}: {name} is not the file that {MANIFEST} describes")
    selftest, scores = read_selftest(folder / SELFTEST, files[SELFTEST], manifest.network.size)
    is_bona_fide = scores >= manifest.thresholds["+".join(MODALITIES)].value
    if is_bona_fide.all() or not is_bona_fide.any():  # it would pass with the classes swapped
        raise BundleCorrupt(
            f"{folder / SELFTEST}: must hold a bona fide and an attack presentation"
        )
    return ServedBundle(folder, manifest, sha256(files[MANIFEST]), files[WEIGHTS], selftest, scores)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a file's content, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _key(modalities: Sequence[str]) -> str:
    return "+".join(name for name in MODALITIES if name in modalities)
