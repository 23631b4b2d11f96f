"""How full queues are, all of them in few requests: `xferq queues` and the metrics both ask here."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import IsolationLevel, KafkaError, KafkaException
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import OffsetSpec

from streams.concurrency.deadline import Deadline
from streams.domain.depth import Claimed, Claims, Depth, QueueDepth, Span
from streams.domain.head import heads_of
from streams.domain.topic import is_queue_topic
from streams.errors import Unavailable
from streams.kafka.answers import all_answered
from streams.kafka.connection import Connection
from streams.kafka.counting import MessageCounter
from streams.kafka.groups import Groups
from streams.kafka.topics import Topics
from streams.records import TopicPartition

_log = logging.getLogger(__name__)
_SIDE_BY_SIDE = 32
_PARTITIONS_AT_ONCE = 5_000
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
_Offsets = dict[TopicPartition, int]


class Depths:
    """Looks at queue topics; knows what it counted at the look before."""

    def __init__(self, connection: Connection, groups: Groups, topics: Topics) -> None:
        self._connection = connection
        self._groups = groups
        self._topics = topics
        self._counter = MessageCounter(connection)
        self._slots = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def look(self, claimed: Claimed, is_wanted: Callable[[str], bool]) -> list[QueueDepth]:
        """See `streams.ports.Topics.depths`."""
        settings = self._connection.settings
        timeout_s = settings.request_timeout_ms / 1000
        with self._connection.asking("listing topics"):
            metadata = await asyncio.to_thread(self._connection.admin.list_topics, timeout=timeout_s)
        wanted = sorted(name for name in metadata.topics if is_queue_topic(name) and is_wanted(name))
        leaders = {(name, p): known.leader for name in wanted for p, known in metadata.topics[name].partitions.items()}
        # Of the others librdkafka would wait for a leader until the time-out.
        led = [where for where, leader in leaders.items() if leader >= 0]
        starts = await self._offsets(led, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)
        stable = await self._offsets(starts, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
        written = await self._offsets(stable, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
        looks = [_Look(name, len(metadata.topics[name].partitions)) for name in wanted]
        for look in looks:
            for partition in range(look.partitions):
                where = look.topic, partition
                if where in written:
                    look.starts[partition], look.stable[partition] = starts[where], stable[where]
                    look.written[partition] = written[where]
        await asyncio.gather(*(self._place(look, claimed) for look in looks))
        spans = [those for look in looks for those in (look.content, look.held) if those]
        counted = await self._counter.count(spans, {look.topic: look.id for look in looks}, leaders)
        return [look.result(counted) for look in looks]

    async def _place(self, look: "_Look", claimed: Claimed) -> None:
        """Where the queue's content begins, and what of it is claimed; neither where Kafka does not tell now."""
        topic, ends = look.topic, look.stable
        try:
            async with self._slots:
                committed = await self._committed(self._connection.settings.group_of(topic), topic, ends)
                # Another topic of the name has other messages at the same offsets.
                there = await self._topics.describe(topic) if any(ends.values()) or topic in claimed else None
        except Unavailable as error:
            _log.info("depth.unknown topic=%s error=%s", topic, error)
            return
        look.id = "" if there is None else there.id
        claims = claimed[topic](look.id) if topic in claimed and there is not None else Claims({}, {})
        heads = heads_of(look.starts, committed, claims.heads)
        look.is_known = len(look.written) == look.partitions
        look.content = [Span(topic, p, head, ends[p]) for p, head in heads.items()]
        look.held = [
            Span(topic, p, max(start, look.starts[p]), min(end, ends[p]))
            for p, ranges in claims.undrained.items()
            if p in ends
            for start, end in ranges
        ]

    async def _offsets(
        self, partitions: Iterable[TopicPartition], spec: OffsetSpec, isolation: IsolationLevel
    ) -> _Offsets:
        """One offset per partition; tries again while one has no leader, and leaves it out where it gets none."""
        wanted = [ConfluentPartition(*where) for where in partitions]
        timeout_s = self._connection.settings.request_timeout_ms / 1000
        found: _Offsets = {}
        deadline = Deadline(_PATIENCE_S)
        while wanted:
            for start in range(0, len(wanted), _PARTITIONS_AT_ONCE):
                with self._connection.asking("reading the offsets of queues", "Describe on topics of queues"):
                    futures = self._connection.admin.list_offsets(
                        dict.fromkeys(wanted[start : start + _PARTITIONS_AT_ONCE], spec),
                        isolation_level=isolation,
                        request_timeout=timeout_s,
                    )
                    await all_answered(futures.values())
                    for where, future in futures.items():
                        if (offset := _offset(future)) is not None:
                            found[where.topic, where.partition] = offset
            wanted = [where for where in wanted if (where.topic, where.partition) not in found]
            if deadline.is_over:
                break
            await asyncio.sleep(_PAUSE_S if wanted else 0)
        return found

    async def _committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The group's offsets as they are to be seen now, whatever is pending; tries again while its node moves."""
        deadline = Deadline(self._connection.settings.request_timeout_ms / 1000)
        while True:
            try:
                return await self._groups.committed(group, topic, partitions, stable=False)
            except Unavailable:
                if deadline.is_over:
                    raise
            await asyncio.sleep(_PAUSE_S)


@dataclass(slots=True)
class _Look:
    """One queue topic while it is looked at: offsets by partition, of those that have a leader."""

    topic: str
    partitions: int
    starts: dict[int, int] = field(default_factory=dict)
    stable: dict[int, int] = field(default_factory=dict)
    written: dict[int, int] = field(default_factory=dict)
    id: str = ""
    is_known: bool = False
    content: list[Span] = field(default_factory=list)
    held: list[Span] = field(default_factory=list)

    def result(self, counted: Mapping[Span, int]) -> QueueDepth:
        """What there is to say of it."""
        depth, held = (Depth.of(spans, counted) if self.is_known else None for spans in (self.content, self.held))
        return QueueDepth(self.topic, self.partitions, depth, held, self.stable, self.written)


def _offset(future: Future[Any]) -> int | None:
    """What was answered; None: nobody leads that partition just now."""
    try:
        offset = int(future.result().offset)
    except KafkaException as error:
        if error.args[0].code() in _NOT_LED:
            return None
        raise
    return offset if offset >= 0 else None  # librdkafka's "none", with no error
