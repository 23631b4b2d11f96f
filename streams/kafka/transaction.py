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
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaProducer, structs
from aiokafka import errors as aio
from aiokafka.client import ConnectionGroup, CoordinationType

from streams.concurrency.ending import uncut
from streams.errors import Conflict, Fenced, OutcomeUnknown, Rejected, Unavailable, XferqError
from streams.kafka.connection import Connection
from streams.kafka.hanging import named, require_none_hangs
from streams.kafka.rejections import write_denied
from streams.kafka.sending import Sending
from streams.kafka.translate import translated, translating
from streams.kafka.wire.batches import COMPRESSION, ENCODERS, DrainBatch
from streams.kafka.wire.offset_fetch import STAMP, fetch
from streams.native.extension import native_of
from streams.ports import GroupOffsets
from streams.records import Batch, TopicPartition, Write

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0


class TransactionalProducer:
    """The holder of one transactional id; made by `open_producer`."""

    def __init__(self, producer: AIOKafkaProducer, connection: Connection) -> None:
        self._producer = producer
        self._connection = connection
        self._settings = connection.settings
        self._native = native_of(connection.settings)
        self._denied: Exception | None = None
        self._topics: set[str] = set()
        self._looked_at: set[TopicPartition] = set()
        self._sending = Sending(producer)
        self._ends_at: float | None = None
        """When the open transaction has to be through, by the loop's clock; None where none is open."""
        self._is_committing = False

    def batch(self, size_bytes: int | None = None, compression: str | None = None) -> Batch:
        """A new empty batch; the first record always fits, whatever its size."""
        limit, codec = size_bytes or self._settings.batch_bytes, COMPRESSION[compression or self._settings.compression]
        if self._native is not None:
            return self._native.Batch(limit, codec, ENCODERS.get(codec))
        builder: Batch = DrainBatch(limit, codec, is_transactional=1)
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
        if closed := wanted & cluster.unauthorized_topics:
            raise Rejected({(topic, 0): write_denied(topic) for topic in closed})
        found = {topic: cluster.partitions_for_topic(topic) for topic in wanted}
        self._topics -= {topic for topic, partitions in found.items() if partitions is None}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    async def send(self, writes: Sequence[Write]) -> None:
        """Write these in the open transaction, or a new one; see `streams.ports.Producer.send`."""
        await uncut(self._send(writes))

    async def _send(self, writes: Sequence[Write]) -> None:
        async with self._transaction(writes):
            await self._sending.write(writes)

    async def transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """All of it or none of it; see `streams.ports.Producer.transact`."""
        await uncut(self._transact(writes, offsets, before_commit))

    async def _transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None,
        before_commit: Callable[[], Awaitable[None]] | None,
    ) -> None:
        async with self._transaction(writes, offsets):
            await self._sending.write(writes[:-1])
            await self._sending.write(writes[-1:])
            if offsets is not None:
                await self._send_offsets(offsets)
            await asyncio.gather(
                *([] if offsets is None else [self._require_unmoved(offsets)]),
                *([] if before_commit is None else [before_commit()]),
            )
            self._is_committing = True
            began = time.monotonic()
            # An answer that takes longer is of no use, see below: the caller that waits replaces the producer.
            async with asyncio.timeout(self._settings.request_timeout_ms / 1000):
                await self._producer.commit_transaction()
        self._ends_at, self._is_committing = None, False
        if time.monotonic() - began > self._settings.request_timeout_ms / 1000:
            # aiokafka has asked again, and the first request may still be on its way: with this producer's
            # epoch it would commit the next transaction, wherever that is just then.
            raise OutcomeUnknown("committing a transaction: the answer came late")

    @asynccontextmanager
    async def _transaction(self, writes: Sequence[Write], offsets: GroupOffsets | None = None) -> AsyncIterator[None]:
        """What is done in the transaction, which begins here if none is open; an error ends it."""
        await self._look({(write.topic, write.partition) for write in writes})
        begins = self._ends_at is None
        if self._ends_at is None:
            self._ends_at = asyncio.get_running_loop().time() + self._settings.transaction_timeout_ms / 1000
        try:
            async with asyncio.timeout_at(self._ends_at):
                if begins:
                    await self._producer.begin_transaction()
                yield
        except Rejected:
            await self._abort()
            raise
        except Exception as error:
            raise await self._ended_by(error, writes, offsets) from error

    async def _ended_by(self, error: Exception, writes: Sequence[Write], offsets: GroupOffsets | None) -> XferqError:
        """What to say of an error; the transaction is aborted, unless its commit may have been carried out."""
        self._ends_at = None
        if self._denied is not None:
            await self._abort()
            return self._refusal(writes, offsets)
        # Of the topics that are written to it would have been said before.
        needs = f"Read on topic {offsets.topic}" if offsets is not None else ""
        waiting = self._sending.unanswered()
        doing = f"writing a transaction{_to(waiting)}"
        told = translated(error, doing, needs, topics={topic for topic, _ in waiting})
        if isinstance(told, Fenced):
            return told
        if self._is_committing:
            return OutcomeUnknown(f"committing a transaction: {told}")
        await self._abort()
        return told

    async def _send_offsets(self, offsets: GroupOffsets) -> None:
        """Make the offsets part of the transaction."""
        began = time.monotonic()
        places = {
            structs.TopicPartition(offsets.topic, p): (offset, STAMP if p in offsets.stamped else "")
            for p, offset in offsets.offsets.items()
        }
        await self._producer.send_offsets_to_transaction(places, offsets.group)
        if time.monotonic() - began > self._settings.request_timeout_ms / 1000:
            # aiokafka has asked again, and the first request may still be on its way: behind what we look at next.
            raise Conflict(f"writing offsets of {offsets.topic}: the answer came late")

    async def _require_unmoved(self, offsets: GroupOffsets) -> None:
        """See, once the offsets are written, that the group stands where it stood when they were reckoned.

        The node that has taken them is asked, and no other: a broker that was replaced as the group's coordinator may
        not know that, and tell an old story. These offsets were acknowledged, so with a dispatcher's plain commit D:
        1. D lies before them in the group's log: the node had read the log up to there, and tells of D.
        2. D lies behind them, whichever node took it: D wins over them once the transaction's marker is there, and
           `Confirmation.confirm` finds that.
        """
        if offsets.expected is None:
            return
        node = self._producer._sender._coordinators[CoordinationType.GROUP]
        there = await fetch(
            self._producer.client, node, offsets.group, offsets.topic, offsets.offsets,
            stable=False, over=ConnectionGroup.COORDINATION,
        )  # fmt: skip
        if {p: offset for p, (offset, _) in there.items()} != {p: o for p, o in offsets.expected.items() if o >= 0}:
            raise Conflict(f"writing offsets of {offsets.topic}: its dispatchers have gone on meanwhile")

    async def _look(self, partitions: set[TopicPartition]) -> None:
        """Before anything is written to these partitions: see that no earlier transaction of xferq is open there.

        What this very producer has left open was committed, or it would not be in use any more.
        """
        wanted = partitions - self._looked_at
        manager = self._producer._txn_manager
        # Epoch 0 is the first one of a producer id: nobody was there to leave anything open.
        if wanted and manager.producer_epoch > 0:
            await self.partitions({topic for topic, _ in wanted})
            await require_none_hangs(
                self._producer.client, manager.producer_id, wanted, self._settings.request_timeout_ms / 1000
            )
        self._looked_at |= wanted

    def deny(self, error: Exception) -> None:
        """Kafka does not permit a part of the transaction: end the sender, and all that lies ready with it.

        In place of what aiokafka does then:
        1. A commit was answered; its marker is still to come in some partition.
        2. The next transaction asks for its partitions. One of them is not permitted, so Kafka adds none.
        3. aiokafka forgets which ones it had asked for, and sends to them what lies ready.
        4. The broker takes it, as a transaction of this producer is open there: that of 1. Its marker commits
           what is not its own, and what its owner then writes anew is there twice.
        """
        self._denied = error
        raise error

    def _refusal(self, writes: Sequence[Write], offsets: GroupOffsets | None) -> XferqError:
        denied = self._denied
        if isinstance(denied, aio.TopicAuthorizationFailedError) and denied.args:
            return Rejected(
                {
                    (write.topic, write.partition): write_denied(write.topic)
                    for write in writes
                    if write.topic in denied.args[0]
                }
            )
        needs = f"Read on group {offsets.group}" if offsets is not None else ""
        return translated(denied or Exception(), "writing a transaction", needs)

    async def _abort(self) -> None:
        """Best effort: what stays open ends at the next fence or at its timeout."""
        self._ends_at = None
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self._denied is None:
                    await self._producer.abort_transaction()
                else:
                    await (await open_producer(self._connection, self._producer._txn_manager.transactional_id)).close()
        except Exception as error:  # noqa: BLE001 - aborting is the broker's job if we can't
            _log.debug("could not abort a transaction", exc_info=error)

    async def close(self) -> None:
        """Close the connections, after `_CLOSE_S` at the latest, or twice that to abort what is open; never raises."""
        producer = self._producer
        if self._ends_at is not None:
            await self._abort()
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


def _to(waiting: Collection[TopicPartition]) -> str:
    where = named([f"{topic}/{partition}" for topic, partition in waiting])
    return f" to {where} (has it a leader, and min.insync.replicas replicas?)" if waiting else ""


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
    producer._txn_manager.error_transaction = ours.deny
    try:
        async with asyncio.timeout(settings.request_timeout_ms / 1000):
            await producer.start()
    except BaseException as error:
        await ours.close()
        if not isinstance(error, Exception):
            raise
        translated_error = translated(
            error,
            f"taking over {transactional_id}, whose last transaction has to end first",
            f"Write on transactional-id {transactional_id}",
        )
        if isinstance(translated_error, Fenced):
            raise Unavailable(str(translated_error)) from error
        raise translated_error from error
    return ours
