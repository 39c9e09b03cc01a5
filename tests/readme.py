"""What README.md prints, so that tests can run it."""

import re

from tests.environments import CHECKOUT


def python_blocks() -> list[str]:
    """Return the Python that README.md shows, block by block."""
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def region(example: str) -> str:
    """Return the part of an example that README.md prints."""
    text = (CHECKOUT / "examples" / example).read_text(encoding="utf-8")
    return text.partition("# README.md prints what follows.\n")[2]
