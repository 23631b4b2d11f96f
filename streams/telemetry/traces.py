"""Traces, as far as api and engine know of them: spans that begin, say something, and end; or nothing at all.

Off by default, and then this costs a call that does nothing, for each command, range and transaction; never for a
message. What OpenTelemetry needs is in `streams.telemetry.otlp`, imported only where `XFERQ_TRACES` asks for it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Protocol, Self

from streams.domain.trace import TraceContext
from streams.errors import Misconfigured
from streams.settings.settings import Settings

Kind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int]

COMMAND_ID = "xferq.command.id"
OUTCOME = "xferq.outcome"
QUEUE = "xferq.queue"


class Span(Protocol):
    """One piece of work, with its beginning and its end."""

    @property
    def trace(self) -> TraceContext | None:
        """For others to go on from; None where nothing is traced."""
        ...

    def set(self, attributes: Attributes) -> None:
        """Say something about it."""
        ...

    def fail(self, error: str) -> None:
        """Say that it failed; `error` is a word of few different ones."""
        ...


class Traces(Protocol):
    """Where spans go."""

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        parent: TraceContext | None = None,
    ) -> AbstractContextManager[Span]:
        """A span for the block; what raises out of it has failed.

        Args:
            name: one of few different ones.
            parent: a span of another process, perhaps; None: the one that the block is in, if it is in one.
        """
        ...

    async def close(self, within_s: float) -> None:
        """Send what has not been sent, in so many seconds at most; what is left then is dropped."""
        ...


class _NoSpan:
    trace = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def set(self, attributes: Attributes) -> None:
        return

    def fail(self, error: str) -> None:
        return


_NO_SPAN = _NoSpan()


class NoTraces:
    """Traces that are off; see `Traces`."""

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        parent: TraceContext | None = None,
    ) -> AbstractContextManager[Span]:
        """Nothing."""
        return _NO_SPAN

    async def close(self, within_s: float) -> None:
        """Nothing."""
        return


NO_TRACES: Traces = NoTraces()


def open_traces(settings: Settings, service: str) -> Traces:
    """Traces as the settings want them; `service` is what this process is called in them, unless OTEL_SERVICE_NAME is.

    Raises:
        Misconfigured: they are on and the extra `otel` is not installed, or a variable of OpenTelemetry's is wrong.
    """
    if settings.traces == "none":
        return NO_TRACES
    try:
        from streams.telemetry.otlp import open_otlp
    except ImportError as error:
        raise Misconfigured(
            f"XFERQ_TRACES is {settings.traces}, but this installation has no OpenTelemetry ({error.name} missing): "
            "pip install 'xferq[otel]' adds it"
        ) from None
    return open_otlp(service)


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
