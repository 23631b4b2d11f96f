"""The transactions of one range: what is full is sent while the rest is built; while one commits, the next is built."""

import asyncio
import time
from collections.abc import Awaitable

from streams.domain.claim import Claim, Progress
from streams.drain.batch_sizer import BatchSizer
from streams.drain.context import DrainContext
from streams.drain.memory import Share
from streams.drain.transaction_batch import TransactionBatch
from streams.errors import XferqError
from streams.ports import Producer
from streams.telemetry.metrics import MESSAGES, RETURNED, TRANSACTION_SECONDS, TRANSACTIONS, error_of
from streams.telemetry.traces import span

_OPEN_S = 1.0
"""A transaction that is gathered for so long is committed, however little is in it."""


class Pipeline:
    """One transaction open, one committing, with one producer: good until the first error."""

    def __init__(
        self, context: DrainContext, claim: Claim, partition: int, producer: Producer, sizer: BatchSizer, share: Share
    ) -> None:
        """For one partition's range of the claim; the sizer learns how long transactions take."""
        self._context = context
        self._claim = claim
        self._partition = partition
        self._producer = producer
        self._sizer = sizer
        self._share = share
        self._under_way: asyncio.Task[None] | None = None
        """A commit, or a part of the open transaction that is being sent."""
        self._opened_at = 0.0
        self._sent_at: float | None = None
        """When the first part of the open transaction was sent."""
        self.batch: TransactionBatch | None = None
        """What is gathered for the open transaction."""
        self.topics: frozenset[str] = frozenset()
        """The topics that were written to so far."""
        self.moved = {"xferq.restored": 0, "xferq.returned": 0}
        """Messages whose transactions were committed, as the span of this drain has it."""

    @property
    def is_full(self) -> bool:
        """Whether the open batch holds what one transaction may."""
        batch = self.batch
        return batch is not None and (
            batch.messages >= self._sizer.size or batch.bytes >= self._context.settings.transaction_bytes
        )

    @property
    def is_overdue(self) -> bool:
        """Whether the batch has been open for as long as one may be."""
        return self.batch is not None and time.monotonic() - self._opened_at >= _OPEN_S

    def open(self, batch: TransactionBatch) -> TransactionBatch:
        """Begin to gather in this batch."""
        self.batch, self._opened_at = batch, time.monotonic()
        return batch

    async def stream(self) -> None:
        """Send what is full of the open batch, while the rest is built: a transaction may be larger than the memory.

        Behind a commit it waits its turn, until the drain's share of the memory is full.

        Raises:
            XferqError: what was under way failed.
        """
        batch, under_way, most_bytes = self.batch, self._under_way, self._share.bytes // 2
        if batch is None or (under_way is not None and not under_way.done() and batch.held_bytes <= most_bytes):
            return
        if writes := batch.take(most_bytes):
            await self.flush()
            if self._sent_at is None:
                self._sent_at = time.monotonic()
            self._under_way = asyncio.create_task(self._attempt(self._producer.send(writes), self._sent_at))

    async def begin_commit(self, progress: Progress) -> None:
        """Begin to commit the open batch, if there is one, once what is under way is through.

        Raises:
            XferqError: that failed.
        """
        await self.flush()
        if self.batch is not None:
            self.topics |= self.batch.topics
            began_at = time.monotonic() if self._sent_at is None else self._sent_at
            self._under_way = asyncio.create_task(self._commit(self.batch, progress, began_at))
            self.batch = self._sent_at = None

    async def flush(self) -> None:
        """Wait until what is under way is through, if there is anything.

        Raises:
            XferqError: it failed.
        """
        if self._under_way is not None:
            await self._under_way
            self._under_way = None

    async def settle(self) -> None:
        """Wait for what is under way whatever comes of it: what was sent must not be cut off half-way."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way])
            if not self._under_way.cancelled():
                self._under_way.exception()

    async def _commit(self, batch: TransactionBatch, progress: Progress, began_at: float) -> None:
        """The end of one transaction: what was gathered and not yet sent, and the progress with it."""
        context, claim = self._context, self._claim
        # The ledger last, when all else is written: other drains share its partition, and its readers wait
        # from its first record to the commit, or after a crash to the transaction's time-out.
        writes = [*batch.writes, context.ledger.write_progress(self._producer, claim, self._partition, progress)]
        with span("transaction", attributes={"messaging.batch.message_count": batch.messages}):
            await self._attempt(self._producer.transact(writes), began_at)
        took_s = time.monotonic() - began_at
        self._sizer.ended(took_s)
        context.health.goes_on(f"drain {claim.topic}/{self._partition}")
        TRANSACTIONS.labels(outcome="committed").inc()
        TRANSACTION_SECONDS.labels(outcome="committed").observe(took_s)
        MESSAGES.labels(kind=claim.kind, outcome="moved").inc(batch.restored)
        MESSAGES.labels(kind=claim.kind, outcome="returned").inc(batch.returned)
        self.moved["xferq.restored"] += batch.restored
        self.moved["xferq.returned"] += batch.returned
        for reason, count in batch.reasons.items():
            RETURNED.labels(reason=reason).inc(count)

    async def _attempt(self, part: Awaitable[None], began_at: float) -> None:
        """A part of a transaction, whose failure is that of all of it."""
        try:
            await part
        except XferqError as error:
            took_s = time.monotonic() - began_at
            self._sizer.failed(took_s)
            TRANSACTIONS.labels(outcome=error_of(error)).inc()
            TRANSACTION_SECONDS.labels(outcome="failed").observe(took_s)
            raise
