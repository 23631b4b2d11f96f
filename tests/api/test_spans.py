"""Spans of requests: of those who may ask, for what asks for a command, whatever they say of a trace."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from api import app as api_app
from streams.settings.settings import Settings
from streams.telemetry import traces
from tests.api.running import CANCEL, START, running

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"
BODIES = {
    CANCEL: {"queue_name": "http://x.example/.xfer.kumomta.internal", "reason": "why"},
    START: {"target": "http://x.example", "reason": "why"},
}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where the spans of an API go that is made in this test."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(traces, "_tracer", provider.get_tracer("xferq"))
    return kept


async def spans_of(
    kept: InMemorySpanExporter, status: int, path: str = CANCEL, parent: str = PARENT, address: str = "127.0.0.1"
) -> Sequence[ReadableSpan]:
    """What a request to an API without Kafka leaves, which gets this status."""
    app = api_app.create_app(Settings(bootstrap_servers="127.0.0.1:1", api_names=("xferq",)))
    async with running(app, is_ready=False, address=address) as client:
        answer = await client.post(path, json=BODIES.get(path, {}), headers={"traceparent": parent})
        assert answer.status_code == status, answer.text
    return kept.get_finished_spans()


@pytest.mark.parametrize("path", [CANCEL, START])
async def test_a_request_goes_on_with_its_callers_trace(kept: InMemorySpanExporter, path: str) -> None:
    (span,) = await spans_of(kept, 503, path)
    assert (span.name, span.kind) == (f"POST {path}", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == SPAN
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": path,
        "url.path": path,
        "url.scheme": "http",
        "http.response.status_code": 503,
        "error.type": "503",
    }
    assert span.status.status_code == StatusCode.ERROR


@pytest.mark.parametrize(
    "parent", ["", "00-x", f"{PARENT}-x", PARENT.upper(), PARENT * 1_000], ids=lambda text: text[:60]
)
async def test_what_is_no_trace_is_passed_over(
    kept: InMemorySpanExporter, parent: str, caplog: pytest.LogCaptureFixture
) -> None:
    (span,) = await spans_of(kept, 503, parent=parent)
    assert span.parent is None
    assert f"{span.context.trace_id:032x}" != TRACE
    assert TRACE not in caplog.text.lower()


async def test_who_may_not_ask_leaves_no_span(kept: InMemorySpanExporter) -> None:
    assert await spans_of(kept, 401, address="192.0.2.1") == ()


async def test_what_asks_for_no_command_leaves_none(kept: InMemorySpanExporter) -> None:
    assert await spans_of(kept, 404, "/nothing") == ()
