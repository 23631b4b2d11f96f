"""Reading committed records: one partition's range for a drain, a whole topic for the ledger."""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka import errors as aio

from streams.errors import OutOfRange, Unreadable
from streams.kafka.connection import Connection
from streams.kafka.leaders import follow_latest
from streams.kafka.translate import translating
from streams.kafka.wire.records import is_unreadable, unopened
from streams.kafka.wire.runs import AsRuns
from streams.native.extension import native_of
from streams.records import Record

_CLOSE_S = 2.0
_WAIT_MS = 500
_IDLE_WAIT_MS = 1_500
"""How long a fetch of a tail waits at the broker, and how long at most where nothing has come for a while."""
_IDLE_READS = 5
LOOK_MS = 1_000
"""How often aiokafka looks at each partition while nothing happens (every 200 by itself)."""


class RangeReader:
    """Records of one partition from `start` up to `end` (excluded); made by `open_reader`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int, timeout_s: float
    ) -> None:
        self._consumer = consumer
        self._timeout_s = timeout_s
        self._partition = partition
        self._start = start
        self._end = end
        self._position = start

    @property
    def position(self) -> int:
        """The next offset to read; at or past the end once markers at the end were passed too."""
        return self._position

    async def read(self) -> Sequence[Record]:
        """What one fetch brought; records at or past the end are left out. See `streams.records.Reader`.

        Without `max_records`: aiokafka starts the next fetch only once this one is used up.
        """
        topic, number = self._partition.topic, self._partition.partition
        with translating(f"reading {topic}/{number}", f"Read on topic {topic}"):
            async with asyncio.timeout(self._timeout_s):
                try:
                    fetched = await self._consumer.getmany(self._partition, timeout_ms=200)
                except aio.OffsetOutOfRangeError as error:
                    raise OutOfRange(
                        f"{self._partition.topic}/{self._partition.partition} has no offset {self._position} any more"
                    ) from error
                self._position = await self._consumer.position(self._partition)
        records, bad = _parted(fetched.get(self._partition, []))
        # A batch has all of its records before the end, or none.
        if bad is not None and bad.offset < self._end:
            if not records:
                batch = unopened(bad, self._start)
                if batch is None:
                    raise _unreadable(bad)
                self._position = batch.offset + 1
                self._consumer.seek(self._partition, self._position)
                return [batch]
            # What comes before it is good; the next read begins with it.
            self._position = records[-1].offset + 1
            self._consumer.seek(self._partition, self._position)
        if records and records[-1].offset >= self._end:
            return records[: bisect_left(records, self._end, key=attrgetter("offset"))]
        return records

    async def close(self) -> None:
        """Close the connections; never raises."""
        await _close(self._consumer)


class TopicTail:
    """Some partitions of one topic, each from its start; made by `open_tail`."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, timeout_s: float) -> None:
        self._consumer = consumer
        self._topic = topic
        self._timeout_s = timeout_s
        self._idle_reads = 0

    async def read(self, timeout_ms: int) -> Iterable[Record]:
        """What has come since, or nothing after `timeout_ms`."""
        with translating(f"reading {self._topic}", f"Read on topic {self._topic}"):
            async with asyncio.timeout(self._timeout_s + timeout_ms / 1000):
                try:
                    fetched = await self._consumer.getmany(timeout_ms=timeout_ms)
                except aio.OffsetOutOfRangeError as error:
                    places = {where.partition: offset for where, offset in error.args[0].items()}
                    raise OutOfRange(
                        f"{self._topic}: no such offsets (by partition): {places}", places.keys()
                    ) from error
        found = [record for records in fetched.values() for record in records]
        self._idle_reads = 0 if found else self._idle_reads + 1
        # For what comes next, the fetch that waits is over as soon as something has come. But it leaves out a partition
        # of which something is still to be taken out here; that one waits for its end.
        wait_ms = min(_IDLE_WAIT_MS, int(self._timeout_s * 1000 / 3)) if self._idle_reads >= _IDLE_READS else _WAIT_MS
        self._consumer._fetcher._fetch_max_wait_ms = wait_ms
        for record in found:
            if is_unreadable(record):
                raise _unreadable(record)
        return found

    async def positions(self, partitions: Iterable[int]) -> dict[int, int]:
        """The next offsets to read: below them everything was returned by `read`, or is a marker.

        getmany passes over a fetch that holds markers only and waits on, so the position moves on
        although `read` has not returned.
        """
        with translating(f"reading {self._topic}", f"Read on topic {self._topic}"):
            async with asyncio.timeout(self._timeout_s):
                return {p: int(await self._consumer.position(TopicPartition(self._topic, p))) for p in partitions}

    async def offsets_since(self, timestamp_ms: int, ends: Mapping[int, int]) -> dict[int, int]:
        """By partition, the first offset whose record is as young as that; its end, where there is none."""
        wanted = {TopicPartition(self._topic, partition): timestamp_ms for partition in ends}
        with translating(f"reading {self._topic}", f"Read on topic {self._topic}"):
            async with asyncio.timeout(self._timeout_s):
                found = await self._consumer.offsets_for_times(wanted)
        return {
            where.partition: ends[where.partition] if first is None else min(first.offset, ends[where.partition])
            for where, first in found.items()
        }

    def go_to(self, offsets: Mapping[int, int]) -> None:
        """Go on reading at these offsets, by partition."""
        for partition, offset in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def leave(self, partition: int) -> None:
        """Fetch this partition no more."""
        self._consumer.pause(TopicPartition(self._topic, partition))

    async def close(self) -> None:
        """Close the connections; never raises."""
        await _close(self._consumer)


def _parted(fetched: list[Any]) -> tuple[Sequence[Record], ConsumerRecord | None]:
    """The records up to the first that is unreadable, and that one; of runs there is one at most."""
    if fetched and not hasattr(fetched[0], "offset"):
        return fetched[0], fetched[1] if len(fetched) > 1 else None
    for index, record in enumerate(fetched):
        if record.value is None and is_unreadable(record):
            return fetched[:index], record
    return fetched, None


def _unreadable(record: ConsumerRecord) -> Unreadable:
    return Unreadable(
        f"reading {record.topic}/{record.partition}: the batch that ends at offset {record.offset} would unpack to "
        "more than a worker may hold; it stands in the way until it is deleted (kafka-delete-records)"
    )


async def open_reader(connection: Connection, topic: str, partition: int, start: int, end: int) -> RangeReader:
    """Open a reader of committed records; nothing is committed for it and no group joined."""
    settings = connection.settings
    native = native_of(settings)
    consumer = AIOKafkaConsumer(
        **connection.client("drain"),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=settings.fetch_bytes,
        fetch_max_bytes=settings.fetch_bytes * 2,
        fetch_max_wait_ms=100,
        key_deserializer=None if native is None else AsRuns(native),
    )
    where = TopicPartition(topic, partition)
    timeout_s = settings.request_timeout_ms / 1000
    await _start(consumer, f"opening {topic}/{partition}", timeout_s)
    consumer.assign([where])
    consumer.seek(where, start)
    return RangeReader(consumer, where, start, end, timeout_s)


async def open_tail(
    connection: Connection, topic: str, starts: Mapping[int, int], *, goes_on_at: Literal["earliest", "none"] = "none"
) -> TopicTail:
    """Follow partitions of `topic`, each from its start.

    Args:
        goes_on_at: where a partition goes on whose log does not hold that offset: at the log's start, or nowhere
            (`read` raises OutOfRange).
    """
    consumer = AIOKafkaConsumer(
        **connection.client("ledger"),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset=goes_on_at,
        fetch_max_wait_ms=_WAIT_MS,
        consumer_timeout_ms=LOOK_MS,
    )
    timeout_s = connection.settings.request_timeout_ms / 1000
    await _start(consumer, f"opening {topic}", timeout_s)
    try:
        with translating(f"opening {topic}"):
            await follow_latest(consumer._client, topic)
    except BaseException:
        await _close(consumer)
        raise
    consumer.assign([TopicPartition(topic, partition) for partition in starts])
    for partition, start in starts.items():
        consumer.seek(TopicPartition(topic, partition), start)
    return TopicTail(consumer, topic, timeout_s)


async def _start(consumer: AIOKafkaConsumer, doing: str, timeout_s: float) -> None:
    try:
        with translating(doing):
            # aiokafka gives each of the bootstrap servers so long, one after the other.
            async with asyncio.timeout(timeout_s):
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
        stopping.exception()  # nothing in xferq depends on a clean end
