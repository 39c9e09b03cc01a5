"""The Ray Serve application: one `Pipeline` a replica, with its HTTP side.

`ray_config.yaml` names `build` and gives it its `args`. The pipeline runs beside the replica's
HTTP requests, on the same event loop; a replica's work does not come through Serve's router.
"""

import asyncio
import json
import logging
import secrets
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve import metrics

from model.serving.engine import open_engine
from model.serving.predictor import Predictor
from workers.autoscale import SERVICE_RATE, BacklogPolicy
from workers.console.console import Console
from workers.console.feed import Feed, Local
from workers.console.states import replica_states
from workers.ingress import SIGNATURE_HEADER, Ingress, TooSlow, read_fields
from workers.replica.committing import NotCommitted
from workers.replica.figures import Figures
from workers.replica.lineup import Lineup
from workers.replica.pipeline import Pipeline
from workers.replica.process import prepare_process
from workers.replica.progress import PipelineStalled
from workers.replica.telemetry import Telemetry
from workers.replica.tracing import open_traces
from workers.settings import WorkerSettings
from workers.stream.redis_stream import RedisStream
from workers.wire.decision import pack_decision
from workers.wire.keyring import Keyring
from workers.wire.signing import AcceptUnsigned

_HOUSEKEEPING_S = 1.0
_JOIN_S = 5.0
_GRACE_S = 1.0

_log = logging.getLogger(__name__)
# Neither an API browser nor its schema: they tell whoever asks what can be asked.
_http = FastAPI(title="Livegate", docs_url=None, redoc_url=None, openapi_url=None)


@serve.deployment(
    # A replica reads until Serve calls `__del__`, which is once this wait is over: keep it short.
    graceful_shutdown_wait_loop_s=0.1,
    graceful_shutdown_timeout_s=20,
    health_check_period_s=2,
    health_check_timeout_s=10,
    max_ongoing_requests=64,
    # Not None: Serve then calls `reconfigure` before a replica counts as started, and again when
    # the setting is removed.
    user_config={},
)
@serve.ingress(_http)
class Worker:
    """One replica."""

    async def __init__(self, settings: WorkerSettings) -> None:  # type: ignore[misc] # Serve awaits it
        """Make the parts that do not depend on the bundle; `reconfigure` begins the work."""
        prepare_process()
        self._settings = settings
        self._keyring = Keyring(settings.camera_keys) if settings.camera_keys else None
        replica = f"{serve.get_replica_context().replica_id.unique_id}-{secrets.token_hex(3)}"
        self._stream = RedisStream(settings.stream, consumer=replica)
        self._telemetry = Telemetry(metrics, settings.decode_threads, settings.deadline_ms)
        self._figures = Figures(settings.stream, replica, self._telemetry, self._now_ms)
        self._pipeline: Pipeline
        self._running: asyncio.Task[None] | None = None
        traces = open_traces(settings.tracing, replica)
        self._lineup = Lineup(self._open_bundle, settings, self._telemetry, metrics, traces)
        self._replica = replica
        verifier = self._keyring or AcceptUnsigned()
        self._ingress = Ingress(self._figures.servers, verifier, settings, self._stream.now_ms)
        self._local = Local(
            self._now_ms,
            lambda: self._figures.backlog,
            replica_states,
            self._troubles,
            self._lineup.status,
        )
        self._console = Console(Feed(settings.stream, self._local), settings.console.token_file)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Begin with the bundles that the deployment has now, or let others take over.

        What is refused leaves the old ones at work: an error would make Serve stop a healthy
        replica. A new replica has no old ones, and does not start.
        """
        if self._running is not None:
            self._lineup.models.change(user_config)
            return
        await self._lineup.models.begin(user_config)
        await self._begin()

    async def _begin(self) -> None:
        """Start the loop; what makes the server unusable is an error of the start.

        Raises:
            workers.stream.layout.StreamError: the server can't be used; says what to change.
        """
        self._pipeline = Pipeline(
            stream=self._stream,
            predictor=self._lineup.models.deciding,
            verifier=self._keyring or AcceptUnsigned(),
            telemetry=self._telemetry,
            settings=self._settings,
            replica=self._replica,
        )
        await self._lineup.lead(self._pipeline)
        self._running = asyncio.create_task(self._pipeline.run())
        self._housekeeping = asyncio.create_task(self._keep_house())
        joined = asyncio.create_task(self._pipeline.has_joined.wait())
        # A server that is away is waited for by the loop, not here: Serve would give up.
        await asyncio.wait(
            [joined, self._running], timeout=_JOIN_S, return_when=asyncio.FIRST_COMPLETED
        )
        joined.cancel()
        if self._running.done():
            self._running.result()

    async def check_health(self) -> None:
        """Raise if the loop stands still or has ended: Serve then replaces this replica."""
        if self._running is None:
            return
        if self._running.done():
            failure = None if self._running.cancelled() else self._running.exception()
            raise PipelineStalled(f"the loop has ended: {failure!r}")
        self._pipeline.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Report the measured service rate to the autoscaling policy."""
        return {SERVICE_RATE: self._telemetry.service_rate.fps}

    async def __del__(self) -> None:
        """Drain: read no more, commit what is held, leave the group."""
        if self._running is None:
            return
        self._pipeline.drain()
        done, _ = await asyncio.wait([self._running], timeout=self._settings.drain_s)
        self._housekeeping.cancel()
        await self._lineup.aclose()
        await self._console.aclose()
        await self._figures.aclose()
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
        """Tell the backlog, what the replica that answers has done, and what each one runs."""
        backlog = self._figures.backlog
        return {
            **self._lineup.status(),
            "redis_available": self._is_redis_available(),
            "redis_findings": self._stream.findings,
            "partitions_with_far_ids": self._figures.far_ids,
            "backlog": {
                "waiting": backlog.waiting,
                "pending": backlog.pending,
                "added": backlog.added,
                "oldest_age_ms": backlog.oldest_age_ms,
            },
            "replica": {
                "name": self._replica,
                "in_flight": self._pipeline.num_in_flight,
                **self._telemetry.figures(),
            },
            "replicas": await self._figures.roster(),
            "shadow": await self._lineup.counts(self._figures.servers),
            "states": await asyncio.to_thread(self._local.replicas),
        }

    @_http.post("/v1/frames")
    async def add_frame(self, request: Request) -> Response:
        """Add one frame to the stream: its bytes `f` as the body, `s` in hex in the header."""
        if not self._stream.groups:
            return JSONResponse(
                {"error": "not_now", "detail": "not ready yet"}, 503, {"Retry-After": "1"}
            )
        return await self._ingress.take(request)

    @_http.post("/v1/decide")
    async def decide(self, request: Request) -> Response:
        """Decide one frame: its bytes `f` as the body, `s` in hex in X-Livegate-Signature.

        The answer's own header holds the door's signature of its exact bytes: JSON, or with
        `Accept: application/msgpack` those of the field `d`.
        """
        received_s = time.monotonic()
        settings = self._settings
        try:
            fields = await read_fields(request, settings.max_frame_bytes, settings.ingress.body_s)
            async with asyncio.timeout(settings.deadline_ms / 1000 + _GRACE_S):
                decided = await self._pipeline.answer(fields, received_s)
        except TooSlow as error:
            return JSONResponse({"error": "too_slow", "detail": str(error)}, 408)
        except TimeoutError:
            detail = "not decided in time: send a new frame"
            return JSONResponse({"error": "timeout", "detail": detail}, 503)
        except NotCommitted as error:
            return JSONResponse({"error": "not_committed", "detail": str(error)}, 503)
        if "application/msgpack" in request.headers.get("accept", ""):
            told, kind = pack_decision(decided.decision), "application/msgpack"
        else:
            told, kind = json.dumps(asdict(decided.decision)).encode(), "application/json"
        signature = decided.signature(told)
        headers = {SIGNATURE_HEADER: signature.hex()} if signature else None
        return Response(told, media_type=kind, headers=headers)

    @_http.api_route("/console{path:path}", methods=["GET", "POST"])
    async def console(self, request: Request, path: str) -> Response:
        """Show what is decided, camera by camera; `workers/console/console.py` has the paths."""
        return await self._console.answer(request, path)

    def _now_ms(self) -> int:
        return self._stream.now_ms(0) if self._stream.groups else int(time.time() * 1000)

    def _troubles(self) -> list[str]:
        away = "" if self._is_redis_available() else "the server of the streams can't be reached"
        refused = self._lineup.models.error
        swap = refused and f"a bundle was not taken over: {refused}"
        return [each for each in (away, *self._stream.troubles, swap) if each]

    def _open_bundle(self, folder: Path) -> Predictor:
        return open_engine(folder, self._settings.max_batch, self._settings.infer_threads)

    def _is_redis_available(self) -> bool:
        return bool(self._stream.groups) and all(
            map(self._stream.is_available, self._stream.groups)
        )

    async def _keep_house(self) -> None:
        keeping = asyncio.create_task(
            self._figures.keep(
                lambda: self._pipeline.num_in_flight, self._lineup.told, self._lineup.tally
            )
        )
        try:
            while self._keyring is not None:
                await asyncio.to_thread(self._keyring.refresh)
                await asyncio.sleep(_HOUSEKEEPING_S)
            await keeping
        finally:
            keeping.cancel()


def deployment(settings: WorkerSettings) -> serve.Deployment:
    """Return the deployment, with the autoscaling that its settings ask for.

    Serve's own delays are off: the policy has its windows.
    """
    made: serve.Deployment = Worker.options(  # type: ignore[attr-defined]
        autoscaling_config={
            "min_replicas": settings.scaling.min_replicas,
            "max_replicas": settings.scaling.max_replicas,
            "upscale_delay_s": 0,
            "downscale_delay_s": 0,
            "policy": {
                "policy_function": f"{BacklogPolicy.__module__}:{BacklogPolicy.__name__}",
                "policy_kwargs": settings.model_dump(mode="json", include={"stream", "scaling"}),
            },
        }
    )
    return made


def build(settings: WorkerSettings) -> serve.Application:
    """Return the application; `ray_config.yaml` gives the settings as `args`.

    Raises:
        pydantic.ValidationError: a setting can't be used; it names the field and the rule.
        workers.wire.keyring.KeyFileError: the camera key file can't be read.
    """
    if settings.camera_keys is not None:
        Keyring(settings.camera_keys)
    return deployment(settings).bind(settings)
