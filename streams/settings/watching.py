"""Settings of what there is to watch: logs, traces, metrics."""

from typing import Literal

from pydantic import BaseModel, Field

from streams.settings.notation import LogFormat, LogLevel


class WatchingSettings(BaseModel):
    """What a process tells of itself, and where."""

    log_level: LogLevel = Field("INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`")
    log_format: LogFormat = Field("text", description="`text`, or `json`: one object per line")
    traces: Literal["none", "otlp"] = Field(
        "none", description="`otlp`: OpenTelemetry spans, sent to OTEL_EXPORTER_OTLP_ENDPOINT (docs/traces.md)"
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address that a worker's port listens on; the port asks for no password"
    )
    metrics_port: int = Field(
        8001,
        ge=0,
        le=65535,
        description="port of a worker's /livez, /readyz, /metrics; further processes take the next ports; 0: none",
    )
    metrics_queues: int = Field(
        100, ge=0, description="xfer queues, deepest first, with a depth of their own in a process's metrics; 0: none"
    )
