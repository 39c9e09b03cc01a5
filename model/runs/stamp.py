"""The settings stamp: a folder that several runs fill belongs to the settings of the first one."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import ModelError


class StampMismatch(ModelError, FileExistsError):
    """The folder was begun with other settings, or its stamp can't be read."""


def check_stamp(path: Path, settings: Mapping[str, Any], otherwise: str) -> None:
    """Write the settings stamp of a folder, or compare it with the one that is there.

    Args:
        path: file of the stamp, in the folder it stands for.
        settings: must be serialisable as JSON.
        otherwise: what the folder holds if the settings differ, for the message.

    Raises:
        StampMismatch: the folder was begun with other settings, or the stamp can't be read.
    """
    wanted = json.loads(json.dumps(settings))
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(
            key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)
        )
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise StampMismatch(
            f"{path} is no settings stamp ({error}): choose another folder"
        ) from error
    if changed:
        raise StampMismatch(
            f"{path.parent} holds {otherwise} ({', '.join(changed)}), see {path.name}"
        )
