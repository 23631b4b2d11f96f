"""The limit's process: reads the range without decoding a record, and writes batches that are ready.

All that goes into a transaction of xferq's drain goes into one here: the restored messages and their log records,
byte for byte, in the same batches for the same partitions. But they are built before the clock runs, so that what is
left is what Kafka and aiokafka take for them. With `few`, they are in as few batches as can be, whichever their
messages' own queues are: what Kafka and aiokafka take for so many bytes.
"""

import asyncio
import struct
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from streams.domain.topic import topic_of
from streams.drain.strategy import Restore
from streams.kafka.cluster import Cluster
from streams.kafka.transaction import TransactionalProducer
from streams.records import Batch, Header, Record, Write
from streams.settings.settings import Settings
from tests.bench.contenders.child import Ready, serve
from tests.bench.contenders.contender import Job, Source
from tests.bench.contenders.loops import claim_of

BATCH_BYTES = 960 << 10
_FETCH_BYTES = 8 << 20
_BATCH_HEADER = struct.Struct(">qi")
_LAST_DELTA = struct.Struct(">i")
_LAST_DELTA_AT = 23
_FEW = sys.argv[1:] == ["few"]


def drain(job: Job, source: Source, tag: str, ready: Ready) -> tuple[int, int]:
    """Write what is ready while the source is read; messages and transactions."""
    return asyncio.run(_drain(job, source, f"{job.name}.{tag}", ready))


async def _drain(job: Job, source: Source, name: str, ready: Ready) -> tuple[int, int]:
    settings = Settings(bootstrap_servers=job.bootstrap, batch_bytes=BATCH_BYTES)
    async with Cluster(settings) as kafka:
        client = AIOKafkaClient(bootstrap_servers=job.bootstrap)
        await client.bootstrap()
        client.set_topics([source.topic])
        await client.force_metadata_update()
        producers = {}
        transactions = {}
        try:
            for partition, (start, end) in source.ranges.items():
                producer = producers[partition] = await kafka.producer(f"{name}.{partition}")
                reader = await kafka.reader(source.topic, partition, start, end)
                records: list[Record] = []
                while reader.position < end:
                    records += await reader.read()
                await reader.close()
                transactions[partition] = await _prebuilt(job, source, partition, records, producer)
            ready()
            await asyncio.gather(
                *(_read(client, source.topic, p, start, end) for p, (start, end) in source.ranges.items()),
                *(_write(producers[partition], writes) for partition, writes in transactions.items()),
            )
        finally:
            await client.close()
            for producer in producers.values():
                await producer.close()
    messages = sum(end - start for start, end in source.ranges.values())
    return messages, sum(map(len, transactions.values()))


async def _prebuilt(
    job: Job, source: Source, partition: int, records: Sequence[Record], producer: TransactionalProducer
) -> list[list[Write]]:
    """The writes of each transaction."""
    transform = Restore(claim_of(source), node_id=job.node_id)
    now = datetime.now(UTC)
    moved = [(record, transform(record, now)) for record in records]
    topics = {topic_of(message.queue) for _, message in moved}
    await producer.partitions({*topics, source.log_topic})
    there, log = partition % job.destination_partitions, (source.log_topic, partition % job.log_partitions)
    transactions = []
    for start in range(0, len(moved), job.transaction):
        batches = _Batches(producer)
        for record, message in moved[start : start + job.transaction]:
            home = "" if _FEW else topic_of(message.queue)
            batches.add((home, there), record.timestamp, record.key, record.value, message.headers)
            batches.add(log, None, record.key, message.log, message.log_headers)
        queues = cycle(sorted(topics))
        transactions.append([Write(topic or next(queues), number, batch) for (topic, number), batch in batches.all])
    return transactions


class _Batches:
    """Records in batches by where they go, a new one when the last is full."""

    def __init__(self, producer: TransactionalProducer) -> None:
        self._producer = producer
        self._last: dict[tuple[str, int], Batch] = {}
        self.all: list[tuple[tuple[str, int], Batch]] = []

    def add(
        self,
        where: tuple[str, int],
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
    ) -> None:
        """One more record."""
        last = self._last.get(where)
        if last is None or last.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            last = self._last[where] = self._producer.batch(BATCH_BYTES)
            last.append(timestamp=timestamp, key=key, value=value, headers=headers)
            self.all.append((where, last))


async def _write(producer: TransactionalProducer, transactions: Sequence[Sequence[Write]]) -> None:
    for writes in transactions:
        await producer.transact(writes)


async def _read(client: AIOKafkaClient, topic: str, partition: int, start: int, end: int) -> None:
    """Fetch a range; of each batch only its first 27 bytes are looked at, for the offset of its last record."""
    offset = start
    while offset < end:
        node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        answer = await client.send(
            node,
            FetchRequest(
                max_wait_time=100,
                min_bytes=1,
                max_bytes=_FETCH_BYTES,
                isolation_level=1,
                topics=[(topic, [(partition, offset, _FETCH_BYTES)])],
            ),
        )
        for _, partitions in answer.topics:
            for fetched in partitions:
                if fetched[1] != 0:
                    raise RuntimeError(f"fetching {topic}/{partition}: error {fetched[1]}")
                offset = _next_offset(fetched[-1], offset)


def _next_offset(batches: bytes, offset: int) -> int:
    at = 0
    while at + _LAST_DELTA_AT + _LAST_DELTA.size <= len(batches):
        base, length = _BATCH_HEADER.unpack_from(batches, at)
        if at + _BATCH_HEADER.size + length > len(batches):
            break
        offset = base + _LAST_DELTA.unpack_from(batches, at + _LAST_DELTA_AT)[0] + 1
        at += _BATCH_HEADER.size + length
    return offset


if __name__ == "__main__":
    serve(drain)
