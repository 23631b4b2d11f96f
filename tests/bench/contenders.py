"""The loop that a good Kafka engineer would write by hand, to measure the drain against."""

import time
from datetime import UTC, datetime

import confluent_kafka

from streams.domain.claim import Claim
from streams.domain.topic import topic_of
from streams.transform import Transform


def confluent_loop(bootstrap: str, topic: str, claim: Claim, log_topic: str, *, batch: int = 5000) -> float:
    """Drain a claim's ranges with confluent-kafka: consume, produce, send offsets, commit; seconds taken.

    It writes the restored message and its AdminRebind record, exactly once, with the very transform of the
    drain, and uses librdkafka with the settings that made it fastest here.
    """
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench.{topic}",
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
            "bootstrap.servers": bootstrap,
            "transactional.id": f"bench.{topic}",
            "linger.ms": 5,
            "batch.size": 512 << 10,
            "queue.buffering.max.messages": 200_000,
            "queue.buffering.max.kbytes": 256 << 10,
        }
    )
    producer.init_transactions(30)
    consumer.assign([confluent_kafka.TopicPartition(topic, p, start) for p, (start, _) in claim.ranges.items()])
    transform = Transform(claim, node_id="00000000-0000-0000-0000-000000000000")
    left = sum(end - start for start, end in claim.ranges.values())
    started = time.perf_counter()
    while left > 0:
        messages = consumer.consume(batch, 1.0)
        if not messages:
            continue
        now = datetime.now(UTC)
        producer.begin_transaction()
        for message in messages:
            moved = transform(_Record(message), now)
            _produce(
                producer,
                topic_of(moved.queue),
                value=message.value(),
                key=message.key(),
                headers=moved.headers,
                timestamp=message.timestamp()[1],
                partition=message.partition() % 4,
            )
            _produce(producer, log_topic, value=moved.log, key=message.key(), headers=[("type", b"AdminRebind")])
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        producer.commit_transaction(30)
        left -= len(messages)
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


class _Record:
    """confluent-kafka's message as the transform wants a record."""

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "value")

    def __init__(self, message: confluent_kafka.Message) -> None:
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
