"""The delivery log's AdminRebind record: one for each message that has been moved to another queue.

Fields and their order are those of `JsonLogRecord` in KumoMTA (crates/kumo-log-types/src/lib.rs), filled in
as crates/kumod/src/logging/disposition.rs does.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from streams.domain.envelope import Envelope
from streams.domain.returned import InvalidEnvelope
from streams.domain.timestamp import TIME_OPTION, known_time, unix_seconds

_MAX_CACHED_CHARS = 64

# Written from ready parts: at half the time of a dict of all of it, which orjson would write anew for every message.
_PARTS = (
    b'{"type":"AdminRebind","id":%b,"sender":%b,"recipient":%b,%b,"site":"","size":%d,%b,"peer_address":null,%b,%b,'
    b'"num_attempts":%d,"bounce_classification":"Uncategorized","egress_pool":null,"egress_source":null,'
    b'"source_address":null,"feedback_report":null,"meta":%b,"headers":%b,"delivery_protocol":null,'
    b'"reception_protocol":%b,"nodeid":%b}'
)


def rebind_record(
    *,
    id: str,
    envelope: Envelope,
    queue: str,
    from_queue: str,
    reason: str,
    size: int,
    now: datetime,
    node_id: str,
    meta_names: tuple[str, ...] = (),
    headers: Mapping[str, Any] | None = None,
) -> bytes:
    """The record as JSON, without the optional fields.

    Args:
        id: the message's.
        envelope: as it is now, after the move.
        queue: the queue that the message is now in.
        from_queue: the one that it has been taken out of.
        reason: the operator's; line breaks become spaces.
        size: of the message, in bytes.
        now: when this happens, aware.
        node_id: UUID of the node, as a string.
        meta_names: the metadata to carry; a name that ends in `*` stands for all that begin like it.
        headers: the message's headers to carry, a string or a list of them by name; without lone surrogates.

    Raises:
        InvalidEnvelope: metadata to be carried is nested too deeply, as for `dump_envelope`.
    """
    meta = envelope["meta"]
    recipient = envelope["recipient"]
    if type(recipient) is list and len(recipient) == 1:
        recipient = recipient[0]
    protocol = meta.get("reception_protocol")
    try:
        return _PARTS % (
            orjson.dumps(id),
            orjson.dumps(envelope["sender"]),
            orjson.dumps(recipient),
            _queue(queue),
            size,
            _response(from_queue, queue, reason),
            times_of_event(now),
            _created(envelope["created"]),
            envelope["num_attempts"],
            orjson.dumps(_carried(meta, meta_names)) if meta_names else b"{}",
            orjson.dumps(headers) if headers else b"{}",
            _text(protocol) if type(protocol) is str else b"null",
            _text(node_id),
        )
    except orjson.JSONEncodeError:
        raise InvalidEnvelope("metadata to be logged is nested too deeply") from None


def times_of_event(now: datetime) -> bytes:
    """When it happens (aware), as it stands in the record."""
    return _times("timestamp", "event_time", now)


def rebind_headers(command_id: str, kind: str, source: str, destination: str) -> list[tuple[str, bytes]]:
    """The headers of the log's record in Kafka: whose move it is and between which queues, without a parsed body."""
    values = {"type": "AdminRebind", "command_id": command_id, "kind": kind, "source": source}
    return [(name, value.encode()) for name, value in {**values, "destination": destination}.items()]


def rebind_content(from_queue: str, queue: str, reason: str) -> str:
    """The text of the record's response, on a single line as KumoMTA's log writes every response."""
    content = f"Rebound from {from_queue} to {queue}: {reason}"
    return content.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


@lru_cache(maxsize=4096)
def _response(from_queue: str, queue: str, reason: str) -> bytes:
    content = rebind_content(from_queue, queue, reason)
    response = {"code": 250, "enhanced_code": None, "content": content, "command": None}
    return b'"response":%b' % orjson.dumps(response)


@lru_cache(maxsize=4096)
def _queue(queue: str) -> bytes:
    return b'"queue":%b' % orjson.dumps(queue)


@lru_cache(maxsize=4096)
def _created(created: str) -> bytes:
    return _times("created", "created_time", known_time(created))


@lru_cache(maxsize=64)
def _times(seconds: str, text: str, time: datetime) -> bytes:
    return orjson.dumps({seconds: unix_seconds(time), text: time.astimezone(UTC)}, option=TIME_OPTION)[1:-1]


@lru_cache(maxsize=64)
def _known_text(text: str) -> bytes:
    return orjson.dumps(text)


def _text(text: str) -> bytes:
    """As JSON; what is short is mostly the same for many messages."""
    return _known_text(text) if len(text) <= _MAX_CACHED_CHARS else orjson.dumps(text)


def _carried(meta: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    for name in names:
        if name.endswith("*"):
            carried.update((key, value) for key, value in meta.items() if key.startswith(name[:-1]))
        elif meta.get(name) is not None:
            carried[name] = meta[name]
    return carried
