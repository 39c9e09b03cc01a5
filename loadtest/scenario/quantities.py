"""Quantities as people write them: "90 s", "2 min", "250 ms", "5 %", "20 kB"."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _reader(units: dict[str, float], like: str) -> Any:  # noqa: ANN401 - a validator
    pattern = re.compile(rf"{_NUMBER}\s*({'|'.join(units)})")

    def read(value: object) -> float:
        if isinstance(value, str) and (found := pattern.fullmatch(value.strip())):
            return float(found[1]) * units[found[2]]
        raise ValueError(f"must be a text like {like}, in {', '.join(units)}")

    return read


def _share(value: object) -> float:
    if isinstance(value, str) and (found := re.fullmatch(rf"{_NUMBER}\s*%", value.strip())):
        value = float(found[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError('must be a share, like "5 %" or 0.05')
    return float(value)


Seconds = Annotated[float, BeforeValidator(_reader(_SECONDS, '"90 s"'))]
Bytes = Annotated[float, BeforeValidator(_reader(_BYTES, '"20 kB"'))]
Share = Annotated[float, BeforeValidator(_share)]


def told_s(seconds: float) -> str:
    """Return a duration as a scenario would write it: 0.25 is "250 ms"."""
    unit = next((each for each in ("h", "min", "s") if seconds >= _SECONDS[each]), "ms")
    return f"{seconds / _SECONDS[unit]:.4g} {unit}"
