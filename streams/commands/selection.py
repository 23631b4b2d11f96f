"""The queues that a transfer takes: those that it names, or all existing ones that match."""

import logging
from collections.abc import Iterable

from streams.domain.command import StartCommand, selects
from streams.domain.envelope import parse_envelope, queue_of_envelope
from streams.domain.returned import NotRestorable
from streams.domain.topic import is_queue_topic, queue_of, topic_of
from streams.drain.strategy import ENVELOPE
from streams.errors import Unreadable
from streams.lookup import find_topic, require_gone
from streams.ports import Kafka

_log = logging.getLogger(__name__)
_MOST_FETCHES = 50
"""Fetches of a partition, each up to 200 ms, in search of a message that tells its queue's name."""


async def selected_queues(kafka: Kafka, command: StartCommand) -> dict[str, str]:
    """The queues to transfer, by topic.

    Raises:
        XferqError: Kafka could not tell.
    """
    if command.queue_names:
        named = {topic_of(name): name for name in command.queue_names}
    else:
        named = {}
        for topic in await kafka.topics(everywhere=True):
            if is_queue_topic(topic):
                queue = queue_of(topic) or await _long_name(kafka, topic)
                if queue is not None:
                    named[topic] = queue
    return {topic: queue for topic, queue in named.items() if selects(command, queue, command.queue)}


async def _long_name(kafka: Kafka, topic: str) -> str | None:
    """The name of a queue whose topic only has a hash of it, from the first message that tells it."""
    there = await find_topic(kafka, topic)
    if there is None:
        await require_gone(kafka, topic)
    for partition in range(there.partitions if there else 0):
        (start,) = (await kafka.log_starts(topic, [partition])).values()
        (end,) = (await kafka.stable_ends(topic, [partition])).values()
        reader = await kafka.reader(topic, partition, start, end)
        try:
            for _ in range(_MOST_FETCHES):
                if reader.position >= end:
                    break
                for record in await reader.read():
                    name = _queue_in(record.headers)
                    if name is not None and topic_of(name) == topic:
                        return name
        except Unreadable as error:
            _log.warning("transfer.name_unreadable topic=%s error=%s", topic, error)  # others must not wait for it
        finally:
            await reader.close()
    return None


def _queue_in(headers: Iterable[tuple[str, bytes]]) -> str | None:
    for name, value in headers:
        if name == ENVELOPE:
            try:
                return queue_of_envelope(parse_envelope(value))
            except NotRestorable:
                return None
    return None
