"""Model bundles: a folder with everything that a decision depends on, checked as a whole.

    weights.safetensors   the trained parameters
    bundle.json           shape, preprocessing, thresholds, origin; hashes of the other two files
    selftest.npz          a few inputs, and the scores that they must give

A bundle is identified by the SHA-256 of `bundle.json` and so by all that it holds: bundles that
differ in one threshold have different model ids. Nothing is ever unpickled. Whatever is wrong with
a folder is a `BundleError`; its subclasses are in the tree of `model.errors`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from model.data.planes import DepthKind, PlaneBatch
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
from model.serving.manifest import SCHEMA, Manifest, Threshold, upgrade
from model.serving.selftest import selftest_rows, write_selftest
from model.serving.served import (
    MAX_BYTES,
    SELFTEST,
    WEIGHTS,
    model_id,
    read_bundle,
    sha256,
    threshold_for,
)

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
        return model_id(self.name, self.digest)

    @property
    def config(self) -> NetworkConfig:
        """Shape of the network."""
        return self.network.config

    @property
    def depth_kind(self) -> DepthKind:
        """What the depth values that the network was trained on stand for."""
        return self.config.depth_kind

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """See `model.serving.served.threshold_for`."""
        return threshold_for(self.thresholds, self.required, modalities)


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check all of it but the self-test, which the engine runs.

    Raises:
        BundleError: one of its subclasses says what is wrong.
    """
    served = read_bundle(folder)
    manifest = served.manifest
    bundle = Bundle(
        name=manifest.name,
        network=_network(folder / WEIGHTS, served.weights, manifest.network),
        crop_margin=manifest.crop_margin,
        thresholds=manifest.thresholds,
        selftest=served.selftest,
        selftest_scores=served.selftest_scores,
        quality=manifest.quality,
        about=manifest.about,
        required=manifest.required,
    )
    object.__setattr__(bundle, "weights_sha256", manifest.weights_sha256)
    object.__setattr__(bundle, "digest", served.digest)
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
        weights_sha256=sha256(weights),
        selftest_sha256=sha256(selftest),
    )
    try:
        content = manifest.encode()
    except SettingError as error:
        raise BundleCorrupt(f"{folder}: {error}") from error
    return _write(folder, {WEIGHTS: weights, MANIFEST: content, SELFTEST: selftest})


def upgrade_bundle(old: Path, new: Path) -> Path:
    """Write a schema 1 bundle anew in this version's schema, and return the new folder.

    Weights, thresholds and self-test stay as they are; the model id changes.

    Raises:
        BundleError: `old` is no usable bundle of schema 1.
        model.runs.outputs.OutputExists: there is something at `new` already.
    """
    files = {name: read_file(old / name, most) for name, most in MAX_BYTES.items()}
    content = upgrade(old / MANIFEST, files[MANIFEST], sha256(files[SELFTEST]))
    return _write(new, {**files, MANIFEST: content})


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
