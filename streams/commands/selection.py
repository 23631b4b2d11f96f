"""The queues that a transfer takes: those that it names, or all existing ones that match."""

import logging
from collections.abc import Collection, Iterable, Sequence

from streams.domain.command import CRITERIA, StartCommand, selects
from streams.domain.envelope import parse_envelope, queue_of_envelope
from streams.domain.nearest import nearest, nearest_queues
from streams.domain.returned import NotRestorable
from streams.domain.topic import is_queue_topic, names_in, queue_of, topic_of
from streams.drain.strategy import ENVELOPE
from streams.errors import Unreadable
from streams.lookup import find_topic, require_gone
from streams.ports import Kafka

_MOST_SAID = 3
"""Names of queues that a message tells."""
_MOST_SHOWN = 200
"""Characters of each."""
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
        named = await _queues(kafka)
    return {topic: queue for topic, queue in named.items() if selects(command, queue, command.queue)}


async def is_any_there(kafka: Kafka, topics: Collection[str]) -> bool:
    """Whether one of these topics exists, by what the brokers say now. Raises as `selected_queues`."""
    return not set(topics).isdisjoint(await kafka.topics(everywhere=True))


async def _queues(kafka: Kafka) -> dict[str, str]:
    """All queues, by topic."""
    found = {}
    for topic in await kafka.topics(everywhere=True):
        queue = queue_of(topic)
        if queue is None and is_queue_topic(topic):
            queue = await _long_name(kafka, topic)
        if queue is not None:
            found[topic] = queue
    return found


async def told(kafka: Kafka, command: StartCommand, missing: Sequence[str], matched: int) -> str | None:
    """What is to be said of a transfer that has matched so many queues, while those that it names are `missing`.

    With the queues that may have been meant. Raises as `selected_queues`.
    """
    if matched and not missing:
        return None
    queues = [queue for queue in names_in(await kafka.topics(everywhere=True)) if queue != command.queue]
    criteria = {name: value for name in CRITERIA if isinstance(value := getattr(command, name), str)}
    if missing:
        what = f"queues that do not exist: {_listed(missing)}"
        each = max(1, _MOST_SAID // len(missing))
        near = [queue for name in missing[:_MOST_SAID] for queue in nearest(name, queues, most=each)]
    elif command.queue_names:
        return f"it takes nothing from {command.queue[:_MOST_SHOWN]}, which is where it goes"
    else:
        wanted = " and ".join(f"{name} {value[:_MOST_SHOWN]}" for name, value in criteria.items())
        what = f"no queue has {wanted}" if wanted else "there is no queue"
        near = nearest_queues(criteria, queues)
    return f"{what}; the nearest: {_listed(near)}" if near else what


def _listed(names: Sequence[str]) -> str:
    """Some of the names, each once."""
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _MOST_SAID} more" if len(names) > _MOST_SAID else ""
    return ", ".join(name[:_MOST_SHOWN] for name in names[:_MOST_SAID]) + more


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
