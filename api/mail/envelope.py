"""The envelopes of messages that have just been received for a queue."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from api.mail.addresses import parse_address
from streams.domain.envelope import Envelope, queue_of_envelope
from streams.domain.queue_name import QueueName
from streams.domain.returned import NotRestorable
from streams.domain.timestamp import format_time


def make_envelope(
    queue: str,
    sender: str,
    recipients: Sequence[str],
    *,
    now: datetime,
    schedule: Mapping[str, Any] | None = None,
    num_attempts: int = 0,
) -> Envelope:
    """The envelope of a message that has just been received for a scheduled queue.

    The metadata carries tenant, campaign and routing domain as the queue's name has them; `queue` only where
    the name would not follow from those and the first recipient.
    """
    name = QueueName.parse(queue)
    meta = {"tenant": name.tenant, "campaign": name.campaign, "routing_domain": name.routing_domain}
    envelope: Envelope = {
        "sender": sender,
        "recipient": recipients[0] if len(recipients) == 1 else list(recipients),
        "meta": {key: value for key, value in meta.items() if value is not None},
        "num_attempts": num_attempts,
        "created": format_time(now),
        "due": None,
        "schedule": None if schedule is None else dict(schedule),
    }
    if _own_queue(envelope) != queue:
        envelope["meta"]["queue"] = queue
    return envelope


def postmaster_of(queue: str) -> str:
    """The postmaster of a queue's domain; of this machine, where that is none that mail can be addressed to."""
    address = f"postmaster@{QueueName.parse(queue).domain}"
    return address if parse_address(address) == address else "postmaster@localhost"


def _own_queue(envelope: Envelope) -> str | None:
    try:
        return queue_of_envelope(envelope)
    except NotRestorable:
        return None
