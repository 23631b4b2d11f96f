"""The delivery log's AdminRebind record: one for each message that has been moved to another queue.

Fields and their order are those of `JsonLogRecord` in KumoMTA (crates/kumo-log-types/src/lib.rs), filled in
as crates/kumod/src/logging/disposition.rs does.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from streams.domain.envelope import Envelope
from streams.domain.timestamp import format_time, parse_time

RECORD_TYPE = "AdminRebind"


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
        headers: the message's headers to carry, ready.
    """
    meta = envelope["meta"]
    recipient = envelope["recipient"]
    reception_protocol = meta.get("reception_protocol")
    created, created_time = _seconds_and_text(envelope["created"])
    return orjson.dumps(
        {
            "type": RECORD_TYPE,
            "id": id,
            "sender": envelope["sender"],
            "recipient": recipient[0] if type(recipient) is list and len(recipient) == 1 else recipient,
            "queue": queue,
            "site": "",
            "size": size,
            "response": {
                "code": 250,
                "enhanced_code": None,
                "content": rebind_content(from_queue, queue, reason),
                "command": None,
            },
            "peer_address": None,
            "timestamp": _seconds(now),
            "event_time": format_time(now),
            "created": created,
            "created_time": created_time,
            "num_attempts": envelope["num_attempts"],
            "bounce_classification": "Uncategorized",
            "egress_pool": None,
            "egress_source": None,
            "source_address": None,
            "feedback_report": None,
            "meta": _carried(meta, meta_names) if meta_names else {},
            "headers": headers or {},
            "delivery_protocol": None,
            "reception_protocol": reception_protocol if type(reception_protocol) is str else None,
            "nodeid": node_id,
        }
    )


@lru_cache(maxsize=1024)
def rebind_content(from_queue: str, queue: str, reason: str) -> str:
    """The text of the record's response, on a single line as KumoMTA's log writes every response."""
    content = f"Rebound from {from_queue} to {queue}: {reason}"
    if "\n" in content or "\r" in content:
        return content.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")
    return content


def _carried(meta: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    carried: dict[str, Any] = {}
    for name in names:
        if name.endswith("*"):
            carried.update((key, value) for key, value in meta.items() if key.startswith(name[:-1]))
        elif meta.get(name) is not None:
            carried[name] = meta[name]
    return carried


@lru_cache(maxsize=64)
def _seconds(time: datetime) -> int:
    # Towards the past, as chrono rounds: int() would round towards 1970.
    return int(time.timestamp() // 1)


@lru_cache(maxsize=4096)
def _seconds_and_text(text: str) -> tuple[int, str]:
    time = parse_time(text)
    return _seconds(time), format_time(time)
