"""Traces of frames for OpenTelemetry: where the time went, from the camera's stamp to the decision.

Off, unless `tracing.endpoint` is set. A trace is made of what the decision tells anyway, once it is
made, and sent by a thread of OpenTelemetry's that drops what it has no room for: no frame waits.
Its id is the hash of camera and seq (`trace_id`), so a camera or a door can add spans of its own to
it without a word about it on the wire.
"""

import hashlib
from typing import TYPE_CHECKING, Any

from workers.errors import WorkerError
from workers.replica.in_flight import Decided
from workers.replica.models import is_in_share
from workers.settings import TracingSettings
from workers.wire.decision import Decision

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_STAGES = ("queue", "decode", "batch", "infer", "commit")


class TracingError(WorkerError):
    """Traces are asked for, and can't be had; the message says what to install."""


def trace_id(camera_id: str, seq: int) -> int:
    """Return the id of a frame's trace, 128 bits."""
    return int.from_bytes(hashlib.sha256(f"{camera_id}/{seq}".encode()).digest()[:16])


class Traces:
    """Sends traces of a share of the frames."""

    def __init__(self, exporter: "SpanExporter", share: float, replica: str) -> None:
        """Start the thread that sends.

        Args:
            exporter: where to.
            share: of the frames, [0, 1], by camera and seq: the same on every replica.
            replica: its name.
        """
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - of an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

        class Ids(RandomIdGenerator):
            next_trace_id = 1

            def generate_trace_id(self) -> int:
                return self.next_trace_id

        self._share = share
        self._ids = Ids()
        resource = Resource.create({"service.name": "livegate", "service.instance.id": replica})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("livegate")

    def show(self, decided: Decided) -> None:
        """Tell of a frame whose origin is proven, if it is in the share; never waits."""
        decision = decided.decision
        if decided.frame.proof is None or decision.camera_id is None or decision.seq is None:
            return
        if is_in_share(f"{decision.camera_id}/{decision.seq}", self._share):
            self._ids.next_trace_id = trace_id(decision.camera_id, decision.seq)
            self._tell(decision, decided.frame.arrived_at_ms)

    def close(self) -> None:
        """Send what is left, and end the thread."""
        self._provider.shutdown()

    def _tell(self, decision: Decision, arrived_at_ms: int) -> None:
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        at_ms = float(arrived_at_ms)
        stages = [("uplink", float(min(decision.captured_at_ms or at_ms, at_ms)), at_ms)]
        for stage in _STAGES:
            took_ms = decision.timing_ms.get(stage)
            if took_ms is not None:
                stages.append((stage, at_ms, at_ms + took_ms))
                at_ms += took_ms
        frame = self._tracer.start_span(
            "frame", start_time=_ns(stages[0][1]), attributes=_attributes(decision)
        )
        inside = set_span_in_context(frame)
        for stage, start_ms, end_ms in stages:
            span = self._tracer.start_span(stage, inside, start_time=_ns(start_ms))
            span.end(_ns(end_ms))
        frame.end(_ns(at_ms))


def open_traces(settings: TracingSettings, replica: str) -> Traces | None:
    """Return what sends traces to the deployment's collector; None: none are asked for.

    Raises:
        TracingError: the extra is not installed.
    """
    if settings.endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise TracingError(
            f"tracing.endpoint needs the extra `tracing`: pip install 'livegate[tracing]' ({error})"
        ) from error
    return Traces(OTLPSpanExporter(endpoint=settings.endpoint), settings.share, replica)


def _attributes(decision: Decision) -> dict[str, Any]:
    told = {
        "livegate.camera": decision.camera_id,
        "livegate.seq": str(decision.seq),
        "livegate.outcome": str(decision.outcome),
        "livegate.reason": decision.reason and str(decision.reason),
        "livegate.score": decision.score,
        "livegate.model": decision.model,
        "livegate.batch_size": decision.batch_size,
        "livegate.entry_id": decision.entry_id,
    }
    return {name: value for name, value in told.items() if value not in (None, "")}


def _ns(at_ms: float) -> int:
    return round(at_ms * 1000) * 1000  # a float holds microseconds of this century, not their parts
