"""A YAML file as people write it: read whole, no key twice, and the line of each field kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.errors import DeployError

Loc = tuple[str | int, ...]


class DocumentError(DeployError):
    """A file is no mapping in YAML; the message has its place."""


@dataclass(frozen=True, slots=True)
class Document:
    """One such file.

    Attributes:
        path: of the file.
        content: as YAML gives it.
        node: the same, with its lines.
    """

    path: Path
    content: dict[str, Any]
    node: yaml.Node

    def line(self, loc: Loc) -> int:
        """Return the line of a field, or of the nearest thing around it that is in the file."""
        return self.found(loc)[1]

    def found(self, loc: Loc) -> tuple[int, int]:
        """Return how many steps towards a field are in the file, and the line of the last one."""
        node, line, num_steps = self.node, self.node.start_mark.line, 0
        for part in loc:
            if isinstance(node, yaml.MappingNode):
                # The last, as YAML does: of one that stands twice the second surprises.
                found = [(key, value) for key, value in node.value if key.value == part]
                if not found:
                    break
                key, node = found[-1]
                line = key.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line
            else:
                break
            num_steps += 1
        return num_steps, line + 1

    def duplicates(self) -> list[Loc]:
        """Return the keys that stand twice in a mapping: YAML takes the last one, silently."""
        return _duplicates(self.node, (), set())


def read_document(path: Path) -> Document:
    """Read a file.

    Raises:
        DocumentError: it can't be read, is no YAML, or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", error)
        raise DocumentError(f"{path}: can't be read: {told}") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise DocumentError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', error)}"
        ) from error
    if not isinstance(content, dict) or node is None:
        raise DocumentError(f"{path}: must be a mapping")
    return Document(path, content, node)


def _duplicates(node: yaml.Node, loc: Loc, seen: set[int]) -> list[Loc]:
    if id(node) in seen:  # an alias
        return []
    seen.add(id(node))
    found: list[Loc] = []
    if isinstance(node, yaml.MappingNode):
        names: set[str] = set()
        for key, value in node.value:
            inner = (*loc, key.value)
            found += [inner] if key.value in names else []
            names.add(key.value)
            found += _duplicates(value, inner, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _duplicates(value, (*loc, index), seen)
    return found
