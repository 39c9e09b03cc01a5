"""The container file: what it copies, who it runs as, and where its packages come from."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


class TestImage:
    text = (ROOT / "deploy/cluster/Dockerfile").read_text()

    def test_it_copies_what_there_is_and_what_is_not_ignored(self) -> None:
        ignored = (ROOT / ".dockerignore").read_text().split()
        copied = re.findall(r"^COPY (?!--from)(.+) \S+$", self.text, re.MULTILINE)
        for name in " ".join(copied).split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name

    def test_it_runs_as_nobody_in_particular(self) -> None:
        last = self.text.rpartition("FROM ")[2]
        assert re.search(r"^USER 1000:1000$", last, re.MULTILINE)
        assert "pip install" not in last

    def test_all_but_torch_has_hashes(self) -> None:
        assert "--require-hashes -r requirements.lock" in self.text
