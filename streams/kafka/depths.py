"""How full the queues are, all of them in a few requests."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streams.domain.topic import is_queue_topic
from streams.errors import Unavailable
from streams.kafka.connection import Connection
from streams.kafka.groups import Groups
from streams.settings import Settings

_SIDE_BY_SIDE = 32
_PARTITIONS_AT_ONCE = 5_000
_TRIES = 5
_PAUSE_S = 0.2
_Offsets = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue topic; `depth` in offsets, which is at least the number of messages: markers take offsets too."""

    topic: str
    partitions: int
    depth: int


async def queue_depths(connection: Connection, settings: Settings) -> list[QueueDepth]:
    """All queue topics, by name.

    Raises:
        Unavailable: Kafka is away, or the offsets of a queue's group stay in a transaction.
    """
    timeout_s = settings.request_timeout_ms / 1000
    with connection.asking("listing topics"):
        metadata = await asyncio.to_thread(connection.admin.list_topics, timeout=timeout_s)
    counts = {name: len(topic.partitions) for name, topic in sorted(metadata.topics.items()) if is_queue_topic(name)}
    starts = await _offsets(connection, counts, OffsetSpec.earliest(), timeout_s)
    ends = await _offsets(connection, counts, OffsetSpec.latest(), timeout_s)
    groups = Groups(connection)
    slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def depth(topic: str, partitions: int) -> QueueDepth:
        async with slots:
            committed = await _committed(groups, settings.group_of(topic), topic, range(partitions))
        left = 0
        for partition in range(partitions):
            where = (topic, partition)
            if where in ends:  # else it was deleted meanwhile
                left += max(0, ends[where] - max(starts.get(where, 0), committed.get(partition, 0)))
        return QueueDepth(topic, partitions, left)

    return list(await asyncio.gather(*(depth(topic, partitions) for topic, partitions in counts.items())))


async def _offsets(connection: Connection, counts: Mapping[str, int], spec: OffsetSpec, timeout_s: float) -> _Offsets:
    wanted = [TopicPartition(topic, partition) for topic, count in counts.items() for partition in range(count)]
    found: _Offsets = {}
    for start in range(0, len(wanted), _PARTITIONS_AT_ONCE):
        with connection.asking("reading the offsets of queues", "Describe on topics of queues"):
            futures = connection.admin.list_offsets(
                dict.fromkeys(wanted[start : start + _PARTITIONS_AT_ONCE], spec),
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=timeout_s,
            )
            for where, future in futures.items():
                found[where.topic, where.partition] = int((await asyncio.wrap_future(future)).offset)
    return found


async def _committed(groups: Groups, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
    """The group's offsets; tries again while a transaction is about to change them."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return await groups.committed(group, topic, partitions)
        except Unavailable:
            if not tries_left:
                raise
            await asyncio.sleep(_PAUSE_S)
    raise Unavailable(f"reading the offsets of group {group}")  # not reached: the last try has raised
