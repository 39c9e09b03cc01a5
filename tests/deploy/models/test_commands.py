"""`livegate model` as it is typed: exit statuses, and errors of one line."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.commands import main as cli
from deploy.models.fleet import Fleet, NoAnswer

ROW = {
    "name": "one",
    "at_ms": 1,
    "asked": {},
    "state": "ready",
    "error": "",
    "bundle": "b",
    "model": "m@1",
    "runs_on": "graph on cpu",
    "candidate": "",
    "shadow": "",
    "of_a_later_version": 1,
}


class Site:
    """A deployment's HTTP side that says what it is told to."""

    def __init__(self) -> None:
        self.status: Any = {"replicas": [ROW], "states": {"RUNNING": 1}, "shadow": {}}
        self.url = ""


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v1/status" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(made.status).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def model(*args: str) -> Any:
    return CliRunner().invoke(cli.app, ["model", *args])


def test_status_fails_where_replicas_are_not_the_same(site: Site) -> None:
    found = model("status", "--http", site.url)
    assert (found.exit_code, "m@1" in found.output) == (0, True)
    site.status["replicas"].append({**ROW, "name": "two", "model": "m@2"})
    found = model("status", "--http", site.url)
    assert (found.exit_code, "2 different bundles decide" in found.output) == (1, True)
    found = model("status", "--json", "--http", site.url)
    told = json.loads(found.output)
    assert found.exit_code == 1
    assert [each["model"] for each in told["replicas"]] == ["m@1", "m@2"]
    assert told["faults"] == ["2 different bundles decide"]


def test_the_report_says_by_its_status_whether_to_swap(site: Site) -> None:
    counts = {"outcomes:bona_fide:bona_fide": 5000}
    site.status["shadow"] = {"model": "m@1", "candidate": "c@2", "counts": counts}
    found = model("report", "--http", site.url)
    assert (found.exit_code, found.output.splitlines()[-1]) == (0, "swap")
    counts["outcomes:attack:bona_fide"] = 5000
    found = model("report", "--json", "--http", site.url)
    assert (found.exit_code, json.loads(found.output)["verdict"]) == (1, "do not swap")


@pytest.mark.parametrize("status", [[], {"model": "m@1"}, {"replicas": [1], "states": {}}])
def test_what_is_no_deployment_is_told(site: Site, status: Any) -> None:
    site.status = status
    with pytest.raises(NoAnswer, match="is no deployment of this version"):
        Fleet(site.url).look()
    with pytest.raises(NoAnswer, match="no replica answers"):
        Fleet("http://127.0.0.1:1").look()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("status", "--folder", ".", "--http", "http://h"), "both name a deployment"),
        (("status", "--http", "h:8000"), "http://host:port"),
        (("rollback", "--http", "http://h:8000"), "--http and --dashboard both"),
        (("swap", "s3://m/x@0123456789ab", "--dashboard", "http://h:8265"), "no deployment runs"),
        (("swap", "rendered-small", "--http", "http://h", "--dashboard", "http://h"), "push"),
        (("shadow", "rendered-small", "--share", "2"), "less than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_told(
    args: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = model(*args)
    assert found.exit_code != 0
    shown = " ".join(re.sub("[│╭╮╰╯─]", " ", found.output).split()) + repr(found.exception)
    assert told in shown
