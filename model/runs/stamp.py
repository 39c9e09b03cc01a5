"""A folder that is filled over several runs belongs to the settings it was begun with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def claim(path: Path, settings: Mapping[str, Any], otherwise: str) -> None:
    """Note settings in a file of the folder, or see that they are those that are noted there.

    Args:
        path: the file.
        settings: what JSON takes.
        otherwise: what the folder holds if they differ.

    Raises:
        FileExistsError: the folder was begun with other settings.
    """
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        return
    held = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(key for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key))
    if changed:
        raise FileExistsError(
            f"{path.parent} holds {otherwise} ({', '.join(changed)}), see {path.name}"
        )
