"""What is in topics, read with confluent-kafka: for those who want to check the engine, which reads with aiokafka."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.errors import Unavailable
from streams.kafka.connection import Connection
from streams.kafka.translate import translating

_AT_ONCE = 500
_WAIT_S = 0.05
_SILENCE_S = 15.0
"""A partition that yields neither records nor its end for so long can't be read."""


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A committed record where it lies; `timestamp` in ms."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def read_contents(connection: Connection, topics: Mapping[str, Mapping[int, int]]) -> dict[str, Sequence[StoredRecord]]:
    """All committed records of the topics, by topic, in order within each partition. Blocks.

    Nothing is committed for it, and no group joined.

    Args:
        topics: for each topic the first offset to read, by partition; from the beginning where there is none.
            Topics that don't exist are empty.

    Raises:
        Unavailable: Kafka is away, or a topic can't be read to its end.
    """
    consumer = Consumer(
        {
            **connection.librdkafka("contents"),
            "group.id": "xferq-contents",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    found: dict[str, list[StoredRecord]] = {topic: [] for topic in topics}
    try:
        with translating("reading topics", f"Read on topic {' or '.join(sorted(topics))}"):
            known = consumer.list_topics(timeout=_SILENCE_S).topics
            left = {(topic, partition) for topic in topics if topic in known for partition in known[topic].partitions}
            if not left:
                return dict(found)
            consumer.assign([TopicPartition(t, p, topics[t].get(p, 0)) for t, p in sorted(left)])
            heard = time.monotonic()
            while left:
                if _read_some(consumer, found, left):
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_S:
                    topic, partition = min(left)
                    raise Unavailable(f"reading topics: {topic}/{partition} can't be read to its end")
    finally:
        consumer.close()
    return dict(found)


def _read_some(consumer: Consumer, found: dict[str, list[StoredRecord]], left: set[tuple[str, int]]) -> bool:
    """Add what comes next to `found`; partitions that are at their end go out of `left`. False if nothing came."""
    # Where there are fewer messages than asked for, this takes the whole time-out.
    messages = consumer.consume(_AT_ONCE, timeout=_WAIT_S)
    for message in messages:
        error = message.error()
        if error is None:
            record = StoredRecord(
                partition=message.partition(),
                offset=message.offset(),
                timestamp=message.timestamp()[1],
                key=message.key(),
                value=message.value(),
                headers=tuple(message.headers() or ()),
            )
            found[message.topic()].append(record)
        elif error.code() == KafkaError._PARTITION_EOF:
            left.discard((message.topic(), message.partition()))
        else:
            raise Unavailable(f"reading topics: {error.str()}")
    return bool(messages)
