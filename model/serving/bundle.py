"""Model bundles: a folder with everything that a decision depends on, checked as a whole.

    weights.safetensors   the trained parameters
    bundle.json           shape, preprocessing, thresholds, origin; hashes of the other two files
    selftest.npz          a few inputs, and the scores that they must give

A bundle is identified by the SHA-256 of `bundle.json` and so by all that it holds: bundles that
differ in one threshold have different model ids. Nothing is ever unpickled. Whatever is wrong with
a folder is a `BundleError`; its subclasses are in the tree of `model.errors`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from model.data.planes import MODALITIES, DepthKind, PlaneBatch
from model.data.quality import QualityLimits
from model.errors import SettingError
from model.network.config import NetworkConfig
from model.network.mmfcnn import FusionNetwork
from model.network.peers import build_network
from model.runs.outputs import whole_folder
from model.serving.folder import (
    MANIFEST,
    SHIPPED,
    BundleCorrupt,
    BundleError,
    BundleMissing,
    BundleUnknown,
    SelfTestFailed,
    find_bundle,
    read_file,
)
from model.serving.manifest import SCHEMA, Manifest, Threshold, read_manifest, upgrade
from model.serving.presentations import ErrorRates
from model.serving.selftest import read_selftest, selftest_rows, write_selftest

__all__ = [
    "SCHEMA",
    "SHIPPED",
    "Bundle",
    "BundleCorrupt",
    "BundleError",
    "BundleMissing",
    "BundleUnknown",
    "SelfTestFailed",
    "Threshold",
    "find_bundle",
    "load_bundle",
    "save_bundle",
    "selftest_rows",
    "upgrade_bundle",
]

_WEIGHTS, _MANIFEST, _SELFTEST = "weights.safetensors", MANIFEST, "selftest.npz"
_MAX_BYTES = {_WEIGHTS: 1 << 30, _MANIFEST: 1 << 20, _SELFTEST: 1 << 26}

# At most so high are the rates that `model.evaluation.calibration` did not have to limit.
_WORST = ErrorRates(apcer=0.3, bpcer=0.1)


@dataclass(frozen=True)
class Bundle:
    """A bundle from `load_bundle`, or one that is about to be saved.

    Attributes:
        name: 1 to 64 printable characters.
        network: with its weights, in evaluation mode.
        crop_margin: part of the face box's longer side added on each side, [0, 1].
        thresholds: keyed by modalities; `rgb+depth+ir` is always there.
        selftest: inputs, at least one bona fide and one attack presentation.
        selftest_scores: (B,) float32 in [0, 1], the scores that they must give.
        quality: limits of the quality gates.
        about: training data and its licence, metrics; for people.
        required: modalities without which no decision is made.
        weights_sha256: of `weights.safetensors`; empty until it is saved.
        digest: SHA-256 of `bundle.json`; empty until it is saved, and again once `replace` has
            changed anything.
    """

    name: str
    network: FusionNetwork
    crop_margin: float
    thresholds: Mapping[str, Threshold]
    selftest: PlaneBatch
    selftest_scores: NDArray[np.float32]
    quality: QualityLimits = field(default_factory=QualityLimits)
    about: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    weights_sha256: str = field(default="", init=False)
    digest: str = field(default="", init=False)

    @property
    def model_id(self) -> str:
        """Name and the digest's first 12 digits: what decisions carry."""
        return f"{self.name}@{self.digest[:12] or 'unsaved'}"

    @property
    def config(self) -> NetworkConfig:
        """Shape of the network."""
        return self.network.config

    @property
    def depth_kind(self) -> DepthKind:
        """What the depth values that the network was trained on stand for."""
        return self.config.depth_kind

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the threshold for frames that have `modalities`.

        Returns:
            The threshold in [0, 1]; None: a required modality is missing, or the bundle is not
            calibrated for this set.
        """
        if not set(self.required) <= set(modalities):
            return None
        threshold = self.thresholds.get("+".join(name for name in MODALITIES if name in modalities))
        return threshold.value if threshold is not None else None

    def error_rates(self, modalities: Sequence[str]) -> ErrorRates:
        """Return how often the threshold for frames that have `modalities` is wrong, at most.

        Where the calibration does not tell, it is what a calibration would have refused.
        """
        key = "+".join(name for name in MODALITIES if name in modalities)
        told = self.thresholds[key].calibration if key in self.thresholds else {}
        found = (told.get("apcer_upper"), told.get("bpcer_upper"))
        apcer, bpcer = (
            value if isinstance(value, float | int) and 0 <= value <= 1 else worst
            for value, worst in zip(found, _WORST, strict=True)
        )
        return ErrorRates(apcer, bpcer)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check all of it but the self-test, which the engine runs.

    Raises:
        BundleError: one of its subclasses says what is wrong.
    """
    files = {name: read_file(folder / name, most) for name, most in _MAX_BYTES.items()}
    manifest = read_manifest(folder / _MANIFEST, files[_MANIFEST])
    for name, digest in (
        (_WEIGHTS, manifest.weights_sha256),
        (_SELFTEST, manifest.selftest_sha256),
    ):
        if _sha256(files[name]) != digest:
            raise BundleCorrupt(f"{folder}: {name} is not the file that {_MANIFEST} describes")
    selftest, scores = read_selftest(folder / _SELFTEST, files[_SELFTEST], manifest.network.size)
    bundle = Bundle(
        name=manifest.name,
        network=_network(folder / _WEIGHTS, files[_WEIGHTS], manifest.network),
        crop_margin=manifest.crop_margin,
        thresholds=manifest.thresholds,
        selftest=selftest,
        selftest_scores=scores,
        quality=manifest.quality,
        about=manifest.about,
        required=manifest.required,
    )
    _check_polarity(folder / _SELFTEST, bundle)
    object.__setattr__(bundle, "weights_sha256", manifest.weights_sha256)
    object.__setattr__(bundle, "digest", _sha256(files[_MANIFEST]))
    return bundle


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle, whole or not at all, and return its folder.

    Raises:
        BundleError: it would not pass `load_bundle`.
        model.runs.outputs.OutputExists: there is something at `folder` already.
    """
    weights = safetensors.torch.save(
        {key: value.contiguous() for key, value in bundle.network.state_dict().items()}
    )
    selftest = write_selftest(bundle.selftest, bundle.selftest_scores)
    manifest = Manifest(
        name=bundle.name,
        network=bundle.config,
        crop_margin=bundle.crop_margin,
        quality=bundle.quality,
        thresholds=bundle.thresholds,
        required=bundle.required,
        about=bundle.about,
        weights_sha256=_sha256(weights),
        selftest_sha256=_sha256(selftest),
    )
    try:
        content = manifest.encode()
    except SettingError as error:
        raise BundleCorrupt(f"{folder}: {error}") from error
    return _write(folder, {_WEIGHTS: weights, _MANIFEST: content, _SELFTEST: selftest})


def upgrade_bundle(old: Path, new: Path) -> Path:
    """Write a schema 1 bundle anew in this version's schema, and return the new folder.

    Weights, thresholds and self-test stay as they are; the model id changes.

    Raises:
        BundleError: `old` is no usable bundle of schema 1.
        model.runs.outputs.OutputExists: there is something at `new` already.
    """
    files = {name: read_file(old / name, most) for name, most in _MAX_BYTES.items()}
    content = upgrade(old / _MANIFEST, files[_MANIFEST], _sha256(files[_SELFTEST]))
    return _write(new, {**files, _MANIFEST: content})


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    with whole_folder(folder, "bundle") as partial:
        for name, content in files.items():
            (partial / name).write_bytes(content)
        load_bundle(partial)
    return folder


def _network(path: Path, content: bytes, config: NetworkConfig) -> FusionNetwork:
    """Return the network with the weights of a file.

    It is built without memory first: what a manifest says must not allocate more than its weights.
    """
    try:
        weights = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BundleCorrupt(f"{path}: can't be read: {error!r:.200}") from error
    with torch.device("meta"):
        network = build_network(config)
    wanted = network.state_dict()
    if weights.keys() != wanted.keys():
        odd = min(weights.keys() ^ wanted.keys())
        raise BundleCorrupt(
            f"{path}: {odd:.80} is {'not part of this network' if odd in weights else 'missing'}"
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape or value.dtype != wanted[name].dtype:
            raise BundleCorrupt(
                f"{path}: {name} must be {_shape(wanted[name])}, is {_shape(value)}"
            )
        if not torch.isfinite(value).all():
            raise BundleCorrupt(f"{path}: {name} has a value that is not finite")
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _check_polarity(path: Path, bundle: Bundle) -> None:
    """Refuse a self-test that would pass with the classes swapped."""
    threshold = bundle.thresholds["+".join(MODALITIES)].value
    is_bona_fide = bundle.selftest_scores >= threshold
    if is_bona_fide.all() or not is_bona_fide.any():
        raise BundleCorrupt(f"{path}: must hold a bona fide and an attack presentation")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
