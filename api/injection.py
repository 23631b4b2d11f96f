"""Putting messages into a queue: complete with their envelopes, some of them in each transaction."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from streams.domain.topic import topic_of
from streams.drain.strategy import ENVELOPE
from streams.errors import Rejected, Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.transaction import TransactionalProducer
from streams.records import Batch, Header, Write

_VISIBLE_S = 15.0


@dataclass(frozen=True, slots=True)
class Message:
    """A message for a queue; `envelope` as JSON."""

    id: str
    data: bytes
    envelope: bytes


class Injector:
    """Writes messages to one queue's topic, round and round its partitions; made by `open_injector`."""

    def __init__(self, producer: TransactionalProducer, topic: str, partitions: int, limit_bytes: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._limit_bytes = limit_bytes
        self._next = 0

    def excess(self, message: Message) -> str | None:
        """Why the topic does not take a message of this size, as a sentence's end that says what permits more."""
        alone = self._producer.batch(1)
        _append(alone, message)
        if alone.size() <= self._limit_bytes:
            return None
        return (
            f"is too large: with its envelope {alone.size():,} bytes, of which the topic {self._topic} takes "
            f"{self._limit_bytes:,}. Raise max.message.bytes of this topic and of those that it is to be moved to, or "
            "message.max.bytes of the brokers for all that have none of their own"
        )

    async def write(self, messages: Sequence[Message]) -> None:
        """Write all of these messages, or none.

        Raises:
            Rejected: the topic does not take them.
            Unavailable: Kafka is away.
            OutcomeUnknown: Kafka did not say whether they are written.
        """
        writes: list[Write] = []
        open_batches: dict[int, Batch] = {}
        for message in messages:
            partition, self._next = self._next, (self._next + 1) % self._partitions
            batch = open_batches.get(partition)
            if batch is None or _append(batch, message) is None:
                batch = open_batches[partition] = self._producer.batch()
                _append(batch, message)
                writes.append(Write(self._topic, partition, batch))
        if writes:
            await self._producer.transact(writes)

    async def close(self) -> None:
        """Close the connections."""
        await self._producer.close()

    async def __aenter__(self) -> "Injector":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def open_injector(kafka: Cluster, queue: str) -> Injector:
    """Get ready to write to a queue, whose topic is created where it does not exist.

    Raises:
        Rejected: the topic can't be created.
        Unavailable: Kafka is away.
    """
    topic = topic_of(queue)
    failures = {} if await kafka.topic(topic) is not None else await kafka.create([topic])
    if failures:
        raise Rejected({(topic, 0): f"can't be created: {failures[topic]}"})
    producer = await kafka.producer(f"xferq.inject.{uuid.uuid4().hex}")
    try:
        deadline = time.monotonic() + _VISIBLE_S
        while not (found := await producer.partitions([topic])):
            if time.monotonic() > deadline:
                raise Unavailable(f"waiting for the new topic {topic}")
            await asyncio.sleep(0.05)
        return Injector(producer, topic, found[topic], await kafka.max_message_bytes(topic))
    except BaseException:
        await producer.close()
        raise


def _append(batch: Batch, message: Message) -> object | None:
    headers: list[Header] = [(ENVELOPE, message.envelope)]
    now_ms = int(time.time() * 1000)
    return batch.append(timestamp=now_ms, key=message.id.encode(), value=message.data, headers=headers)
