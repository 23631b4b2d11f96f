"""Spans, sent to a collector by OTLP over HTTP: the one place that imports OpenTelemetry, which is the extra `otel`.

Where the collector is, what is sampled and how much is kept is up to OpenTelemetry's own variables (`OTEL_...`). Spans
are sent by a thread of OpenTelemetry's, from a queue that drops what doesn't fit: nobody ever waits for a collector.
Nothing of it is global: other instrumentation in the process neither sees these spans nor gets in their way.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from streams import __version__
from streams.domain.trace import TraceContext
from streams.errors import Abandoned, Misconfigured, XferqError
from streams.telemetry.traces import OUTCOME, Attributes, Kind

_log = logging.getLogger(__name__)
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SHOWN = 300


def open_otlp(service: str) -> "OtlpTraces":
    """Traces that go where OpenTelemetry's variables say.

    Raises:
        Misconfigured: one of those is wrong.
    """
    try:
        return OtlpTraces(service, BatchSpanProcessor(_Outlet(OTLPSpanExporter())))
    except (ValueError, OSError) as error:
        raise Misconfigured(f"OpenTelemetry can't be used as its variables (OTEL_...) say: {error}") from None


class OtlpTraces:
    """Traces by OpenTelemetry; see `streams.telemetry.traces.Traces`."""

    def __init__(self, service: str, processor: SpanProcessor) -> None:
        self._provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("xferq", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        parent: TraceContext | None = None,
    ) -> Iterator["OtlpSpan"]:
        """A span for the block."""
        above = None if parent is None else trace.set_span_in_context(_remote(parent))
        span = self._tracer.start_span(name, above, _KINDS[kind], attributes)
        token = context.attach(trace.set_span_in_context(span))
        try:
            yield OtlpSpan(span)
        except (Abandoned, asyncio.CancelledError):
            span.set_attribute(OUTCOME, "abandoned")  # another worker goes on with it
            raise
        except BaseException as error:
            # Of our own errors the text too; that of others may hold anything.
            text = str(error)[:_SHOWN] if isinstance(error, XferqError) else None
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(StatusCode.ERROR, text)
            raise
        finally:
            context.detach(token)
            span.end()

    async def close(self, within_s: float) -> None:
        """Send what is left, on a thread that may be left behind: OpenTelemetry's own bounds are longer than a stop."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop may have ended before
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="xferq-traces", daemon=True).start()
        try:
            async with asyncio.timeout(within_s):
                await done.wait()
        except TimeoutError:
            _log.warning("traces.dropped: the collector did not take the last spans within %.1f s", within_s)


class OtlpSpan:
    """See `streams.telemetry.traces.Span`."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def trace(self) -> TraceContext | None:
        """For others to go on from; None where OpenTelemetry is switched off (OTEL_SDK_DISABLED)."""
        found = self._span.get_span_context()
        if not found.is_valid:
            return None
        state = found.trace_state.to_header()
        return TraceContext(f"{found.trace_id:032x}", f"{found.span_id:016x}", int(found.trace_flags), state)

    def set(self, attributes: Attributes) -> None:
        """Say something about it."""
        self._span.set_attributes(attributes)

    def fail(self, error: str) -> None:
        """Say that it failed."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(StatusCode.ERROR)


class _Outlet(SpanExporter):
    """OpenTelemetry's exporter, which says once that it can't send, and once that it can again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever a library raises on its own thread, spans are all that it costs
            result = SpanExportResult.FAILURE
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            _log.warning("traces.unsent: the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes no spans; they are dropped")
        elif self._fails and not fails:
            _log.info("traces.sent_again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _resource(service: str) -> Resource:
    found = Resource.create({SERVICE_VERSION: __version__})
    # As OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has it; else OpenTelemetry makes up "unknown_service".
    if OTEL_SERVICE_NAME in os.environ or not str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return found
    return found.merge(Resource({SERVICE_NAME: service}))


def _remote(parent: TraceContext) -> trace.Span:
    state = trace.TraceState.from_header([parent.state]) if parent.state else None
    flags = trace.TraceFlags(parent.flags)
    return trace.NonRecordingSpan(
        trace.SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, flags, state)
    )
