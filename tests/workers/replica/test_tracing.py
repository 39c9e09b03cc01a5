"""Traces: one a frame, its stages one after the other; and none where none is asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from tests.workers import frames
from tests.workers.replica.bench import Bench, decide_all
from workers.replica.models import is_in_share
from workers.replica.tracing import Traces, open_traces, trace_id
from workers.settings import TracingSettings
from workers.wire.frame import pack_frame


async def test_a_frame_is_a_trace_from_its_stamp_to_its_decision(bench: Bench) -> None:
    kept, share = InMemorySpanExporter(), 0.5
    traces = Traces(kept, share, "replica")
    replica = bench.replica()
    replica.on_judged = traces.show
    for seq in range(12):
        bench.add(seq=seq, captured_at_ms=bench.server.clock.now_ms - 40)
    bench.add(frames.fields(pack_frame(frames.frame("gate-1", 99, 0)), key=b"x" * 32))
    decisions = {each.seq: each for each in await decide_all(bench, replica)}
    traces.close()
    spans = kept.get_finished_spans()
    roots = {span.attributes["livegate.seq"]: span for span in spans if span.name == "frame"}
    chosen = [seq for seq in range(12) if is_in_share(f"gate-1/{seq}", share)]
    assert set(roots) == set(map(str, chosen))
    for seq in chosen:
        root = roots[str(seq)]
        assert root.context.trace_id == trace_id("gate-1", seq)
        inside = [span for span in spans if span.parent and span.parent == root.context]
        names = [span.name for span in inside]
        assert names == ["uplink", "queue", "decode", "batch", "infer", "commit"]
        assert inside[0].end_time - inside[0].start_time == 40_000_000
        for one, other in pairwise(inside):
            assert one.end_time == other.start_time
        assert (root.start_time, root.end_time) == (inside[0].start_time, inside[-1].end_time)
        took_ms = sum(decisions[seq].timing_ms[name] for name in names[1:])
        assert (root.end_time - root.start_time) / 1e6 == pytest.approx(40 + took_ms, abs=0.01)
        assert root.attributes["livegate.outcome"] == "bona_fide"


@contextmanager
def collector(received: list[ExportTraceServiceRequest]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_collector_is_sent_them_by_otlp(bench: Bench) -> None:
    received: list[ExportTraceServiceRequest] = []
    with collector(received) as endpoint:
        traces = open_traces(TracingSettings(endpoint=endpoint, share=1.0), "replica-1")
        assert traces is not None
        replica = bench.replica()
        replica.on_judged = traces.show
        bench.add()
        await decide_all(bench, replica)
        traces.close()
    (sent,) = received[0].resource_spans
    assert "replica-1" in str(sent.resource)
    assert {span.name for span in sent.scope_spans[0].spans} >= {"frame", "infer"}


def test_without_an_endpoint_there_are_none() -> None:
    assert open_traces(TracingSettings(), "replica") is None
    for wrong in ("collector:4318", "http://user:geheim@host/v1/traces"):
        with pytest.raises(ValidationError) as found:
            TracingSettings(endpoint=wrong)
        assert "geheim" not in str(found.value)
