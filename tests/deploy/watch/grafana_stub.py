"""A Grafana on loopback that keeps what it is told, and holds itself and us to its description."""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

DESCRIPTION = json.loads(Path(__file__).with_name("grafana_api.json").read_text())
TOKEN = "glsa_of_a_service_account"  # noqa: S105 - of nobody
Answer = tuple[int, Any]


@dataclass
class Grafana:
    """What it holds, and what was asked of it."""

    prefix: str = ""
    port: int = 0
    sources: dict[str, str] = field(default_factory=lambda: {"Prometheus": "prometheus"})
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    broken: tuple[int, str] | None = None  # answers each request with this page

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    @property
    def writes(self) -> list[str]:
        return [call for call in self.calls if not call.startswith("GET ")]

    def answer(self, method: str, path: str, body: Any) -> Answer:
        *kind, name = map(urllib.parse.unquote, path.removeprefix("/api/").split("/"))
        found: Any = None
        match [method, *kind]:
            case ["GET", "datasources", "name"]:
                kept = self.sources.get(name)
                found = kept and {"id": 7, "uid": f"uid-{name}", "name": name, "type": kept}
            case ["GET", "folders"]:
                title = self.folders.get(name)
                found = title and {"id": 3, "uid": name, "title": title}
            case ["GET", "dashboards", "uid"]:
                model = self.dashboards.get(name)
                found = model and {"dashboard": model, "meta": {}}
            case ["POST"] if name == "folders":
                self.folders[body["uid"]] = body["title"]
                found = {"id": 3, **body}
            case ["POST", "dashboards"]:
                found = self._save(body)
            case ["POST"] if name == "annotations":
                self.annotations.append(body)
                found = {"id": len(self.annotations), "message": "Annotation added"}
        return (200, found) if found else (404, {"message": "not found"})

    def _save(self, body: Any) -> Any:
        model = dict(body["dashboard"])
        if body.get("folderUid") not in self.folders:
            return None
        version = self.dashboards.get(model["uid"], {}).get("version", 0) + 1
        number = 40 + len(self.dashboards)
        self.dashboards[model["uid"]] = {**model, "id": number, "version": version}
        url = f"/d/{model['uid']}/x"
        saved = {"id": number, "status": "success", "uid": model["uid"], "url": url}
        return {**saved, "version": version}

    def check(self, kind: str, call: str, content: Any) -> None:
        names = [name for name in DESCRIPTION[kind] if call.startswith(name)]
        if not names:
            self.complaints.append(f"{call} is not described")
            return
        validator = Draft202012Validator(DESCRIPTION[kind][max(names, key=len)])
        self.complaints += [f"{call}: {each.message}" for each in validator.iter_errors(content)]


class _Handler(BaseHTTPRequestHandler):
    stub: Grafana

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._take(None)

    def do_POST(self) -> None:
        self._take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _take(self, body: Any) -> None:
        path = self.path.removeprefix(self.stub.prefix)
        call = f"{self.command} {path}"
        self.stub.calls.append(call)
        if self.stub.broken is not None:
            status, page = self.stub.broken
            self._send(status, page.encode(), "text/html")
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b'{"message": "Invalid API key"}')
        elif not self.path.startswith(f"{self.stub.prefix}/api/"):
            self._send(404, b"<html>nobody here</html>", "text/html")
        else:
            if body is not None:
                self.stub.check("requests", call, body)
            status, content = self.stub.answer(self.command, path, body)
            if status == 200:
                self.stub.check("answers", call, content)
            self._send(status, json.dumps(content).encode())

    def _send(self, status: int, content: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def grafana(prefix: str = "") -> Iterator[Grafana]:
    """Run a stub while the block runs; fails if a request or an answer was not as described."""
    stub = Grafana(prefix)
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    stub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield stub
        assert stub.complaints == []
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
