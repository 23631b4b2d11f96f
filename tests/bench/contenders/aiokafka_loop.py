"""The loop of aiokafka's documentation ("Transactional Consume-Process-Produce"): one send per record."""

import asyncio
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.domain.topic import topic_of
from streams.drain.strategy import Restore
from tests.bench.contenders.child import Ready, serve
from tests.bench.contenders.contender import Job, Source
from tests.bench.contenders.loops import LOG_HEADERS, claim_of


def drain(job: Job, source: Source, tag: str, ready: Ready) -> tuple[int, int]:
    """Drain a source with the very transform of xferq's drain, exactly once; messages and transactions."""
    return asyncio.run(_drain(job, source, f"{job.name}.{tag}", ready))


async def _drain(job: Job, source: Source, name: str, ready: Ready) -> tuple[int, int]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=job.bootstrap,
        group_id=None,  # partitions are assigned; the offsets go into the transactions
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_bytes=16 << 20,
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
        max_poll_records=job.transaction,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap,
        transactional_id=name,
        acks="all",
        linger_ms=5,
        max_batch_size=512 << 10,
        max_request_size=4 << 20,
    )
    async with consumer, producer:
        partitions = {TopicPartition(source.topic, p): ends for p, ends in source.ranges.items()}
        consumer.assign(list(partitions))
        for partition, (start, _) in partitions.items():
            consumer.seek(partition, start)
        transform = Restore(claim_of(source), node_id=job.node_id)
        left = sum(end - start for start, end in source.ranges.values())
        messages = transactions = 0
        ready()
        while left > 0:
            # It is sent while more is read, up to the size of a transaction.
            count = 0
            offsets: dict[TopicPartition, int] = {}
            sent = []
            now = datetime.now(UTC)
            async with producer.transaction():
                while count < min(job.transaction, left):
                    fetched = await consumer.getmany(timeout_ms=200, max_records=min(job.transaction, left) - count)
                    for where, records in fetched.items():
                        for record in records:
                            moved = transform(record, now)
                            sent.append(
                                await producer.send(
                                    topic_of(moved.queue),
                                    record.value,
                                    key=record.key,
                                    headers=moved.headers,
                                    timestamp_ms=record.timestamp,
                                    partition=record.partition % job.destination_partitions,
                                )
                            )
                            sent.append(
                                await producer.send(
                                    source.log_topic,
                                    moved.log,
                                    key=record.key,
                                    headers=LOG_HEADERS,
                                    partition=record.partition % job.log_partitions,
                                )
                            )
                        offsets[where] = records[-1].offset + 1
                        count += len(records)
                # aiokafka would commit although one of them failed.
                await asyncio.gather(*sent)
                await producer.send_offsets_to_transaction(offsets, name)
            left -= count
            messages += count
            transactions += 1
        return messages, transactions


if __name__ == "__main__":
    serve(drain)
