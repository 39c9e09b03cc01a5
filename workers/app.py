"""The Ray Serve application: one `Pipeline` a replica, with its HTTP side.

`ray_config.yaml` names `build` and gives it its `args`. The pipeline runs beside the replica's
HTTP requests, on the same event loop; a replica's work does not come through Serve's router.
"""

import asyncio
import logging
import secrets
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve import metrics

from model.serving.predictor import Predictor
from workers.autoscale import SERVICE_RATE
from workers.replica.committing import NotCommitted
from workers.replica.pipeline import Pipeline
from workers.replica.progress import PipelineStalled
from workers.replica.telemetry import Telemetry
from workers.settings import WorkerSettings
from workers.stream.backlog import NOTHING, read_backlog, total
from workers.stream.connection import connect
from workers.stream.failure import FAILURES
from workers.stream.redis_stream import RedisStream
from workers.wire.signing import AcceptUnsigned, Keyring

_HOUSEKEEPING_S = 1.0

_log = logging.getLogger("ray.serve")
_http = FastAPI(title="Livegate", description="Face presentation attack detection, by replica.")


@serve.deployment(
    # A replica reads until Serve calls `__del__`, which is once this wait is over: keep it short.
    graceful_shutdown_wait_loop_s=0.1,
    graceful_shutdown_timeout_s=20,
    health_check_period_s=2,
    health_check_timeout_s=10,
    max_ongoing_requests=64,
)
@serve.ingress(_http)
class Worker:
    """One replica."""

    async def __init__(self, settings: WorkerSettings) -> None:  # type: ignore[misc] # Serve awaits it
        """Load the bundle, run its self-test, and begin to work."""
        self._settings = settings
        self._keyring = Keyring(settings.camera_keys) if settings.camera_keys else None
        replica = f"{serve.get_replica_context().replica_id.unique_id}-{secrets.token_hex(3)}"
        self._stream = RedisStream(settings.stream, consumer=replica)
        self._figures_client = connect(settings.stream.url, cluster=settings.stream.cluster)
        self._backlog = NOTHING
        self._telemetry = Telemetry(metrics, settings.decode_threads)
        self._pipeline = Pipeline(
            stream=self._stream,
            predictor=await asyncio.to_thread(self._load, settings.bundle),
            verifier=self._keyring or AcceptUnsigned(),
            telemetry=self._telemetry,
            settings=settings,
            replica=replica,
        )
        self._replica = replica
        self._running = asyncio.create_task(self._pipeline.run())
        self._housekeeping = asyncio.create_task(self._keep_figures())

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Swap the bundle between two batches, once the new one passed its self-test."""
        if bundle := user_config.get("bundle"):
            self._pipeline.predictor = await asyncio.to_thread(self._load, bundle)

    async def check_health(self) -> None:
        """Raise if the loop stands still or has ended: Serve then replaces this replica."""
        if self._running.done():
            raise PipelineStalled(f"the loop has ended: {self._running}")
        self._pipeline.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the measured service rate to the autoscaling policy."""
        return {SERVICE_RATE: self._telemetry.service_rate.fps}

    async def __del__(self) -> None:
        """Drain: read no more, commit what is held, leave the group."""
        self._pipeline.drain()
        done, _ = await asyncio.wait([self._running], timeout=self._settings.drain_s)
        self._housekeeping.cancel()
        with suppress(*FAILURES):
            await self._figures_client.aclose()
        if not done:
            # Nothing is lost: what is still held is taken over by another replica.
            _log.warning("not drained in time, %d frames in flight", self._pipeline.num_in_flight)

    @_http.get("/healthz")
    async def healthz(self) -> Response:
        """Say whether this replica's loop makes headway: 200 or 503."""
        try:
            await self.check_health()
        except PipelineStalled as stalled:
            return JSONResponse({"status": "stalled", "detail": str(stalled)}, 503)
        return JSONResponse({"status": "ok"})

    @_http.get("/readyz")
    async def readyz(self) -> Response:
        """Say whether this replica can decide now: 200, or 503 and what stands in the way."""
        if not self._is_redis_available():
            return JSONResponse({"status": "redis can't be reached"}, 503)
        if self._stream.troubles:
            return JSONResponse({"status": "; ".join(self._stream.troubles)}, 503)
        return JSONResponse({"status": "ready"})

    @_http.get("/v1/status")
    async def status(self) -> dict[str, Any]:
        """Tell the backlog of all partitions, and what the replica that answers has done."""
        return {
            "model": self._pipeline.predictor.model_id,
            "redis_available": self._is_redis_available(),
            "redis_findings": self._stream.findings,
            "backlog": {
                "waiting": self._backlog.waiting,
                "pending": self._backlog.pending,
                "added": self._backlog.added,
                "oldest_age_ms": self._backlog.oldest_age_ms,
            },
            "replica": {
                "name": self._replica,
                "in_flight": self._pipeline.num_in_flight,
                **self._telemetry.figures(),
            },
        }

    @_http.post("/v1/decide")
    async def decide(self, request: Request) -> Response:
        """Decide one frame: its bytes `f` as the body, `s` in hex in X-Livegate-Signature."""
        received_s = time.monotonic()
        body = bytearray()
        async for chunk in request.stream():
            if len(body) <= self._settings.max_frame_bytes:
                body += chunk  # once it is too large, the rest is read and dropped
        fields = {b"f": bytes(body)}
        signature = request.headers.get("x-livegate-signature")
        if signature is not None:
            try:
                fields[b"s"] = bytes.fromhex(signature)
            except ValueError:
                fields[b"s"] = b""
        try:
            decision = await self._pipeline.decide(fields, received_s)
        except NotCommitted as error:
            return JSONResponse({"detail": str(error)}, 503)
        return JSONResponse(asdict(decision))

    def _load(self, bundle: str) -> Predictor:
        # Here, not above: Serve imports this module in several processes, and torch takes seconds.
        from model.serving.bundle import find_bundle, load_bundle  # noqa: PLC0415
        from model.serving.engine import Engine  # noqa: PLC0415

        return Engine(
            load_bundle(find_bundle(bundle)),
            max_batch=self._settings.max_batch,
            num_threads=self._settings.infer_threads,
        )

    def _is_redis_available(self) -> bool:
        return bool(self._stream.groups) and all(
            map(self._stream.is_available, self._stream.groups)
        )

    async def _keep_figures(self) -> None:
        while True:
            if self._keyring is not None:
                await asyncio.to_thread(self._keyring.refresh)
            with suppress(*FAILURES):
                partitions = range(self._settings.stream.partitions)
                self._backlog = total(await read_backlog(self._figures_client, partitions))
            self._telemetry.gauge(
                {
                    "in_flight": self._pipeline.num_in_flight,
                    "pending": self._backlog.pending,
                    "waiting": self._backlog.waiting,
                    "oldest_age_ms": self._backlog.oldest_age_ms,
                    "service_rate_fps": self._telemetry.service_rate.fps,
                }
            )
            await asyncio.sleep(_HOUSEKEEPING_S)


def build(settings: WorkerSettings) -> serve.Application:
    """Return the application; `ray_config.yaml` gives the settings as `args`.

    Raises:
        pydantic.ValidationError: a setting can't be used; it names the field and the rule.
        workers.wire.signing.KeyFileError: the camera key file can't be read.
    """
    if settings.camera_keys is not None:
        Keyring(settings.camera_keys)
    application: serve.Application = Worker.bind(settings)  # type: ignore[attr-defined]
    return application
