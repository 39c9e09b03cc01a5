"""What can go wrong in `model`: one root, and the tree of all its errors.

    ModelError
    +-- SettingError          model.errors, also a ValueError
    +-- OutputExists          model.runs.outputs, also a FileExistsError
    +-- StampMismatch         model.runs.stamp, also a FileExistsError
    +-- PlaneError            model.data.planes
    +-- ListError             model.data.lists
    +-- DatasetError          model.data.readers.sample
    +-- BundleError           model.serving.folder
    |   +-- BundleMissing     no such folder, or one of its files is missing
    |   +-- BundleCorrupt     a file can't be read, breaks a rule, or contradicts another
    |   +-- BundleUnknown     written for another version of this software
    |   +-- SelfTestFailed    the network no longer gives the scores it was released with
    +-- EngineError           model.serving.engine
    +-- GraphError            model.serving.graph
    +-- MetricError           model.evaluation.metrics
    +-- DepthKindMismatch     model.evaluation.scoring
    +-- CalibrationError      model.evaluation.calibration
    +-- DriftError            model.evaluation.drift
    +-- AuditError            model.evaluation.audit
    +-- CheckpointError       model.training.checkpoint
    +-- TrainingError         model.training.release
    +-- DomainError           model.training.domains

The command prints each of them as one line; the message says what is wrong and what to do. A
mistake of the calling code is a plain ValueError or TypeError and keeps its traceback.
"""

import math
import sys
from typing import Any

_LARGEST = sys.float_info.max


class ModelError(Exception):
    """Something that the user, or whoever supplied the data, can fix."""


class SettingError(ModelError, ValueError):
    """A setting breaks its rule.

    Attributes:
        field: name of the setting.
        rule: what it must be.
        value: what it is.
    """

    def __init__(self, field: str, rule: str, value: object) -> None:
        """Keep the three parts; all of them are in the message."""
        super().__init__(field, rule, value)  # all of `args`, so that it survives pickling
        self.field, self.rule, self.value = field, rule, value

    def __str__(self) -> str:
        """Return the message."""
        return f"{self.field} must be {self.rule}, is {self.value!r:.80}"


def check_number(field: str, value: object, low: float, high: float = _LARGEST) -> None:
    """Return if `value` is a finite int or float in [low, high]; True and False are no numbers.

    Raises:
        SettingError: it is not.
    """
    # Not converted, only compared: an int too large for a float is out of range.
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        limits = f"from {low:g} to {high:g}" if high < _LARGEST else f">= {low:g}"
        raise SettingError(field, f"a number {limits}", value)


def check_whole(field: str, value: object, low: int, high: float = math.inf) -> None:
    """Return if `value` is an int in [low, high].

    Raises:
        SettingError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        limits = f"from {low} to {high:g}" if high < math.inf else f">= {low}"
        raise SettingError(field, f"a whole number {limits}", value)


def check_choice(field: str, value: object, choices: tuple[Any, ...]) -> None:
    """Return if `value` is one of `choices`, and of the same type.

    Raises:
        SettingError: it is not.
    """
    if not any(value == choice and type(value) is type(choice) for choice in choices):
        raise SettingError(field, f"one of {', '.join(map(str, choices))}", value)
