"""A transactional producer that is replaced, never repaired.

Three facts about aiokafka 0.14 shape this file:
- it commits a transaction although a produce in it failed, so every outcome is looked at before the commit;
- after an error its sequence numbers or its state can't be trusted, so a producer is good until its first
  error and then closed;
- fencing and a transaction's timeout look the same, so `Fenced` means "find out who owns this work".
"""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as aio

from streams.errors import Fenced, OutcomeUnknown, Rejected, Unavailable
from streams.kafka.connection import Connection
from streams.kafka.records import LenientBatchBuilder
from streams.kafka.translate import translated, translating
from streams.ports import Batch, GroupOffsets, Write

_log = logging.getLogger(__name__)

_REJECTIONS: dict[type[BaseException], str] = {
    aio.MessageSizeTooLargeError: "too_large",
    aio.RecordListTooLargeError: "too_large",
    aio.TopicAuthorizationFailedError: "not permitted",
    aio.InvalidTopicError: "invalid topic",
    aio.PolicyViolationError: "against a policy",
    aio.InvalidTimestampError: "timestamp not accepted by the topic",
    aio.CorruptRecordException: "record not accepted by the topic",
}
_CLOSE_S = 2.0
_COMPRESSION = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


class TransactionalProducer:
    """The holder of one transactional id; made by `open_producer`."""

    def __init__(self, producer: AIOKafkaProducer, connection: Connection) -> None:
        self._producer = producer
        self._settings = connection.settings
        self._topics: set[str] = set()

    def batch(self, size_bytes: int | None = None, compression: str | None = None) -> Batch:
        """A new empty batch; the first record always fits, whatever its size."""
        builder: Batch = LenientBatchBuilder(
            size_bytes or self._settings.batch_bytes,
            _COMPRESSION[compression or self._settings.compression],
            is_transactional=1,
        )
        return builder

    async def partitions(self, topics: Collection[str]) -> dict[str, int]:
        """How many partitions each topic has; loads all unknown ones with one metadata request.

        aiokafka itself would refresh all metadata once per new topic: 63 s for 2,000 of them.
        """
        wanted = set(topics)
        cluster = self._producer.client.cluster
        with translating("loading the metadata of the destinations"):
            if wanted - self._topics or any(cluster.partitions_for_topic(topic) is None for topic in wanted):
                self._topics |= wanted
                self._producer.client.set_topics(self._topics)
                await asyncio.wait_for(
                    self._producer.client.force_metadata_update(), self._settings.request_timeout_ms / 1000
                )
        found = {topic: cluster.partitions_for_topic(topic) for topic in wanted}
        self._topics -= {topic for topic, partitions in found.items() if partitions is None}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    async def transact(self, writes: Sequence[Write], offsets: GroupOffsets | None = None) -> None:
        """All of it or none of it; see `streams.ports.Producer.transact`."""
        committing = False
        try:
            async with asyncio.timeout(self._settings.transaction_timeout_ms / 1000):
                await self._producer.begin_transaction()
                await self._write(writes[:-1])
                await self._write(writes[-1:])
                if offsets is not None:
                    await self._producer.send_offsets_to_transaction(
                        {TopicPartition(offsets.topic, p): (o, "") for p, o in offsets.offsets.items()},
                        offsets.group,
                    )
                committing = True
                began = time.monotonic()
                await self._producer.commit_transaction()
        except Rejected:
            await self._abort()
            raise
        except Exception as error:
            ours = translated(error, "writing a transaction")
            if committing and not isinstance(ours, Fenced):
                raise OutcomeUnknown(f"committing a transaction: {ours}") from error
            if not committing and not isinstance(ours, Fenced):
                await self._abort()
            raise ours from error
        if time.monotonic() - began > self._settings.request_timeout_ms / 1000:
            # aiokafka has asked again, and the first request may still be on its way: with this producer's
            # epoch it would commit the next transaction, wherever that is just then.
            raise OutcomeUnknown("committing a transaction: the answer came late")

    async def _write(self, writes: Sequence[Write]) -> None:
        """Send every batch and look at every outcome; partitions side by side, in order within one."""
        by_partition: dict[tuple[str, int], list[Batch]] = {}
        for write in writes:
            by_partition.setdefault((write.topic, write.partition), []).append(write.batch)
        sent: list[tuple[tuple[str, int], asyncio.Future[Any]]] = []
        for round_ in zip_longest(*by_partition.values()):
            for (topic, partition), batch in zip(by_partition, round_, strict=True):
                if batch is not None:
                    future = await self._producer.send_batch(batch, topic, partition=partition)
                    sent.append(((topic, partition), future))
        outcomes = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        failures: dict[tuple[str, int], BaseException] = {}
        for (where, _), outcome in zip(sent, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                # The first one in a partition is the cause: what follows it there is out of sequence.
                failures.setdefault(where, outcome)
        if not failures:
            return
        for failure in failures.values():
            if not isinstance(failure, tuple(_REJECTIONS)):
                raise failure
        raise Rejected({where: _REJECTIONS[type(failure)] for where, failure in failures.items()})

    async def _abort(self) -> None:
        """Best effort: what stays open ends at the next fence or at its timeout."""
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._producer.abort_transaction()
        except Exception as error:  # noqa: BLE001 - aborting is the broker's job if we can't
            _log.debug("could not abort a transaction", exc_info=error)

    async def close(self) -> None:
        """Close the connections, after `_CLOSE_S` at the latest; never raises."""
        producer = self._producer
        try:
            async with asyncio.timeout(_CLOSE_S):
                await producer.stop()
        except Exception as error:  # noqa: BLE001 - a spent producer owes us nothing
            _log.debug("could not stop a producer", exc_info=error)
            # stop() waits for ever for batches of a partition that has no leader: end its task by hand.
            task = producer._sender.sender_task
            if task is not None:
                task.cancel()
            with suppress(Exception):
                await producer.client.close()


async def open_producer(connection: Connection, transactional_id: str) -> TransactionalProducer:
    """Take over `transactional_id`: fences its holder; its transaction is over when this returns.

    Raises:
        Unavailable: the coordinator did not answer in time.
        Refused: Kafka does not permit it.
    """
    settings = connection.settings
    producer = AIOKafkaProducer(
        **connection.client(f"txn-{transactional_id}"),
        transactional_id=transactional_id,
        transaction_timeout_ms=settings.transaction_timeout_ms,
        max_batch_size=settings.batch_bytes,
        compression_type=None if settings.compression == "none" else settings.compression,
    )
    ours = TransactionalProducer(producer, connection)
    try:
        async with asyncio.timeout(settings.request_timeout_ms / 1000):
            await producer.start()
    except BaseException as error:
        await ours.close()
        if not isinstance(error, Exception):
            raise
        translated_error = translated(error, f"taking over {transactional_id}")
        if isinstance(translated_error, Fenced):
            raise Unavailable(str(translated_error)) from error
        raise translated_error from error
    return ours
