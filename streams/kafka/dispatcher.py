"""A dispatcher as mail platforms have them: a member of a queue's consumer group that sends at least once.

It knows nothing of transfers and cancels. It only keeps a book of what it did and when, so that one can see
afterwards what a claim did to it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as aio

from streams.concurrency.ending import end
from streams.kafka.connection import Connection
from streams.kafka.translate import translating
from streams.records import Record

_log = logging.getLogger(__name__)
_STOP_S = 5.0
_EVICTED = (
    aio.CommitFailedError,
    aio.IllegalGenerationError,
    aio.IllegalStateError,
    aio.RebalanceInProgressError,
    aio.UnknownMemberIdError,
)
Send = Callable[[Record], Awaitable[None]]


@dataclass(slots=True)
class Polled:
    """A record that a dispatcher got, and what it did with it; times are Unix seconds."""

    partition: int
    offset: int
    key: bytes | None
    polled_at: float
    sent_at: float | None = None
    committed_at: float | None = None


class Dispatcher:
    """One member of the group: let it `join`, then `work`; read its book; `stop` it."""

    def __init__(
        self, connection: Connection, topic: str, group: str, send: Send, *, at_once: int = 25, commit_every: int = 100
    ) -> None:
        """Describe a dispatcher.

        Args:
            send: sends one message; awaited one after the other.
            at_once: most records of one poll.
            commit_every: how many are sent between two commits, at least.
        """
        self._send = send
        self._commit_every = commit_every
        self._topic = topic
        self._group = group
        self._connection = connection
        self._at_once = at_once
        self._needs = f"Read on topic {topic} and Read on group {group}"
        self._consumer: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._uncommitted: list[Polled] = []
        self._is_member = asyncio.Event()
        self._membership = 0
        self.polled: list[Polled] = []
        """All that it ever got, in order."""
        self.lost_at: list[float] = []
        """When it learned that its partitions were not its own any more: from Kafka, or from a commit turned down."""
        self.assigned_at: list[float] = []
        """When it got partitions (or learned that it gets none)."""

    async def join(self) -> None:
        """Become a member of the group; nothing is polled yet.

        Raises:
            Unavailable: Kafka does not answer.
        """
        consumer = AIOKafkaConsumer(
            **self._connection.client("dispatcher"),
            group_id=self._group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=self._at_once,
        )
        self._consumer = consumer
        consumer.subscribe([self._topic], listener=_Listener(self))
        with translating("starting a dispatcher", self._needs):
            async with asyncio.timeout(self._connection.settings.request_timeout_ms / 1000):
                await consumer.start()

    def work(self) -> None:
        """Begin to poll and send; after `join`."""
        if self._consumer is None:
            raise RuntimeError("not joined")
        self._task = asyncio.create_task(self._run(self._consumer))

    async def stop(self) -> None:
        """Leave the group, without a last commit; waits for nothing long.

        Raises:
            XferqError: Kafka's trouble has ended it before.
        """
        if self._task is not None:
            await end([self._task])
        if self._consumer is not None:
            with suppress(TimeoutError, aio.KafkaError):
                async with asyncio.timeout(_STOP_S):
                    await self._consumer.stop()
        if self._task is not None and not self._task.cancelled():
            with translating("dispatching", self._needs):
                self._task.result()

    @property
    def sent(self) -> int:
        """How many it has sent."""
        return sum(polled.sent_at is not None for polled in self.polled)

    async def _run(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._is_member.wait()
            fetched = await consumer.getmany(timeout_ms=200, max_records=self._at_once)
            # Which waits through a rebalance, and gives out nothing of the assignment before.
            membership, now = self._membership, time.time()
            batch = [
                (Polled(record.partition, record.offset, record.key, now), record)
                for records in fetched.values()
                for record in records
            ]
            self.polled += [polled for polled, _ in batch]
            await self._work(consumer, batch, membership)

    async def _work(self, consumer: AIOKafkaConsumer, batch: Sequence[tuple[Polled, Record]], membership: int) -> None:
        """Send what was polled, as long as this member has its partitions.

        Once the membership has ended, what is left is another member's, though it may be this one again by now:
        aiokafka joins again by itself, and would then accept a commit of what was polled before.
        """
        for polled, record in batch:
            if membership != self._membership:
                return
            await self._send(record)
            polled.sent_at = time.time()
            if membership == self._membership:
                self._uncommitted.append(polled)
        if len(self._uncommitted) >= self._commit_every:
            await self._commit(consumer)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        sent, membership = self._uncommitted, self._membership
        ends: dict[TopicPartition, int] = {}
        for polled in sent:
            ends[TopicPartition(self._topic, polled.partition)] = polled.offset + 1
        try:
            await consumer.commit(ends)
        except _EVICTED as error:
            # If there are new partitions already, this is about the ones before.
            if membership == self._membership:
                self.lose(error)
        except aio.KafkaError as error:
            _log.info("dispatcher.uncommitted error=%s", error)  # with the next one, then
        else:
            now = time.time()
            for polled in sent:
                polled.committed_at = now
            if membership == self._membership:
                self._uncommitted = []

    def lose(self, reason: object) -> None:
        """This member has lost its partitions; no poll until it gets new ones."""
        _log.info("dispatcher.lost group=%s reason=%s", self._group, reason)
        if self._is_member.is_set():
            self._is_member.clear()
            self.lost_at.append(time.time())
        self._membership += 1
        self._uncommitted = []

    def get(self) -> None:
        """There are new partitions."""
        self.assigned_at.append(time.time())
        self._is_member.set()


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._dispatcher.lose("revoked")

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._dispatcher.get()
