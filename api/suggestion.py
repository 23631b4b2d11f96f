"""Which xfer queue was probably meant by a name that is none: a courtesy, which neither fails nor takes long."""

import asyncio
from collections.abc import Collection
from contextlib import suppress

from api.link import KafkaLink
from streams.domain.nearest import nearest
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.target import InvalidTarget, normalise_target, xfer_queue_of
from streams.domain.topic import names_in
from streams.errors import XferqError

_PATIENCE_S = 2.0
_LIKE = 0.75
"""How like a target has to be, from 0 to 1: a letter or two of a host's name."""


async def probable_queue(link: KafkaLink, name: str) -> str | None:
    """The existing xfer queue that is most like the name; where Kafka can't be asked, the one of the target that it is.

    None where nothing is like it.
    """
    existing: list[str] = []
    if link.missing is None:
        with suppress(XferqError, TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                topics = await link.kafka.topics()
            # A topic's name ends as its queue's does.
            existing = names_in(topic for topic in topics if topic.endswith(XFER_SUFFIX))
    return await asyncio.to_thread(meant_of, name, existing)


def meant_of(name: str, existing: Collection[str]) -> str | None:
    """The one of the existing xfer queues that was probably meant; else the one of the target that the name is."""
    target = name.removesuffix(XFER_SUFFIX)
    of_target = _xfer_queue(target)
    for queue in (of_target, _xfer_queue(f"http://{target}")):
        if queue is not None and queue in existing:
            return queue
    by_place = {_place(queue.removesuffix(XFER_SUFFIX)): queue for queue in existing}
    for place in nearest(_place(target), by_place, most=1, least=_LIKE):
        return by_place[place]
    return None if of_target == name else of_target


def _xfer_queue(target: str) -> str | None:
    try:
        return xfer_queue_of(normalise_target(target))
    except InvalidTarget:
        return None


def _place(target: str) -> str:
    """What tells targets from each other: most have the same beginning and the same end."""
    return target.partition("://")[2].rstrip("/") or target
