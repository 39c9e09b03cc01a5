"""Ray Serve's REST side: one place of what is deployed is changed, all else is put back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from deploy.local.config import CONFIG
from deploy.local.environment import import_ray
from deploy.models.control import ControlError, ServeControl

TOKEN = "0123456789abcdef" * 4


class Rest:
    """Answers as the dashboard of Ray 2.60 does, and checks what is put by Serve's own schema."""

    def __init__(self) -> None:
        ours = yaml.safe_load(CONFIG.read_text())["applications"][0]
        self.details: dict[str, Any] = {
            "controller_info": {"node_id": "n"},
            "proxies": {},
            "proxy_location": "EveryNode",
            "http_options": {"host": "192.0.2.1", "port": 8000},
            "grpc_options": {"port": 9000, "grpc_servicer_functions": []},
            "target_capacity": None,
            "applications": {
                "livegate": {"name": "livegate", "deployed_app_config": ours},
                "other": {
                    "name": "other",
                    "deployed_app_config": {
                        "name": "other",
                        "import_path": "a:b",
                        "route_prefix": "/b",
                    },
                },
            },
        }
        self.put: list[dict[str, Any]] = []
        self.status = 200

    @property
    def ours(self) -> dict[str, Any]:
        return dict(self.details["applications"]["livegate"]["deployed_app_config"])


@contextmanager
def served(rest: Rest) -> Iterator[str]:
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(json.dumps(rest.details))

        def do_PUT(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            ServeDeploySchema.model_validate(content)
            rest.put.append(content)
            for each in content["applications"]:
                rest.details["applications"][each["name"]]["deployed_app_config"] = each
            self._answer("")

        def _answer(self, text: str) -> None:
            is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            self.send_response(rest.status if is_known else 401)
            self.end_headers()
            self.wfile.write(text.encode() if rest.status == 200 else b"why\nlast line")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Rest:
    import_ray()
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    return Rest()


def test_one_place_is_changed_and_all_else_put_back(rest: Rest) -> None:
    before = rest.ours
    with served(rest) as url:
        control = ServeControl(url)
        assert control.user_config() == {}
        control.set_user_config({"bundle": "s3://m/x@0123456789ab"})
        assert control.user_config() == {"bundle": "s3://m/x@0123456789ab"}
        control.set_user_config({})
    first, last = rest.put
    names = {"applications", "proxy_location", "http_options", "grpc_options"}
    assert set(first) == names
    assert {each["name"] for each in first["applications"]} == {"livegate", "other"}
    assert last["http_options"] == {"host": "192.0.2.1", "port": 8000}
    worker = {**before["deployments"][0], "user_config": {}}
    assert last["applications"][0] == {**before, "deployments": [worker]}


def test_what_can_not_be_changed_is_told_in_a_line(
    rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(url: str) -> str:
        with pytest.raises(ControlError) as found:
            ServeControl(url).set_user_config({})
        assert TOKEN not in str(found.value)
        assert len(str(found.value).splitlines()) == 1
        return str(found.value)

    with served(rest) as url:
        rest.status = 503
        assert "503: last line" in refused(url)
        rest.status = 200
        rest.details["applications"]["other"]["deployed_app_config"] = None
        assert "'other' was not deployed from a config" in refused(url)
        del rest.details["applications"]["other"]
        rest.ours["deployments"][0]["name"] = "Other"
        assert "has 0 deployments of Livegate" in refused(url)
        rest.details = {"anything": 1}
        assert "is no REST side" in refused(url)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
        assert "wants Ray's token" in refused(url)
    assert "does not answer" in refused(url)
    assert rest.put == []
