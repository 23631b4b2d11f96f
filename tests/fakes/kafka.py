"""`streams.ports.Kafka` over a `Broker`: what one process sees of the cluster."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from aiokafka.partitioner import murmur2

from streams.domain.depth import Claimed, Claims, Depth, QueueDepth, Span
from streams.domain.head import heads_of
from streams.domain.topic import is_queue_topic
from streams.errors import Refused, Unavailable
from streams.ports import Topic
from streams.records import Header
from streams.settings.settings import Settings
from tests.fakes.broker import Broker, FakeTopic
from tests.fakes.faults import Faults
from tests.fakes.groups import Group
from tests.fakes.producer import FakeProducer
from tests.fakes.reader import FakeReader, FakeTail


class FakeHold:
    """See `streams.ports.Hold`."""

    delays_members = True

    def __init__(self, group: Group, faults: Faults, evicted: Collection[str]) -> None:
        self._group = group
        self._faults = faults
        self.member_id = group.join(seat=lambda: not faults.dead)
        self.evicted = set(evicted)
        group.leave(self.evicted)

    async def release(self) -> None:
        await self._faults.point("release")
        self._group.leave([self.member_id])


class FakeKafka:
    """One process's way to the cluster. When it crashed, nothing of it works any more."""

    def __init__(self, broker: Broker, settings: Settings, faults: Faults | None = None, *, at_a_time: int = 4) -> None:
        self.broker = broker
        self.faults = faults or Faults()
        self._settings = settings
        self._at_a_time = at_a_time

    async def topics(self, *, everywhere: bool = False) -> list[str]:
        await self.faults.point("topics")
        return list(self.broker.topics)

    async def topic(self, name: str) -> Topic | None:
        await self.faults.point(f"topic:{name}")
        topic = self.broker.topics.get(name)
        return None if topic is None else Topic(topic.name, topic.id, len(topic.logs))

    async def ids(self, topic: str) -> set[str]:
        await self.faults.point(f"ids:{topic}")
        there = self.broker.topics.get(topic)
        return set() if there is None else {there.id}

    async def is_gone(self, topic: str) -> bool:
        await self.faults.point(f"is_gone:{topic}")
        return topic not in self.broker.topics

    async def create(self, names: Collection[str]) -> dict[str, str]:
        await self.faults.point("create")
        failures = {name: self.broker.create(name, self._settings.queue_partitions) for name in sorted(names)}
        await self.faults.point("create.done")
        return {name: why for name, why in failures.items() if why is not None}

    async def depths(self, claimed: Claimed, is_wanted: Callable[[str], bool]) -> list[QueueDepth]:
        await self.faults.point("depths")
        topics = [topic for name, topic in sorted(self.broker.topics.items()) if is_queue_topic(name)]
        return [self._depth(topic, claimed) for topic in topics if is_wanted(topic.name)]

    def _depth(self, topic: FakeTopic, claimed: Claimed) -> QueueDepth:
        logs = dict(enumerate(topic.logs))
        claims = claimed[topic.name](topic.id) if topic.name in claimed else Claims({}, {})
        group = self.broker.group(self._settings.group_of(topic.name))
        committed = {p: found for p in logs if (found := group.offset(topic.name, p)) is not None}
        heads = heads_of({p: log.start for p, log in logs.items()}, committed, claims.heads)
        content = [Span(topic.name, p, head, logs[p].stable_end) for p, head in heads.items()]
        held = [Span(topic.name, p, *found) for p, ranges in claims.undrained.items() for found in ranges]
        counted = {span: len(list(logs[span.partition].records(span.start, span.end))) for span in content + held}
        stable, written = {p: log.stable_end for p, log in logs.items()}, {p: log.end for p, log in logs.items()}
        return QueueDepth(topic.name, len(logs), Depth.of(content, counted), Depth.of(held, counted), stable, written)

    async def max_message_bytes(self, topic: str) -> int:
        await self.faults.point(f"max_message_bytes:{topic}")
        return self._topic(topic).max_message_bytes

    async def timestamp_limits(self, topic: str) -> tuple[int, int]:
        await self.faults.point(f"timestamp_limits:{topic}")
        return self._topic(topic).timestamp_limits

    async def high_watermarks(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        await self.faults.point(f"high_watermarks:{topic}")
        return {p: self._topic(topic).logs[p].end for p in partitions}

    async def stable_ends(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        await self.faults.point(f"stable_ends:{topic}")
        if latest_of not in (None, self._topic(topic).id):
            raise Unavailable(f"{topic} has another id")
        return {p: self._topic(topic).logs[p].stable_end for p in partitions}

    async def log_starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        await self.faults.point(f"log_starts:{topic}")
        return {p: self._topic(topic).logs[p].start for p in partitions}

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        await self.faults.point(f"delete_before:{topic}")
        for partition, offset in offsets.items():
            log = self._topic(topic).logs[partition]
            if offset > log.end:
                raise Unavailable(f"{topic}/{partition} ends at {log.end}")
            log.start = max(log.start, offset)
        await self.faults.point(f"delete_before:{topic}.done")

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, stable: bool = True
    ) -> dict[int, int]:
        await self.faults.point(f"committed:{topic}")
        there = self.broker.group(group)
        wanted = list(partitions)
        if stable and any(there.is_pending((topic, p)) for p in wanted):
            raise Unavailable(f"group {group}: a transaction is pending")
        found = {p: there.offset(topic, p) for p in wanted}
        return {p: offset for p, offset in found.items() if offset is not None}

    async def stamped(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        await self.faults.point(f"stamped:{topic}")
        found = {p: self.broker.group(group).stamped(topic, p) for p in partitions}
        return {p: offset for p, offset in found.items() if offset is not None}

    async def members(self, group: str) -> set[str]:
        await self.faults.point("members")
        there = self._consumer_group(group)
        there.sweep()
        return set(there.members)

    async def evict(self, group: str, members: Collection[str]) -> None:
        for member in sorted(members):
            await self.faults.point("evict")
            self._consumer_group(group).leave([member])

    async def hold(self, group: str) -> FakeHold | None:
        await self.faults.point("hold")
        there = self._consumer_group(group)
        there.sweep()
        others = set(there.members)
        if not others:
            return None
        if not there.is_classic:
            await self.evict(group, others)
            return None
        hold = FakeHold(there, self.faults, others)
        await self.faults.point("hold.done")
        return hold

    async def producer(self, transactional_id: str) -> FakeProducer:
        await self.faults.point(f"producer:{transactional_id}")
        epoch = self.broker.take_over(transactional_id)
        # InitProducerId is not answered before the last transaction is over.
        transaction = self.broker.ids[transactional_id].transaction
        until = asyncio.get_running_loop().time() + self._settings.request_timeout_ms / 1000
        while transaction is not None and transaction.missing:
            if asyncio.get_running_loop().time() > until:
                raise Unavailable(f"taking over {transactional_id}: no answer in time")
            await self.faults.point("producer", counted=False)
        await self.faults.point(f"producer:{transactional_id}.done")
        return FakeProducer(self.broker, self._settings, self.faults, transactional_id, epoch)

    async def reader(self, topic: str, partition: int, start: int, end: int) -> FakeReader:
        await self.faults.point(f"reader:{topic}/{partition}")
        return FakeReader(self.broker, self.faults, topic, partition, start, end, self._at_a_time)

    async def tail(self, topic: str, starts: Mapping[int, int]) -> FakeTail:
        await self.faults.point("tail", counted=False)
        there = self._topic(topic)
        if not starts.keys() <= set(range(len(there.logs))):
            raise Unavailable(f"{topic} has {len(there.logs)} partitions")
        return FakeTail(self.broker, self.faults, topic, starts)

    async def mark(self, topic: str, partition: int, key: bytes, headers: Sequence[Header]) -> None:
        await self.faults.point(f"mark:{topic}/{partition}")
        self._topic(topic).logs[partition].append([(self.broker.now_ms(), key, None, tuple(headers))])
        await self.faults.point(f"mark:{topic}/{partition}.done")

    async def publish(
        self,
        topic: str,
        records: Sequence[tuple[bytes, bytes | None]],
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        kinds = ",".join(sorted({key.partition(b"/")[0].decode(errors="replace") for key, _ in records}))
        await self.faults.point(f"publish:{topic}/{kinds}")
        logs = self._topic(topic).logs
        for key, value in records:
            if len(key) + len(value or b"") > self._topic(topic).max_message_bytes:
                raise Refused(f"publishing to {topic}: it is larger than Kafka takes")
            where = (murmur2(key) & 0x7FFFFFFF) % len(logs) if partition is None else partition
            logs[where].append([(self.broker.now_ms(), key, value, tuple(headers))])
        await self.faults.point(f"publish:{topic}/{kinds}.done")

    def _consumer_group(self, name: str) -> Group:
        group = self.broker.group(name)
        if group.kind != "consumer":
            raise Refused(f"group {name} is a {group.kind} group")
        return group

    def _topic(self, name: str) -> FakeTopic:
        topic = self.broker.topics.get(name)
        if topic is None:
            raise Unavailable(f"topic {name} does not exist")
        return topic
