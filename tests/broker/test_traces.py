"""A cancel as a collector sees it: from the POST to the drains, in the trace of whoever asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from streams.broker import EmbeddedBroker
from tests.api.processes import ApiProcess, environment
from tests.api.running import CANCEL
from tests.broker import checker
from tests.broker.scene import Scene, wait_until
from tests.support.patience import WAIT_S

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans by OTLP over HTTP; by their service."""

    def __init__(self) -> None:
        self.spans: dict[str, list[Span]] = {}

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = values(resource.resource.attributes)["service.name"]
            self.spans.setdefault(service, []).extend(span for scope in resource.scope_spans for span in scope.spans)


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector, and where it is."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield found, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def values(attributes: Any) -> dict[str, Any]:
    return {
        item.key: item.value.string_value if item.value.HasField("string_value") else item.value.int_value
        for item in attributes
    }


def test_a_cancel_is_one_trace_from_the_post_to_its_drains(broker: EmbeddedBroker, tmp_path: Path) -> None:
    with collector() as (found, url), Scene(broker.bootstrap_servers) as scene:
        # Nothing is sent on the way: what comes is what api and worker send at their end.
        otel = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
        worker = scene.worker(traces="otlp", variables=otel)
        settings = {f"XFERQ_{name.upper()}": str(value) for name, value in scene.values.items()}
        api_env = environment({**settings, **otel, "XFERQ_TRACES": "otlp"}, tmp_path)
        with ApiProcess(api_env) as api, httpx.Client(base_url=api.url, trust_env=False, timeout=WAIT_S) as client:
            scene.put(40)
            worker.started()
            wait_until(lambda: client.get("/readyz").status_code == 200)
            asked = client.post(
                CANCEL,
                json={"queue_name": scene.queue, "reason": "test"},
                headers={"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "a=1"},
            )
            assert asked.status_code == 200, asked.text
            id = asked.headers["X-Command-Id"]
            scene.done(id)
            assert found.spans == {}
            assert api.end() == 0
        worker.terminate()
        assert worker.wait() == 0
        assert "Traceback" not in worker.log + "".join(api.log)
        assert scene.ledger().status(id)["restored"] == 40
        claims = scene.ledger().claims(scene.topic)
        commands = scene.settings.commands_topic
        records = checker.read(scene.servers, [commands])[commands]

    assert found.spans.keys() == {"xferq-api", "xferq-worker"}
    (post, publish) = sorted(found.spans["xferq-api"], key=lambda span: span.start_time_unix_nano)
    by_name: dict[str, list[Span]] = {}
    for span in found.spans["xferq-worker"]:
        by_name.setdefault(span.name, []).append(span)
    (command,), (claim,), drains = by_name[f"process {commands}"], by_name["claim"], by_name["drain"]

    assert (post.name, publish.name) == (f"POST {CANCEL}", f"publish {commands}")
    everything = [span for spans in found.spans.values() for span in spans]
    assert {span.trace_id.hex() for span in everything} == {TRACE}
    assert {span.trace_state for span in everything} == {"a=1"}
    assert post.parent_span_id.hex() == CALLER
    assert publish.parent_span_id == post.span_id
    assert command.parent_span_id == publish.span_id
    assert claim.parent_span_id == command.span_id
    assert [drain.parent_span_id for drain in drains] == [claim.span_id] * scene.settings.queue_partitions
    assert {span.parent_span_id for span in by_name["transaction"]} == {drain.span_id for drain in drains}

    assert values(post.attributes).items() >= {"http.response.status_code": 200, "xferq.command.id": id}.items()
    assert values(claim.attributes).items() >= {"xferq.command.id": id, "xferq.queue": scene.queue}.items()
    assert sum(values(drain.attributes)["xferq.restored"] for drain in drains) == 40
    # The trace travels beside the command, not in it; and to the drains in the ledger.
    (record,), (recorded,) = records, claims
    parent = f"00-{TRACE}-{publish.span_id.hex()}-01"
    assert dict(record.headers) == {"traceparent": parent.encode(), "tracestate": b"a=1"}
    assert b"trace" not in (record.value or b"")
    assert recorded["traceparent"] == f"00-{TRACE}-{claim.span_id.hex()}-01"
