"""Results on disk: nothing is overwritten, and a folder appears whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.errors import ModelError


class OutputExists(ModelError, FileExistsError):
    """There is something where a result would go; it is kept."""


def refuse_existing(path: Path, what: str) -> None:
    """Return if there is nothing at `path`; to be called before the work, not after it.

    Args:
        path: where the result will go.
        what: the result, for the message.

    Raises:
        OutputExists: there is.
    """
    if path.exists() or path.is_symlink():
        raise OutputExists(f"{path} exists: choose another name for the {what}")


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `folder` once the block ends without an error.

    Raises:
        OutputExists: there is something at `folder` already.
    """
    refuse_existing(folder, what)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the final place, because a rename does not cross file systems.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as name:
        partial = Path(name) / folder.name
        partial.mkdir()
        yield partial
        partial.rename(folder)
