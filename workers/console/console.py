"""The console's HTTP side: a page, its parts, a stream of updates, and who may see them.

| path                | what                                                               |
| ------------------- | ------------------------------------------------------------------ |
| `/console/`          | the page; its parts beside it                                      |
| `/console/updates`   | server-sent events, one a second                                   |
| `/console/history`   | the last decisions of `?camera=`                                   |
| `/console/login`     | takes the token, gives a cookie                                    |

With a token file, whoever has the token may look, once as `Authorization: Bearer` or in the form.
Without one, only a browser on this machine may: a name other than loopback's in `Host` is a page
that was led here (DNS rebinding), and a proxy is somebody else.
"""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import AsyncIterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, format_sse_event

from workers.console.feed import Feed
from workers.stream.failure import FAILURES
from workers.wire.frame import CAMERA_ID

_COOKIE = "livegate_console"
_MAX_LOOKERS = 16  # of one replica: its places are for frames
# Shorter than Serve's grace for a replica that is to stop: it waits for open requests.
_UPDATES_S = 8.0
_MAX_FORM_BYTES = 1024
_KIND = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Console:
    """Answers the console's requests of one replica."""

    def __init__(self, feed: Feed, token_file: Path | None) -> None:
        """Read nothing yet.

        Args:
            feed: what is shown.
            token_file: holds the token; None: the console is for this machine alone.
        """
        self._feed = feed
        self._token_file = token_file
        self._num_lookers = 0

    async def aclose(self) -> None:
        """End what runs for those who look."""
        await self._feed.aclose()

    async def answer(self, request: Request, path: str) -> Response:
        """Answer one request; `path` is what follows `/console`."""
        if path == "":
            return RedirectResponse(request.url.path.rpartition("/")[2] + "/", 307)
        if path in ("/console.css", "/icon.svg"):
            return _static(request, path[1:])
        if path == "/login":
            return await self._login(request)
        if not self._may_look(request):
            return self._refusal(request, path)
        if path == "/history":
            return await self._history(request)
        return self._updates(request) if path == "/updates" else _static(request, path[1:])

    def _may_look(self, request: Request) -> bool:
        if self._token_file is None:
            return _is_local(request)
        token = self._token()
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode()):
            return True
        cookie = request.cookies.get(_COOKIE, "")
        return hmac.compare_digest(cookie.encode(), _cookie_of(token).encode())

    def _token(self) -> str:
        assert self._token_file is not None  # noqa: S101 - asked before
        token = self._token_file.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"{self._token_file} holds no token")
        return token

    def _refusal(self, request: Request, path: str) -> Response:
        if self._token_file is None:
            detail = (
                "the console is for this machine alone: set console.token_file to let others in"
            )
            return JSONResponse({"error": "forbidden", "detail": detail}, 403)
        if path in ("/", "/index.html"):
            return _static(request, "login.html", 401)
        return JSONResponse({"error": "no_token", "detail": "see /console/"}, 401)

    async def _login(self, request: Request) -> Response:
        """Take the token of the form; the cookie is made from it, and is not it."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_FORM_BYTES:
                break
        given = parse_qs(body[:_MAX_FORM_BYTES].decode(errors="replace")).get("token", [""])[0]
        if self._token_file is None or request.method != "POST":
            return RedirectResponse("./", 303)
        if not hmac.compare_digest(given.strip().encode(), self._token().encode()):
            return _static(request, "login.html", 401)
        response = RedirectResponse("./", 303)
        response.set_cookie(
            _COOKIE,
            _cookie_of(self._token()),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
            path=request.url.path.rpartition("/")[0] or "/",
        )
        return response

    def _updates(self, request: Request) -> Response:
        if self._num_lookers >= _MAX_LOOKERS:
            detail = f"{_MAX_LOOKERS} consoles are open on this replica"
            return JSONResponse({"error": "too_many", "detail": detail}, 503, {"Retry-After": "5"})
        last = request.headers.get("last-event-id", "")
        since_ms = int(last) if last.isdecimal() and len(last) < 16 else 0
        return EventSourceResponse(
            self._events(since_ms),
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _events(self, since_ms: int) -> AsyncIterator[bytes]:
        self._num_lookers += 1
        try:
            yield format_sse_event(retry=200, comment="Livegate")
            async for update in self._feed.updates(since_ms, _UPDATES_S):
                data = json.dumps(update, separators=(",", ":"), allow_nan=False)
                yield format_sse_event(data_str=data, id=str(update["now"]))
        finally:
            self._num_lookers -= 1

    async def _history(self, request: Request) -> Response:
        camera_id = request.query_params.get("camera", "")
        if not CAMERA_ID.fullmatch(camera_id):
            return JSONResponse({"error": "malformed", "detail": "camera is no camera id"}, 400)
        try:
            return JSONResponse(await self._feed.history(camera_id))
        except FAILURES:
            return JSONResponse({"error": "not_now", "detail": "the streams can't be read"}, 503)


def _cookie_of(token: str) -> str:
    return hmac.new(token.encode(), b"livegate console v1", hashlib.sha256).hexdigest()


def _is_local(request: Request) -> bool:
    if any(name in request.headers for name in _PROXIED):
        return False
    host = request.url.hostname or ""
    client = request.client.host if request.client else ""
    return _is_loopback(client) and (host == "localhost" or _is_loopback(host))


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """Return content and hash of all parts of the page, by name."""
    found = {}
    for each in (files("workers.console") / "static").iterdir():
        content = each.read_bytes()
        found[each.name] = (content, hashlib.sha256(content).hexdigest()[:16])
    return found


def _static(request: Request, name: str, status: int = 200) -> Response:
    name = name or "index.html"
    kind = _KIND.get(Path(name).suffix)
    if kind is None or name not in _files():
        return JSONResponse({"error": "not_found", "detail": "no such part"}, 404)
    content, digest = _files()[name]
    headers = {**_HEADERS, "ETag": f'"{digest}"'}
    if status == 200 and request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, status, headers, media_type=kind)
