"""Traces: spans by OpenTelemetry's API, which do nothing until `open_traces` brings its SDK, the extra `otel`.

There is one for each command, claim, range and transaction; never for a message. The tracer is xferq's own, not
OpenTelemetry's global one: other instrumentation in the process (as FastAPI's) neither sees these spans nor adds any.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Literal

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streams import __version__
from streams.errors import Misconfigured, Revoked, XferqError
from streams.settings.watching import WatchingSettings

_log = logging.getLogger(__name__)

COMMAND_ID = "xferq.command.id"
OUTCOME = "xferq.outcome"
QUEUE = "xferq.queue"

_MAX_ERROR = 300
_PROPAGATOR = TraceContextTextMapPropagator()
_tracer: Tracer | None = None
_shut_down: Callable[[], None] | None = None


def open_traces(settings: WatchingSettings, service: str) -> None:
    """Send the spans of this process where OpenTelemetry's variables say, if the settings want traces.

    Args:
        service: the name of this process in them, unless OTEL_SERVICE_NAME has one.

    Raises:
        Misconfigured: they are on and the extra `otel` is not installed, or a variable of OpenTelemetry's is wrong.
    """
    global _tracer, _shut_down
    if settings.traces == "none":
        return
    try:
        from streams.telemetry.otlp import open_provider

        provider = open_provider(service)
    except ImportError as error:
        raise Misconfigured(
            f"XFERQ_TRACES is {settings.traces}, but this installation has no OpenTelemetry ({error.name} missing): "
            "pip install 'xferq[otel]' adds it"
        ) from None
    except (ValueError, OSError) as error:  # some are looked at when the SDK is imported
        raise Misconfigured(f"OpenTelemetry can't be used as its variables (OTEL_...) say: {error}") from None
    _tracer, _shut_down = provider.get_tracer("xferq", __version__), provider.shutdown


async def close_traces(within_s: float) -> None:
    """Send the spans that are left, in `within_s` seconds at most; drop what is left then.

    On a thread that may be left behind, as OpenTelemetry's own bounds are longer than the end of a process may take.
    """
    if _shut_down is None:
        return
    shut_down, loop, done = _shut_down, asyncio.get_running_loop(), asyncio.Event()

    def send() -> None:
        shut_down()
        with suppress(RuntimeError):  # the loop may have ended before
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=send, name="xferq-traces", daemon=True).start()
    try:
        async with asyncio.timeout(within_s):
            await done.wait()
    except TimeoutError:
        _log.warning("traces.dropped: the collector did not take the last spans within %.1f s", within_s)


@contextmanager
def span(
    name: str,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
    parent: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """A span for the block; a block that raises has failed.

    Args:
        name: one of few different ones.
        parent: the trace context of a span in another process; without one: the span around the block, if any.
    """
    if _tracer is None:  # the API's own no-op would pass on a foreign context
        yield INVALID_SPAN
        return
    above = _PROPAGATOR.extract(parent) if parent else None
    # OpenTelemetry would add the text and the stack of every error, and those of others may contain anything.
    with _tracer.start_as_current_span(
        name, above, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as begun:
        try:
            yield begun
        except (Revoked, asyncio.CancelledError):
            begun.set_attribute(OUTCOME, "abandoned")  # another worker goes on with it
            raise
        except BaseException as error:
            fail(begun, type(error).__name__, str(error)[:_MAX_ERROR] if isinstance(error, XferqError) else None)
            raise


def fail(failed: Span, error: str, text: str | None = None) -> None:
    """Mark a span as failed; `error` is a word of few different ones."""
    failed.set_attribute("error.type", error)
    failed.set_status(StatusCode.ERROR, text)


def current_trace() -> dict[str, str]:
    """The trace context of the current span, for others to go on from: empty where nothing is traced."""
    found: dict[str, str] = {}
    _PROPAGATOR.inject(found)
    return found


def about_record(
    topic: str, operation: str, *, kind: Literal["send", "process"], partition: int | None = None
) -> dict[str, str | int]:
    """What OpenTelemetry's conventions want to know of a span that reads or writes Kafka."""
    where = {} if partition is None else {"messaging.destination.partition.id": str(partition)}
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": topic,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        **where,
    }
