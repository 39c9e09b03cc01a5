"""`bundle.json`: what a bundle says of itself, and the hashes of the two other files.

Because it names those hashes, its own SHA-256 stands for all that the bundle holds: that is the
bundle's digest, and `sha256sum bundle.json` prints it. The scheme belongs to the schema number:

    1   the digest was that of the weights alone; `upgrade` converts such a manifest
    2   the digest is that of `bundle.json`
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.data.planes import MODALITIES
from model.data.quality import QualityLimits
from model.errors import SettingError, check_number
from model.network.config import NetworkConfig
from model.serving.folder import BundleCorrupt, BundleUnknown, parse_json

SCHEMA = 2
# Rows of the network's output, for whoever reads the bundle without this software.
_POLARITY = {"attack": 0, "bona_fide": 1}
_SUBSETS = tuple(
    "+".join(name for bit, name in enumerate(MODALITIES) if bits >> bit & 1)
    for bits in range(1, 1 << len(MODALITIES))
)
_ALL = "+".join(MODALITIES)


@dataclass(frozen=True)
class Threshold:
    """The bona fide score from which a frame with these modalities is bona fide.

    Attributes:
        value: in [0, 1].
        calibration: how it was found: sample counts and error rates.
    """

    value: float
    calibration: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The checked content of `bundle.json`.

    Attributes:
        name: 1 to 64 printable characters.
        network: shape of the network.
        crop_margin: part of the face box's longer side added on each side, [0, 1].
        quality: limits of the quality gates.
        thresholds: keyed by modalities, such as `rgb+depth+ir`, which is always there.
        required: modalities without which no decision is made.
        about: training data and its licence, metrics; for people.
        weights_sha256: of `weights.safetensors`, hexadecimal.
        selftest_sha256: of `selftest.npz`, hexadecimal.
    """

    name: str
    network: NetworkConfig
    crop_margin: float
    quality: QualityLimits
    thresholds: Mapping[str, Threshold]
    required: tuple[str, ...]
    about: Mapping[str, Any]
    weights_sha256: str
    selftest_sha256: str

    def encode(self) -> bytes:
        """Return the content of `bundle.json`.

        Raises:
            SettingError: `about` or a calibration holds something that JSON does not.
        """
        content = {
            "schema": SCHEMA,
            "name": self.name,
            "weights_sha256": self.weights_sha256,
            "selftest_sha256": self.selftest_sha256,
            "network": self.network.to_dict(),
            "modalities": list(MODALITIES),
            "depth_kind": self.network.depth_kind,
            "polarity": _POLARITY,
            "crop_margin": self.crop_margin,
            "quality": self.quality.to_dict(),
            "required": list(self.required),
            "thresholds": {
                key: {"value": each.value, "calibration": dict(each.calibration)}
                for key, each in self.thresholds.items()
            },
            "about": dict(self.about),
        }
        try:
            text = json.dumps(content, indent=1, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SettingError("a manifest", f"valid JSON ({error})", self.name) from error
        return text.encode("ascii") + b"\n"


def read_manifest(path: Path, content: bytes) -> Manifest:
    """Return what `bundle.json` says, every field checked.

    Args:
        path: the file, for messages.
        content: its bytes.

    Raises:
        BundleUnknown: its schema is not the one that this version reads.
        BundleCorrupt: a field is missing, unknown, or breaks its rule.
    """
    found = parse_json(path, content)
    schema = found.get("schema")
    if schema == 1 and type(schema) is int:
        raise BundleUnknown(
            f"{path}: schema is 1, whose model id covered the weights alone: convert the bundle "
            f"with livegate upgrade {path.parent} NEW_FOLDER"
        )
    if schema != SCHEMA or type(schema) is not int:
        raise BundleUnknown(
            f"{path}: schema is {schema!r:.40}, this version reads {SCHEMA}: use the version of "
            "Livegate that wrote it, or train the bundle again"
        )
    try:
        return _manifest(found)
    except SettingError as error:
        raise BundleCorrupt(f"{path}: {error}") from error


def upgrade(path: Path, content: bytes, selftest_sha256: str) -> bytes:
    """Return the content of a schema 1 `bundle.json`, converted to this version's schema.

    Args:
        path: the file, for messages.
        content: its bytes.
        selftest_sha256: of the bundle's `selftest.npz`.

    Raises:
        BundleUnknown: its schema is not 1.
        BundleCorrupt: it breaks a rule.
    """
    old = parse_json(path, content)
    schema = old.get("schema")
    if schema != 1 or type(schema) is not int:
        raise BundleUnknown(f"{path}: schema is {schema!r:.40}, only 1 can be upgraded")
    old.update(schema=SCHEMA, selftest_sha256=selftest_sha256, required=[])
    try:
        # What schema 1 left out had these defaults.
        old["network"] = {**NetworkConfig().to_dict(), **_table("network", old.get("network"))}
        old["quality"] = {**QualityLimits().to_dict(), **_table("quality", old.get("quality", {}))}
        config = NetworkConfig.from_dict(old["network"])
        return _manifest({**old, "depth_kind": config.depth_kind}).encode()
    except SettingError as error:
        raise BundleCorrupt(f"{path}: {error}") from error


def _manifest(found: dict[str, Any]) -> Manifest:
    _check_keys("bundle.json", found, _FIELDS)
    network = NetworkConfig.from_dict(_table("network", found["network"]))
    _check_equal("polarity", found["polarity"], _POLARITY)
    _check_equal("modalities", found["modalities"], list(MODALITIES))
    _check_equal("depth_kind", found["depth_kind"], network.depth_kind)
    check_number("crop_margin", found["crop_margin"], 0, 1)
    required = _required(found["required"])
    return Manifest(
        name=_name(found["name"]),
        network=network,
        crop_margin=float(found["crop_margin"]),
        quality=QualityLimits.from_dict(_table("quality", found["quality"])),
        thresholds=_thresholds(_table("thresholds", found["thresholds"]), required),
        required=required,
        about=_table("about", found["about"]),
        weights_sha256=_digest("weights_sha256", found["weights_sha256"]),
        selftest_sha256=_digest("selftest_sha256", found["selftest_sha256"]),
    )


_FIELDS = (
    *("schema", "name", "weights_sha256", "selftest_sha256", "network", "modalities"),
    *("depth_kind", "polarity", "crop_margin", "quality", "required", "thresholds", "about"),
)


def _check_keys(field_name: str, found: dict[str, Any], wanted: Iterable[str]) -> None:
    if found.keys() != set(wanted):
        odd = min(found.keys() ^ set(wanted))
        rule = f"an object with {'no' if odd in found else 'the'} key {odd!r:.80}"
        raise SettingError(field_name, rule, sorted(found))


def _check_equal(field_name: str, value: object, wanted: object) -> None:
    # As text, because True == 1 and 1.0 == 1.
    if json.dumps(value, sort_keys=True) != json.dumps(wanted, sort_keys=True):
        raise SettingError(field_name, f"{wanted!r}", value)


def _table(field_name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingError(field_name, "an object", value)
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64 or not value.isprintable():
        raise SettingError("name", "1 to 64 printable characters", value)
    return value


def _digest(field_name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise SettingError(field_name, "64 hexadecimal digits", value)
    return value


def _required(value: object) -> tuple[str, ...]:
    names = tuple(name for name in MODALITIES if isinstance(value, list) and name in value)
    if value != list(names):
        raise SettingError("required", f"a list of some of {', '.join(MODALITIES)}", value)
    return names


def _thresholds(rows: dict[str, Any], required: tuple[str, ...]) -> dict[str, Threshold]:
    if _ALL not in rows:
        raise SettingError("thresholds", f"an object with the key {_ALL!r}", sorted(rows))
    found = {}
    for key, row in rows.items():
        if key not in _SUBSETS:
            raise SettingError("thresholds", f"keyed by some of {', '.join(_SUBSETS)}", key)
        if not set(required) <= set(key.split("+")):
            raise SettingError("thresholds", f"of sets with {'+'.join(required)} in them", key)
        field_name = f"thresholds.{key}"
        _check_keys(field_name, _table(field_name, row), ("value", "calibration"))
        check_number(f"{field_name}.value", row["value"], 0, 1)
        calibration = _table(f"{field_name}.calibration", row["calibration"])
        found[key] = Threshold(float(row["value"]), calibration)
    return found
