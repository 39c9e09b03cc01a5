"""A real Prometheus for tests, and the tool that checks what it is given."""

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.ports import free_port


def binary(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; on CI both have to be there."""
    found = shutil.which(name)
    if found is None:
        tell = pytest.fail if os.environ.get("CI") else pytest.skip
        tell(f"no {name} here: apt-get install prometheus")
    return found


def promtool(*args: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [binary("promtool"), *args], input=stdin, capture_output=True, text=True, check=False
    )


@dataclass(frozen=True)
class Prometheus:
    url: str

    def api(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API."""
        target = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(target, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the series of an instant query."""
        series: list[Any] = self.api("query", query=expression)["result"]
        return series

    def value(self, expression: str) -> float | None:
        """Return the value of a query that has one series; None: it has none."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return float(series[0]["value"][1]) if series else None

    def until(self, expression: str, value: float, timeout_s: float = 300) -> None:
        """Wait until a query has this value.

        A scrape that a busy machine does not answer in time makes all series end for a while.
        """
        end_s = time.monotonic() + timeout_s
        while (found := self.value(expression)) != value:
            assert time.monotonic() < end_s, f"{expression} is {found}, not {value}"
            time.sleep(0.2)

    def until_any(self, expression: str, timeout_s: float = 60) -> bool:
        """Wait until a query has a series; False: it has none for so long."""
        end_s = time.monotonic() + timeout_s
        while not self.query(expression):
            if time.monotonic() > end_s:
                return False
            time.sleep(0.2)
        return True


@contextmanager
def scraping(folder: Path, port: int, rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes `port` of loopback every 2 s."""
    config = {
        "global": {"scrape_interval": "2s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": "livegate", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([binary("prometheus"), *options], stdout=log, stderr=log)
    try:
        end_s = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < end_s
                time.sleep(0.1)
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait()
