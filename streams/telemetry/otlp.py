"""Spans to a collector by OTLP over HTTP: the one place that imports OpenTelemetry's SDK, which is the extra `otel`.

OpenTelemetry's own variables (`OTEL_...`) say where the collector is, what is sampled and how much is kept. A thread of
OpenTelemetry's sends the spans, from a queue that drops what doesn't fit: nothing ever waits for a collector.
"""

import logging
import os
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import OTEL_SERVICE_NAME
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from streams import __version__

_log = logging.getLogger(__name__)


def open_provider(service: str) -> TracerProvider:
    """What makes spans that go to the collector.

    Raises:
        ValueError, OSError: a variable of OpenTelemetry's is wrong.
    """
    provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Outlet()))
    return provider


class _Outlet(OTLPSpanExporter):
    """OpenTelemetry's exporter, which says once that it can't send, and once that it can again."""

    _fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = super().export(spans)
        except Exception:  # noqa: BLE001 - whatever a library raises on its own thread, spans are all that it costs
            result = SpanExportResult.FAILURE
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            _log.warning("traces.unsent: the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes no spans; they are dropped")
        elif self._fails and not fails:
            _log.info("traces.sent_again")
        self._fails = fails
        return result


def _resource(service: str) -> Resource:
    found = Resource.create({SERVICE_VERSION: __version__})
    # As OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has it; else OpenTelemetry makes up "unknown_service".
    if OTEL_SERVICE_NAME in os.environ or not str(found.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        return found
    return found.merge(Resource({SERVICE_NAME: service}))
