"""The delivery log's AdminRebind record: one for each message that has been moved to another queue.

Fields and their order are those of `JsonLogRecord` in KumoMTA (crates/kumo-log-types/src/lib.rs), filled in
as crates/kumod/src/logging/disposition.rs does.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

from streams.domain.envelope import Envelope, InvalidEnvelope
from streams.domain.timestamp import TIME_OPTION, known_time, unix_seconds

RECORD_TYPE = "AdminRebind"

# In the record's order. Copied and filled in, at half the time of building it anew for every message.
_CONSTANT_PARTS: dict[str, Any] = {
    "type": RECORD_TYPE,
    "id": "",
    "sender": "",
    "recipient": "",
    "queue": "",
    "site": "",
    "size": 0,
    "response": None,
    "peer_address": None,
    "timestamp": 0,
    "event_time": None,
    "created": 0,
    "created_time": None,
    "num_attempts": 0,
    "bounce_classification": "Uncategorized",
    "egress_pool": None,
    "egress_source": None,
    "source_address": None,
    "feedback_report": None,
    "meta": {},
    "headers": {},
    "delivery_protocol": None,
    "reception_protocol": None,
    "nodeid": "",
}


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
        headers: the message's headers to carry, ready; without lone surrogates.

    Raises:
        InvalidEnvelope: metadata to be carried is nested too deeply, as for `dump_envelope`.
    """
    meta = envelope["meta"]
    recipient = envelope["recipient"]
    created = known_time(envelope["created"])
    record = _CONSTANT_PARTS.copy()
    record["id"] = id
    record["sender"] = envelope["sender"]
    record["recipient"] = recipient[0] if type(recipient) is list and len(recipient) == 1 else recipient
    record["queue"] = queue
    record["size"] = size
    record["response"] = _response(from_queue, queue, reason)
    record["timestamp"] = unix_seconds(now)
    record["event_time"] = now.astimezone(UTC)
    record["created"] = unix_seconds(created)
    record["created_time"] = created
    record["num_attempts"] = envelope["num_attempts"]
    if meta_names:
        record["meta"] = _carried(meta, meta_names)
    if headers:
        record["headers"] = headers
    reception_protocol = meta.get("reception_protocol")
    if type(reception_protocol) is str:
        record["reception_protocol"] = reception_protocol
    record["nodeid"] = node_id
    try:
        return orjson.dumps(record, option=TIME_OPTION)
    except orjson.JSONEncodeError:
        raise InvalidEnvelope("metadata to be logged is nested too deeply") from None


def rebind_content(from_queue: str, queue: str, reason: str) -> str:
    """The text of the record's response, on a single line as KumoMTA's log writes every response."""
    content = f"Rebound from {from_queue} to {queue}: {reason}"
    return content.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


@lru_cache(maxsize=4096)
def _response(from_queue: str, queue: str, reason: str) -> orjson.Fragment:
    content = rebind_content(from_queue, queue, reason)
    return orjson.Fragment(orjson.dumps({"code": 250, "enhanced_code": None, "content": content, "command": None}))


def _carried(meta: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    for name in names:
        if name.endswith("*"):
            carried.update((key, value) for key, value in meta.items() if key.startswith(name[:-1]))
        elif meta.get(name) is not None:
            carried[name] = meta[name]
    return carried
