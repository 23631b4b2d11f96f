"""Reading committed records: one partition's range for a drain, a whole topic for the ledger."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka import errors as aio

from streams.errors import OutOfRange
from streams.kafka.connection import Connection
from streams.kafka.translate import translating
from streams.ports import Record

_CLOSE_S = 2.0


class RangeReader:
    """Records of one partition from `start` up to `end` (excluded); made by `open_reader`."""

    def __init__(self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int) -> None:
        self._consumer = consumer
        self._partition = partition
        self._end = end
        self._position = start

    @property
    def position(self) -> int:
        """The next offset to read; at or past the end once markers at the end were passed too."""
        return self._position

    async def read(self) -> Sequence[Record]:
        """What one fetch brought; records at or past the end are left out.

        Without `max_records`: aiokafka starts the next fetch only once this one is used up.
        """
        with translating(f"reading {self._partition.topic}/{self._partition.partition}"):
            try:
                fetched = await self._consumer.getmany(self._partition, timeout_ms=200)
            except aio.OffsetOutOfRangeError as error:
                raise OutOfRange(
                    f"{self._partition.topic}/{self._partition.partition} has no offset {self._position} any more"
                ) from error
            self._position = await self._consumer.position(self._partition)
        records: list[ConsumerRecord] = fetched.get(self._partition, [])
        if records and records[-1].offset >= self._end:
            return [record for record in records if record.offset < self._end]
        return records

    async def close(self) -> None:
        """Close the connections; never raises."""
        await _close(self._consumer)


class TopicTail:
    """All partitions of one topic from the beginning; made by `open_tail`."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
        self._consumer = consumer
        self._partitions = partitions

    async def read(self, timeout_ms: int) -> Iterable[Record]:
        """What has come since, or nothing after `timeout_ms`."""
        with translating("reading the ledger"):
            fetched = await self._consumer.getmany(timeout_ms=timeout_ms)
        return [record for records in fetched.values() for record in records]

    async def position(self, partition: int) -> int:
        """The next offset to read: below it everything was returned by `read`, or is a marker.

        getmany passes over a fetch that holds markers only and waits on, so the position moves on
        although `read` has not returned.
        """
        with translating("reading the ledger"):
            return int(await self._consumer.position(self._partitions[partition]))

    async def close(self) -> None:
        """Close the connections; never raises."""
        await _close(self._consumer)


async def open_reader(connection: Connection, topic: str, partition: int, start: int, end: int) -> RangeReader:
    """Open a reader of committed records; nothing is committed for it and no group joined."""
    settings = connection.settings
    consumer = AIOKafkaConsumer(
        **connection.client("drain"),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=settings.fetch_bytes,
        fetch_max_bytes=settings.fetch_bytes * 2,
        fetch_max_wait_ms=100,
    )
    where = TopicPartition(topic, partition)
    await _start(consumer, f"opening {topic}/{partition}")
    consumer.assign([where])
    consumer.seek(where, start)
    return RangeReader(consumer, where, start, end)


async def open_tail(
    connection: Connection, topic: str, partitions: int, starts: Mapping[int, int] | None = None
) -> TopicTail:
    """Follow all `partitions` of `topic`: each from its start in `starts`, or else from offset 0."""
    consumer = AIOKafkaConsumer(
        **connection.client("ledger"),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=500,
    )
    await _start(consumer, f"opening {topic}")
    assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer.assign(assigned)
    for partition in assigned:
        consumer.seek(partition, (starts or {}).get(partition.partition, 0))
    return TopicTail(consumer, assigned)


async def _start(consumer: AIOKafkaConsumer, doing: str) -> None:
    try:
        with translating(doing):
            await consumer.start()
    except BaseException:
        await _close(consumer)
        raise


async def _close(consumer: AIOKafkaConsumer) -> None:
    # A task of its own: aiokafka lets the CancelledError of its fetches out of stop(), and waits for a broker.
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait([stopping], timeout=_CLOSE_S)
    if not stopping.done():
        stopping.cancel()
    elif not stopping.cancelled():
        stopping.exception()  # nothing of ours depends on a clean end
