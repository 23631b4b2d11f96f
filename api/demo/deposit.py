"""Putting the demo's mail into queue topics, with all headers and times that it has."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from itertools import islice
from typing import cast

from api.demo.corpus import Mail
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.transaction import TransactionalProducer
from streams.records import Batch, Header, Write

_AT_ONCE = 500
_VISIBLE_S = 15.0


async def deposit(kafka: Cluster, mails: Sequence[Mail], advance: Callable[[int], None]) -> None:
    """Write each message to its queue's topic, round and round the partitions, some hundred in a transaction.

    Args:
        advance: told how many are written.

    Raises:
        Rejected: a topic does not take a message.
        Unavailable: Kafka is away, or a topic does not show up.
    """
    producer = await kafka.producer(f"xferq.inject.{uuid.uuid4().hex}")
    try:
        counts = await _partitions(producer, {topic_of(mail.queue) for mail in mails})
        numbered = enumerate(mails)
        written = 0
        while chunk := list(islice(numbered, _AT_ONCE)):
            await producer.transact(_writes(producer, chunk, counts))
            written += len(chunk)
            advance(written)
    finally:
        await producer.close()


def _writes(producer: TransactionalProducer, mails: Sequence[tuple[int, Mail]], counts: dict[str, int]) -> list[Write]:
    writes: list[Write] = []
    filling: dict[tuple[str, int], Batch] = {}
    for number, mail in mails:
        topic = topic_of(mail.queue)
        where = topic, number % counts[topic]
        batch = filling.get(where)
        if batch is None or not _append(batch, mail):
            batch = filling[where] = producer.batch()
            _append(batch, mail)
            writes.append(Write(*where, batch))
    return writes


def _append(batch: Batch, mail: Mail) -> bool:
    # Kafka has headers without a value, though ports.Header, what the engine writes itself, has none.
    headers = cast(list[Header], list(mail.headers))
    return batch.append(timestamp=mail.timestamp, key=mail.id, value=mail.value, headers=headers) is not None


async def _partitions(producer: TransactionalProducer, topics: set[str]) -> dict[str, int]:
    deadline = time.monotonic() + _VISIBLE_S
    while len(found := await producer.partitions(topics)) < len(topics):
        if time.monotonic() > deadline:
            raise Unavailable(f"waiting for new topics: {', '.join(sorted(topics - found.keys()))}")
        await asyncio.sleep(0.05)
    return found
