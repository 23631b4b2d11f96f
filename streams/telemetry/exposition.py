"""In which format metrics are told, by the Accept header of who asks."""

from prometheus_client.exposition import choose_encoder

from streams.telemetry.metrics import REGISTRIES, Part


def readable_accept(header: str) -> str:
    """The header, where prometheus_client can read it: it fails at a version that is no number."""
    try:
        choose_encoder(header)
    except (TypeError, ValueError):
        return ""
    return header


def exposed(part: Part, accept: str) -> tuple[bytes, str]:
    """The metrics of an api or a worker, and their content type: OpenMetrics, or else the text format 0.0.4.

    The latter is what everything reads, also who asks for anything (`*/*`).
    """
    encode, content_type = choose_encoder(readable_accept(accept))
    return encode(REGISTRIES[part]), content_type
