"""How full the queues are, all of them in a few requests."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.concurrency.deadline import Deadline
from streams.domain.head import depth_of, heads_of
from streams.domain.topic import is_queue_topic
from streams.errors import Unavailable
from streams.kafka.connection import Connection
from streams.kafka.groups import Groups
from streams.kafka.topics import Topics
from streams.settings.settings import Settings

_SIDE_BY_SIDE = 32
_PARTITIONS_AT_ONCE = 5_000
_TRIES = 5
_PATIENCE_S = 3.0
"""With a partition that has no leader: most get one sooner."""
_PAUSE_S = 0.2
_NOT_LED = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""Of one partition and no other: it is just being made or deleted, or its leader has gone."""
_Offsets = dict[tuple[str, int], int]
Claimed = Mapping[str, Callable[[str], Mapping[int, int]]]
"""What the ledger says that was claimed of a topic: by its name, and then its id."""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue topic; `depth` in offsets, which is at least the number of messages: markers take offsets too.

    It is None where a partition has no leader that would tell.
    """

    topic: str
    partitions: int
    depth: int | None


async def queue_depths(connection: Connection, settings: Settings, claimed: Claimed) -> list[QueueDepth]:
    """All queue topics, by name.

    Args:
        claimed: what is not in a queue any more, whatever its group's offsets say; see `streams.domain.head`.

    Raises:
        Unavailable: Kafka is away.
    """
    timeout_s = settings.request_timeout_ms / 1000
    with connection.asking("listing topics"):
        metadata = await asyncio.to_thread(connection.admin.list_topics, timeout=timeout_s)
    queues = {name: topic.partitions for name, topic in sorted(metadata.topics.items()) if is_queue_topic(name)}
    # Of the others librdkafka would wait for a leader until the time-out.
    led = [(name, number) for name, there in queues.items() for number, known in there.items() if known.leader >= 0]
    starts = await _offsets(connection, led, OffsetSpec.earliest(), timeout_s)
    ends = await _offsets(connection, starts, OffsetSpec.latest(), timeout_s)
    groups, topics = Groups(connection), Topics(connection)
    slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def depth(topic: str, partitions: range) -> QueueDepth:
        async with slots:
            committed = await _committed(groups, settings.group_of(topic), topic, partitions)
            there = await topics.describe(topic) if topic in claimed else None
        if any((topic, partition) not in ends for partition in partitions):
            return QueueDepth(topic, len(partitions), None)
        own_starts, own_ends = ({at: offsets[topic, at] for at in partitions} for offsets in (starts, ends))
        heads = heads_of(own_starts, committed, {} if there is None else claimed[topic](there.id))
        return QueueDepth(topic, len(partitions), depth_of(heads, own_ends))

    return list(await asyncio.gather(*(depth(topic, range(len(there))) for topic, there in queues.items())))


async def _offsets(
    connection: Connection, partitions: Iterable[tuple[str, int]], spec: OffsetSpec, timeout_s: float
) -> _Offsets:
    """One offset per partition; tries again while one has no leader, and leaves it out where it gets none."""
    wanted = [TopicPartition(*where) for where in partitions]
    found: _Offsets = {}
    deadline = Deadline(_PATIENCE_S)
    while wanted:
        for start in range(0, len(wanted), _PARTITIONS_AT_ONCE):
            with connection.asking("reading the offsets of queues", "Describe on topics of queues"):
                futures = connection.admin.list_offsets(
                    dict.fromkeys(wanted[start : start + _PARTITIONS_AT_ONCE], spec),
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=timeout_s,
                )
                for where, future in futures.items():
                    if (offset := await _offset(future)) is not None:
                        found[where.topic, where.partition] = offset
        wanted = [where for where in wanted if (where.topic, where.partition) not in found]
        if deadline.is_over:
            break
        await asyncio.sleep(_PAUSE_S if wanted else 0)
    return found


async def _offset(future: Future[Any]) -> int | None:
    """What was answered; None: nobody leads that partition just now."""
    try:
        offset = int((await asyncio.wrap_future(future)).offset)
    except KafkaException as error:
        if error.args[0].code() in _NOT_LED:
            return None
        raise
    return offset if offset >= 0 else None  # librdkafka's "none", with no error


async def _committed(groups: Groups, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The group's offsets as they are to be seen now, whatever is pending; tries again while its coordinator moves."""
    for _ in range(_TRIES - 1):
        with suppress(Unavailable):
            return await groups.committed(group, topic, partitions, stable=False)
        await asyncio.sleep(_PAUSE_S)
    return await groups.committed(group, topic, partitions, stable=False)
