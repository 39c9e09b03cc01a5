"""The examples are short, and what README.md prints is what is in them."""

import pytest

from tests.environments import CHECKOUT
from tests.readme import python_blocks, region

EXAMPLES = ("camera.py", "door.py", "plain_camera.py", "http_camera.py", "node/camera.mjs")


def test_readme_prints_the_examples() -> None:
    assert python_blocks() == [region("camera.py"), region("door.py")]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_can_be_found(name: str) -> None:
    text = (CHECKOUT / "examples" / name).read_text(encoding="utf-8")
    assert text.count("\n") < 60
    assert f"examples/{name}" in (CHECKOUT / "README.md").read_text(encoding="utf-8")
