"""Where a transfer goes: a URL, and the xfer queue that is named after it."""

import ada_url

from streams.domain.queue_name import XFER_SUFFIX, InvalidQueueName, validate_queue_name


class InvalidTarget(ValueError):
    """The text is not a URL that messages can be transferred to."""


def normalise_target(url: str) -> str:
    """The URL as the WHATWG URL standard writes it, which KumoMTA's xfer queues are named by.

    `http://Host` becomes `http://host/`. Normalising twice changes nothing.

    Raises:
        InvalidTarget: it is not an absolute http or https URL, or too long for a queue's name.
    """
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        raise InvalidTarget("not a valid URL") from None
    if parsed.protocol not in ("http:", "https:"):
        raise InvalidTarget("not an http or https URL")
    target = str(parsed.href)
    try:
        validate_queue_name(target + XFER_SUFFIX)
    except InvalidQueueName:
        raise InvalidTarget("too long for a URL to transfer to") from None
    return target


def xfer_queue_of(target: str) -> str:
    """The xfer queue for a target, as `normalise_target` gives it."""
    return target + XFER_SUFFIX
