"""Model bundles: a folder with everything that a decision depends on, checked as a whole.

    weights.safetensors   the trained numbers
    bundle.json           architecture, preprocessing, thresholds, where it comes from
    selftest.npz          a few inputs, and the scores that they must give

Nothing is ever unpickled. A bundle that fails any check is refused by name:

    BundleError
    +-- BundleMissing     no such folder, or a file of it is not there
    +-- BundleCorrupt     a file can't be read, or does not fit the others
    +-- BundleUnknown     made for another version of this software
    +-- SelfTestFailed    the network does not give the scores that it gave when it was made
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from model.data.planes import MODALITIES, PlaneBatch, Planes
from model.data.quality import QualityLimits
from model.errors import ModelError
from model.network.mmfcnn import FusionNetwork, NetworkConfig
from model.network.peers import build_network

SHIPPED = Path(__file__).parents[1] / "bundles"
SCHEMA = 1
_POLARITY = {"attack": 0, "bona_fide": 1}
_FILES = ("weights.safetensors", "bundle.json", "selftest.npz")
_MAX_FILE_BYTES = 1 << 30


class BundleError(ModelError):
    """A bundle can't be used; the message names it, the file and the rule."""


class BundleMissing(BundleError):
    """There is no such bundle, or one of its files is missing."""


class BundleCorrupt(BundleError):
    """A file of the bundle can't be read, or does not fit the others."""


class BundleUnknown(BundleError):
    """The bundle was made for another version of this software."""


class SelfTestFailed(BundleError):
    """The network does not give the scores that it gave when the bundle was made."""


@dataclass(frozen=True)
class Threshold:
    """From which bona fide score on a frame with these modalities is bona fide.

    Attributes:
        value: in [0, 1].
        calibration: how it was found: sample counts and error rates.
    """

    value: float
    calibration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle, or one that is about to be saved.

    Attributes:
        name: 1 to 64 characters.
        network: its weights loaded, in evaluation mode.
        crop_margin: part of the face box's longer side added around it.
        quality: what a face must reach to be judged.
        thresholds: by modalities, such as `rgb+depth+ir`.
        selftest: inputs, at least one bona fide and one attack.
        selftest_scores: (B,) float32, the scores that they must give.
        about: training data and its licence, metrics; for people.
        weights_sha256: of `weights.safetensors`; empty until it is saved.
    """

    name: str
    network: FusionNetwork
    crop_margin: float
    thresholds: Mapping[str, Threshold]
    selftest: PlaneBatch
    selftest_scores: NDArray[np.float32]
    quality: QualityLimits = field(default_factory=QualityLimits)
    about: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""

    @property
    def model_id(self) -> str:
        """Name and the first 12 digits of the weights' hash: what decisions carry."""
        return f"{self.name}@{self.weights_sha256[:12]}"

    @property
    def config(self) -> NetworkConfig:
        """The network's shape."""
        return self.network.config

    def threshold_for(self, modalities: Sequence[str]) -> float | None:
        """Return the threshold for frames that have `modalities`; None: not calibrated for it."""
        threshold = self.thresholds.get("+".join(name for name in MODALITIES if name in modalities))
        return threshold.value if threshold is not None else None


def find_bundle(name: str) -> Path:
    """Return the folder of a bundle: `name` is a folder, or one that is shipped.

    Raises:
        BundleMissing: it is neither.
    """
    for folder in (Path(name), SHIPPED / name):
        if (folder / "bundle.json").is_file():
            return folder.resolve()
    shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob("*/bundle.json")))
    raise BundleMissing(f"{name}: no bundle folder, and none that is shipped ({shipped or 'none'})")


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle and check all of it but the self-test, which the engine runs.

    Raises:
        BundleError: one of its subclasses says what is wrong.
    """
    for name in _FILES:
        path = folder / name
        if not path.is_file():
            raise BundleMissing(f"{folder}: {name} is missing")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BundleCorrupt(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    about = _read_json(folder / "bundle.json")
    if about.get("schema") != SCHEMA:
        raise BundleUnknown(f"{folder}: schema is {about.get('schema')!r}, {SCHEMA} is understood")
    try:
        return _assemble(folder, about)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleCorrupt(f"{folder}: {error!r:.300}") from error


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle, whole or not at all, and return its folder.

    Raises:
        BundleError: it would not pass `load_bundle`.
        FileExistsError: there is something at `folder` already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: choose another name for the bundle")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        partial = Path(name) / folder.name
        partial.mkdir()
        weights = {key: value.contiguous() for key, value in bundle.network.state_dict().items()}
        safetensors.torch.save_file(weights, partial / "weights.safetensors")
        digest = _sha256(partial / "weights.safetensors")
        (partial / "bundle.json").write_text(
            json.dumps(_describe(bundle, digest), indent=1) + "\n", encoding="utf-8"
        )
        np.savez_compressed(
            partial / "selftest.npz",
            rgb=bundle.selftest.rgb,
            depth=bundle.selftest.depth,
            ir=bundle.selftest.ir,
            present=bundle.selftest.present,
            scores=bundle.selftest_scores,
        )
        (partial / "weights.safetensors").chmod(0o644)  # written as 0600; there is no secret in it
        load_bundle(partial)
        partial.rename(folder)
    return folder


def selftest_rows(batch: PlaneBatch) -> list[Planes]:
    """Return the self-test's inputs as the engine takes them."""
    return [
        Planes(
            *(
                getattr(batch, name)[row] if batch.present[row, column] else None
                for column, name in enumerate(MODALITIES)
            )
        )
        for row in range(len(batch.present))
    ]


def _assemble(folder: Path, about: dict[str, Any]) -> Bundle:
    digest = _sha256(folder / "weights.safetensors")
    if digest != about["weights_sha256"]:
        raise BundleCorrupt(f"{folder}: weights.safetensors is not the one bundle.json describes")
    if about["polarity"] != _POLARITY:
        raise BundleCorrupt(f"{folder}: polarity must be {_POLARITY}, is {about['polarity']}")
    if about["modalities"] != list(MODALITIES):
        raise BundleCorrupt(f"{folder}: modalities must be {list(MODALITIES)}")
    network = build_network(NetworkConfig.from_dict(about["network"]))
    weights = safetensors.torch.load_file(folder / "weights.safetensors")
    network.load_state_dict(weights)
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise BundleCorrupt(f"{folder}: weight {name} has a value that is not finite")
    selftest, scores = _read_selftest(folder / "selftest.npz", network.config.size)
    bundle = Bundle(
        name=_checked_name(folder, about["name"]),
        network=network.eval(),
        crop_margin=_checked_ratio(folder, "crop_margin", about["crop_margin"]),
        thresholds=_checked_thresholds(folder, about["thresholds"]),
        quality=QualityLimits.from_dict(about.get("quality", {})),
        selftest=selftest,
        selftest_scores=scores,
        about=about["about"],
        weights_sha256=digest,
    )
    _check_polarity(folder, bundle)
    return bundle


def _check_polarity(folder: Path, bundle: Bundle) -> None:
    """Refuse a self-test that would pass with the classes swapped."""
    threshold = bundle.threshold_for(MODALITIES) or 0.5
    is_bona_fide = bundle.selftest_scores >= threshold
    if is_bona_fide.all() or not is_bona_fide.any():
        raise BundleCorrupt(f"{folder}: selftest.npz needs a bona fide and an attack presentation")


def _describe(bundle: Bundle, digest: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": bundle.name,
        "weights_sha256": digest,
        "network": bundle.config.to_dict(),
        "modalities": list(MODALITIES),
        "polarity": _POLARITY,
        "crop_margin": bundle.crop_margin,
        "quality": bundle.quality.to_dict(),
        "thresholds": {
            key: {"value": threshold.value, "calibration": dict(threshold.calibration)}
            for key, threshold in bundle.thresholds.items()
        },
        "about": dict(bundle.about),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleCorrupt(f"{path}: can't be read: {error}") from error
    if not isinstance(content, dict):
        raise BundleCorrupt(f"{path}: must be a JSON object")
    return content


def _read_selftest(path: Path, size: int) -> tuple[PlaneBatch, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            batch = PlaneBatch(arrays["rgb"], arrays["depth"], arrays["ir"], arrays["present"])
            scores = arrays["scores"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleCorrupt(f"{path}: can't be read: {error}") from error
    rows = len(scores)
    shapes = {"rgb": (rows, size, size, 3), "depth": (rows, size, size), "ir": (rows, size, size)}
    for name, shape in shapes.items():
        if getattr(batch, name).shape != shape:
            raise BundleCorrupt(f"{path}: {name} must have the shape {shape}")
    return batch, np.asarray(scores, np.float32)


def _checked_name(folder: Path, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isprintable():
        raise BundleCorrupt(f"{folder}: name must be 1 to 64 characters, is {name!r:.80}")
    return name


def _checked_ratio(folder: Path, key: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BundleCorrupt(f"{folder}: {key} must be from 0 to 1, is {value!r:.40}")
    return float(value)


def _checked_thresholds(folder: Path, rows: dict[str, Any]) -> dict[str, Threshold]:
    known = {
        "+".join(name for bit, name in enumerate(MODALITIES) if subset >> bit & 1)
        for subset in range(1, 1 << len(MODALITIES))
    }
    if not rows or not rows.keys() <= known:
        raise BundleCorrupt(f"{folder}: thresholds must be keyed by some of {sorted(known)}")
    return {
        key: Threshold(
            _checked_ratio(folder, f"thresholds.{key}", row["value"]), row["calibration"]
        )
        for key, row in rows.items()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
