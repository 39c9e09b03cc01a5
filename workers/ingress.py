"""The ingress, `POST /v1/frames`: checks what a camera posts, and alone adds it to the stream.

Redis can't keep whoever may add entries from trimming a stream away, choosing their ids, or filling
the server. So a camera that is not trusted has no account there and posts here:

| step   | refused with                                                             |
| ------ | ------------------------------------------------------------------------ |
| read   | 413 `too_large`, 408 `too_slow`                                            |
| verify | 401 `bad_signature`, 403 `unknown_camera`, 400 `malformed`                  |
| age    | 422 `expired`, 400 `malformed` for one from the future                     |
| rate   | 429 `too_fast`, with Retry-After                                           |
| add    | 503 `not_now`, with Retry-After; 504 `unknown`: it may or may not be there |

A replay is left to the commit, which alone knows all seqs of a camera, however they came. What a
replayed frame costs is a place in its own camera's rate, for that is counted once it is proven.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping

from fastapi import Request
from fastapi.responses import JSONResponse

from workers.errors import WorkerError
from workers.settings import WorkerSettings
from workers.stream.connection import Servers
from workers.stream.failure import FAILURES, failure_of
from workers.stream.scripts import packed, script
from workers.wire import keys
from workers.wire.decision import Reason
from workers.wire.frame import CODECS, Frame, peek_camera_id, take_fields, unpack_frame
from workers.wire.refusal import ClockAhead, Expired, FrameRefused
from workers.wire.signing import Verifier

SIGNATURE_HEADER = "x-livegate-signature"
# Of a body that is too large, this much is read and dropped, so that its sender reads the answer.
_MAX_DRAINED_BYTES = 8 << 20
_STATUS: Mapping[Reason, int] = {
    Reason.TOO_LARGE: 413,
    Reason.BAD_SIGNATURE: 401,
    Reason.UNKNOWN_CAMERA: 403,
    Reason.MALFORMED: 400,
    Reason.EXPIRED: 422,
}

_log = logging.getLogger(__name__)


class TooSlow(WorkerError):
    """A request took too long to arrive."""


class Ingress:
    """Takes frames of cameras that may not write to the server."""

    def __init__(
        self,
        servers: Servers,
        verifier: Verifier,
        settings: WorkerSettings,
        now_ms: Callable[[int], int],
    ) -> None:
        """Take nothing yet.

        Args:
            servers: where the frames go.
            verifier: of their signatures.
            settings: of the deployment.
            now_ms: the clock of a partition's server, Unix ms.
        """
        self._servers = servers
        self._verifier = verifier
        self._settings = settings
        self._now_ms = now_ms

    async def take(self, request: Request) -> JSONResponse:
        """Answer one request: 202 and the entry's id, or why not."""
        try:
            fields = await read_fields(
                request, self._settings.max_frame_bytes, self._settings.ingress.body_s
            )
            frame = await asyncio.to_thread(self._proven, fields)
            self._check_age(frame)
        except FrameRefused as refused:
            return _refusal(_STATUS[refused.reason], refused.reason, str(refused))
        except TooSlow as error:
            return _refusal(408, "too_slow", str(error))
        return await self._add(frame, fields)

    def _proven(self, fields: Mapping[bytes, bytes]) -> Frame:
        body, signature = take_fields(fields, self._settings.max_frame_bytes)
        self._verifier.verify(peek_camera_id(body), body, signature)
        return unpack_frame(body)

    def _check_age(self, frame: Frame) -> None:
        now_ms = self._now_ms(self._partition(frame))
        age_ms = now_ms - frame.captured_at_ms
        if age_ms > self._settings.deadline_ms:
            raise Expired(f"captured_at_ms is {age_ms} ms ago: send new frames, set the clock")
        if -age_ms > self._settings.max_clock_skew_ms:
            raise ClockAhead(f"captured_at_ms is {-age_ms} ms ahead: set the camera's clock")

    async def _add(self, frame: Frame, fields: Mapping[bytes, bytes]) -> JSONResponse:
        partition, rule = self._partition(frame), self._settings.ingress
        names = [keys.frames(partition), keys.rate(partition, frame.camera_id)]
        named = {"camera": frame.camera_id, "seq": frame.seq}
        period_ms = 1000 / rule.max_fps
        shared = packed(period_ms=period_ms, burst_ms=period_ms * rule.burst)
        flat = [part for pair in fields.items() for part in pair]
        try:
            answer = await self._servers.run(script("ingest"), names, [shared, *flat])
        except FAILURES as error:
            failure = failure_of(error)
            if failure.may_have_run:
                detail = "the server's answer got lost: do not send this frame again"
                return _refusal(504, "unknown", detail)
            if not failure.is_transient:
                _log.error("%s: not added: %s", names[0], error, extra=named)
            return _refusal(503, "not_now", "the stream takes no frames for now", 1000)
        if isinstance(answer, int):
            return _refusal(429, "too_fast", f"at most {rule.max_fps:g} frames a second", answer)
        if isinstance(answer, list):
            _log.error("%s: not added: %s", names[0], answer[0], extra=named)
            return _refusal(503, "not_now", "the stream takes no frames for now", 1000)
        entry_id = answer.decode()
        content = {
            "entry_id": entry_id,
            "camera_id": frame.camera_id,
            "seq": frame.seq,
            "codecs": CODECS,
        }
        return JSONResponse(content, 202)

    def _partition(self, frame: Frame) -> int:
        return keys.partition_of(frame.camera_id, self._settings.stream.partitions)


async def read_fields(request: Request, max_bytes: int, body_s: float) -> dict[bytes, bytes]:
    """Return a request's body as the field `f`, and `s` from its header.

    Of a body that is too large, one byte more than `max_bytes` is kept: enough to be refused.

    Raises:
        TooSlow: it did not arrive within `body_s`.
    """
    body, num_bytes = bytearray(), 0
    try:
        async with asyncio.timeout(body_s):
            async for chunk in request.stream():
                body += chunk[: max_bytes + 1 - len(body)]
                num_bytes += len(chunk)
                if num_bytes > max_bytes + _MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise TooSlow(f"the request did not arrive within {body_s:g} s") from None
    fields = {b"f": bytes(body)}
    signature = request.headers.get(SIGNATURE_HEADER)
    if signature is not None:
        try:
            fields[b"s"] = bytes.fromhex(signature)
        except ValueError:
            fields[b"s"] = b""
    return fields


def _refusal(status: int, error: str, detail: str, wait_ms: int | None = None) -> JSONResponse:
    content: dict[str, str | int] = {"error": error, "detail": detail}
    headers = {}
    if wait_ms is not None:
        content["retry_after_ms"] = wait_ms
        headers["Retry-After"] = str(max(1, math.ceil(wait_ms / 1000)))
    return JSONResponse(content, status, headers)
