"""The loop that a good Kafka engineer would write with confluent-kafka: consume, produce, commit."""

from datetime import UTC, datetime

import confluent_kafka

from streams.domain.topic import topic_of
from streams.drain.strategy import Restore
from tests.bench.contenders.child import Ready, serve
from tests.bench.contenders.contender import Job, Source
from tests.bench.contenders.loops import LOG_HEADERS, claim_of


def drain(job: Job, source: Source, tag: str, ready: Ready) -> tuple[int, int]:
    """Drain a source with the very transform of xferq's drain, exactly once; messages and transactions.

    The settings are those that made librdkafka fastest here.
    """
    name = f"{job.name}.{tag}"
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": name,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.max.bytes": 16 << 20,
            "max.partition.fetch.bytes": 8 << 20,
            "queued.max.messages.kbytes": 128 << 10,
            "fetch.wait.max.ms": 100,
        }
    )
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": job.bootstrap,
            "transactional.id": name,
            "linger.ms": 5,
            "batch.size": 512 << 10,
            "message.max.bytes": 4 << 20,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 256 << 10,
        }
    )
    producer.init_transactions(30)
    transform = Restore(claim_of(source), node_id=job.node_id)
    left = sum(end - start for start, end in source.ranges.values())
    ready()
    consumer.assign(
        [confluent_kafka.TopicPartition(source.topic, p, start) for p, (start, end) in source.ranges.items()]
    )
    messages = transactions = 0
    while left > 0:
        # No more than there is: consume() waits for all that it is asked for.
        records = consumer.consume(min(job.transaction, left), 1.0)
        if not records:
            continue
        now = datetime.now(UTC)
        producer.begin_transaction()
        for record in records:
            moved = transform(_Record(record), now)
            partition = record.partition()
            _produce(
                producer,
                topic_of(moved.queue),
                value=record.value(),
                key=record.key(),
                headers=moved.headers,
                timestamp=record.timestamp()[1],
                partition=partition % job.destination_partitions,
            )
            _produce(
                producer,
                source.log_topic,
                value=moved.log,
                key=record.key(),
                headers=LOG_HEADERS,
                partition=partition % job.log_partitions,
            )
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(60)
        left -= len(records)
        messages += len(records)
        transactions += 1
    consumer.close()
    return messages, transactions


class _Record:
    """confluent-kafka's message as the transform wants a record."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "value")

    def __init__(self, message: confluent_kafka.Message) -> None:
        if message.error() is not None:
            raise confluent_kafka.KafkaException(message.error())
        self.headers = message.headers()
        self.key = message.key()
        self.value = message.value()
        self.partition = message.partition()
        self.offset = message.offset()
        self.timestamp = message.timestamp()[1]


def _produce(producer: confluent_kafka.Producer, topic: str, **record: object) -> None:
    while True:
        try:
            producer.produce(topic, **record)
            return
        except BufferError:
            producer.poll(0.05)


if __name__ == "__main__":
    serve(drain)
