"""A message's envelope, and the inverse pair that a transfer is made of: `save` and `restore`.

The semantics are those of `SavedQueueInfo` in KumoMTA (crates/kumod/src/xfer/mod.rs) and of the functions
around it (crates/kumod/src/queue/queue.rs). An envelope is a plain dict as orjson reads it, because this runs
for every message; what is not concerned stays as it is, value for value and in its order.
"""

from datetime import datetime
from typing import Any, NamedTuple

import orjson

from streams.domain.queue_name import (
    InvalidQueueName,
    format_queue_name,
    is_xfer,
    validate_queue_name,
)
from streams.domain.returned import InvalidEnvelope, NotRestorable, ReturnReason
from streams.domain.schedule import InvalidSchedule, due_by, json_of, require_schedule
from streams.domain.timestamp import InvalidTime, format_time, known_time

Envelope = dict[str, Any]
"""The JSON object in a message's `envelope` header."""

SAVED_INFO = "xfer_queue_info"
"""The metadata in which a transfer keeps what a cancel restores."""

MAX_ATTEMPTS = 65535
"""`num_attempts` is a u16 in KumoMTA."""

_QUEUE_PARTS = ("queue", "routing_domain", "tenant", "campaign")


class Restored(NamedTuple):
    """A restored message: its new envelope, and the scheduled queue that it belongs to."""

    envelope: Envelope
    queue: str


def parse_envelope(raw: bytes) -> Envelope:
    """The envelope in a message's header; unknown keys are kept.

    Raises:
        InvalidEnvelope: it is not JSON, or a field of it is missing or not valid.
    """
    try:
        envelope = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidEnvelope("the envelope is not valid JSON") from None
    if type(envelope) is not dict:
        raise InvalidEnvelope("the envelope is not an object")
    if type(envelope.get("sender")) is not str:
        raise InvalidEnvelope("sender must be a string")
    recipient = envelope.get("recipient")
    if type(recipient) is not str and not _is_list_of_strings(recipient):
        raise InvalidEnvelope("recipient must be a string or a list of strings, not empty")
    if type(envelope.get("meta")) is not dict:
        raise InvalidEnvelope("meta must be an object")
    if not _is_attempts(envelope.get("num_attempts")):
        raise InvalidEnvelope(f"num_attempts must be a whole number from 0 to {MAX_ATTEMPTS}")
    if not _is_time(envelope.get("created")):
        raise InvalidEnvelope("created must be an RFC 3339 time")
    due = envelope.get("due")
    if due is not None and not _is_time(due):
        raise InvalidEnvelope("due must be an RFC 3339 time or null")
    schedule = envelope.get("schedule")
    if schedule is not None and type(schedule) is not dict:
        raise InvalidEnvelope("schedule must be an object or null")
    return envelope


def dump_envelope(envelope: Envelope) -> bytes:
    """The envelope as JSON.

    Raises:
        InvalidEnvelope: it is nested more than 254 levels deep, which orjson reads but does not write
            (KumoMTA reads 128).
    """
    try:
        return orjson.dumps(envelope)
    except orjson.JSONEncodeError:
        raise InvalidEnvelope("the envelope is nested too deeply") from None


def queue_of_envelope(envelope: Envelope) -> str:
    """The queue that a message belongs to: its metadata `queue`, else the name made of the others.

    An empty or missing domain is an error here, where KumoMTA would make a queue of that name.

    Raises:
        NotRestorable: with `unresolvable_queue`; there is no domain or the name can't be a queue's.
        InvalidEnvelope: one of the metadata that make up the name is neither a string nor null.
    """
    meta = envelope["meta"]
    for part in _QUEUE_PARTS:
        value = meta.get(part)
        if value is not None and type(value) is not str:
            raise InvalidEnvelope(f"metadata {part} must be a string")
    return _queue(envelope, meta)


def restore(envelope: Envelope, *, now: datetime, xfer_queue: str) -> Restored:
    """The envelope as it was before its transfer, due as soon as its schedule permits; a new dict.

    `queue`, `routing_domain`, `tenant`, `campaign` are set where the saved info has them and unset where it
    has not; `num_attempts` (0 by default) and `schedule` are taken from it, and it is removed. The saved
    `due` must be valid, and is not used. Unknown fields of the saved info are ignored, as in KumoMTA.

    Args:
        envelope: as `parse_envelope` gives it; not changed.
        now: aware.
        xfer_queue: the queue that the message is taken out of, and so can't be restored to.

    Raises:
        NotRestorable: there is no saved info, it is not valid, or there is no scheduled queue to restore to.
    """
    info = envelope["meta"].get(SAVED_INFO)
    if type(info) is not dict:
        if info is None:
            raise NotRestorable(ReturnReason.NO_SAVED_INFO, f"there is no {SAVED_INFO}")
        raise _invalid_info("it is not an object")
    meta = envelope["meta"].copy()
    del meta[SAVED_INFO]
    saved = info.get
    for part in _QUEUE_PARTS:
        value = saved(part)
        if value is None:
            meta.pop(part, None)
        elif type(value) is str:
            meta[part] = value
        else:
            raise _invalid_info(f"{part} is not a string")
    num_attempts = info.get("num_attempts", 0)
    if not _is_attempts(num_attempts):
        raise _invalid_info(f"num_attempts is not a whole number from 0 to {MAX_ATTEMPTS}")
    due = info.get("due")
    if due is not None and not _is_time(due):
        raise _invalid_info("due is not an RFC 3339 time")

    restored = envelope.copy()
    restored["meta"] = meta
    restored["num_attempts"] = num_attempts
    schedule = info.get("schedule")
    if schedule is None:
        restored["due"] = format_time(now)
        # An envelope without the key says the same as one with null.
        if "schedule" in restored:
            restored["schedule"] = None
    else:
        restored["due"] = _due(schedule, now)
        restored["schedule"] = schedule
    queue = _queue(restored, meta)
    if is_xfer(queue) or queue == xfer_queue:
        raise NotRestorable(ReturnReason.UNRESOLVABLE_QUEUE, "the saved queue is an xfer queue itself")
    return Restored(restored, queue)


def save(envelope: Envelope, *, xfer_queue: str, from_queue: str | None = None) -> Envelope:
    """The envelope of a message that is transferred to the xfer queue; a new dict, due at once.

    What `restore` needs goes into the metadata `xfer_queue_info`; the number of attempts stays as it is. A
    message that comes out of another xfer queue keeps the info that was saved first and only changes queue. A
    null in the metadata that is saved counts as unset, as in KumoMTA.

    Args:
        envelope: as `parse_envelope` gives it; not changed.
        xfer_queue: where the message goes.
        from_queue: where it comes from. Whether that is an xfer queue decides, as in KumoMTA; where it is not
            given, whether the message carries saved info or names an xfer queue as its own.

    Raises:
        InvalidEnvelope: what is to be saved is such that it could not be restored.
    """
    meta = envelope["meta"].copy()
    saved = envelope.copy()
    saved["meta"] = meta
    if "due" in saved:
        saved["due"] = None
    if not _is_transferred(meta, from_queue):
        meta[SAVED_INFO] = _saved_info(envelope)
        for part in _QUEUE_PARTS:
            meta.pop(part, None)
        if "schedule" in saved:
            saved["schedule"] = None
    meta["queue"] = xfer_queue
    return saved


def _saved_info(envelope: Envelope) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for part in _QUEUE_PARTS:
        value = envelope["meta"].get(part)
        if type(value) is str:
            info[part] = value
        elif value is not None:
            raise InvalidEnvelope(f"metadata {part} must be a string")
    schedule = envelope.get("schedule")
    if schedule is not None:
        try:
            require_schedule(json_of(schedule))
        except InvalidSchedule as error:
            raise InvalidEnvelope(str(error)) from None
        info["schedule"] = schedule
    info["num_attempts"] = envelope["num_attempts"]
    if envelope.get("due") is not None:
        info["due"] = envelope["due"]
    return info


def _is_transferred(meta: dict[str, Any], from_queue: str | None) -> bool:
    if from_queue is not None:
        return is_xfer(from_queue)
    queue = meta.get("queue")
    return meta.get(SAVED_INFO) is not None or (type(queue) is str and is_xfer(queue))


def _queue(envelope: Envelope, meta: dict[str, Any]) -> str:
    queue = meta.get("queue")
    if queue is None:
        recipient = envelope["recipient"]
        if type(recipient) is list:
            recipient = recipient[0]
        # The last @: a quoted local part may hold others.
        domain = recipient.rpartition("@")[2].lower() if "@" in recipient else ""
        queue = format_queue_name(meta.get("campaign"), meta.get("tenant"), domain, meta.get("routing_domain"))
    else:
        domain = queue.partition("@")[2] if "@" in queue else queue
    if not domain or domain[0] == "!":
        raise NotRestorable(ReturnReason.UNRESOLVABLE_QUEUE, "the queue's name has no domain")
    try:
        return validate_queue_name(queue)
    except InvalidQueueName as error:
        raise NotRestorable(ReturnReason.UNRESOLVABLE_QUEUE, str(error)) from None


def _due(schedule: object, now: datetime) -> str:
    try:
        return due_by(json_of(schedule), now)
    except InvalidSchedule as error:
        raise _invalid_info(str(error)) from None


def _invalid_info(detail: str) -> NotRestorable:
    return NotRestorable(ReturnReason.INVALID_SAVED_INFO, f"{SAVED_INFO} is not valid: {detail}")


def _is_attempts(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_ATTEMPTS


def _is_list_of_strings(value: object) -> bool:
    return type(value) is list and len(value) > 0 and all(type(item) is str for item in value)


def _is_time(value: object) -> bool:
    if type(value) is not str:
        return False
    try:
        known_time(value)
    except InvalidTime:
        return False
    return True
