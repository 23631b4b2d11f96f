"""Batches on their way: partitions side by side, in order within one, and every outcome looked at.

aiokafka commits a transaction although a produce in it failed, so that no future may be forgotten.
"""

import asyncio
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.kafka.rejections import rejected
from streams.records import Batch, TopicPartition, Write


class Sending:
    """What one producer sends within its transactions."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._sent: list[tuple[TopicPartition, asyncio.Future[Any]]] = []

    async def write(self, writes: Sequence[Write]) -> None:
        """Send every batch and wait for every outcome.

        Raises:
            Rejected: some partitions turned theirs down, for good.
            Exception: as aiokafka says it, if it was for another reason.
        """
        by_partition: dict[TopicPartition, list[Batch]] = {}
        for write in writes:
            by_partition.setdefault((write.topic, write.partition), []).append(write.batch)
        sent = self._sent = []
        for round_ in zip_longest(*by_partition.values()):
            for (topic, partition), batch in zip(by_partition, round_, strict=True):
                if batch is not None:
                    future = await self._producer.send_batch(batch, topic, partition=partition)
                    sent.append(((topic, partition), future))
        outcomes = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        failures: dict[TopicPartition, BaseException] = {}
        for (where, _), outcome in zip(sent, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                # The first one in a partition is the cause: what follows it there is out of sequence.
                failures.setdefault(where, outcome)
        if failures:
            raise rejected(failures)

    def unanswered(self) -> list[TopicPartition]:
        """Which of the last writes had no answer: the library tries again and again, and does not say why."""
        return [where for where, sent in self._sent if sent.cancelled()]
