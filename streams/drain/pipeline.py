"""The transactions of one range: while the broker commits one, the drain builds the next, and no third."""

import asyncio
import time

from streams.domain.claim import Claim, Progress
from streams.drain.batch_sizer import BatchSizer
from streams.drain.context import DrainContext
from streams.drain.transaction_batch import TransactionBatch
from streams.errors import XferqError
from streams.ports import Producer
from streams.telemetry.metrics import MESSAGES, RETURNED, TRANSACTION_SECONDS, TRANSACTIONS, error_of
from streams.telemetry.traces import span

_OPEN_S = 1.0
"""A transaction that is gathered for so long is committed, however little is in it."""


class Pipeline:
    """One batch open, one committing, with one producer: good until the first error."""

    def __init__(
        self, context: DrainContext, claim: Claim, partition: int, producer: Producer, sizer: BatchSizer
    ) -> None:
        """For one partition's range of the claim; the sizer learns how long transactions take."""
        self._context = context
        self._claim = claim
        self._partition = partition
        self._producer = producer
        self._sizer = sizer
        self._committing: asyncio.Task[None] | None = None
        self._opened_at = 0.0
        self.batch: TransactionBatch | None = None
        """What is gathered for the next transaction."""
        self.topics: frozenset[str] = frozenset()
        """The topics that the last transaction was written to."""
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

    async def begin_commit(self, progress: Progress) -> None:
        """Begin to commit the open batch, if there is one, once the transaction before it is through.

        Raises:
            XferqError: that transaction failed.
        """
        await self.flush()
        if self.batch is not None:
            self.topics = self.batch.topics
            self._committing = asyncio.create_task(self._commit(self.batch, progress))
            self.batch = None

    async def flush(self) -> None:
        """Wait until the transaction under way is committed, if there is one.

        Raises:
            XferqError: it failed.
        """
        if self._committing is not None:
            await self._committing
            self._committing = None

    async def settle(self) -> None:
        """Wait for the transaction under way whatever comes of it: what was sent must not be cut off half-way."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
            if not self._committing.cancelled():
                self._committing.exception()

    async def _commit(self, batch: TransactionBatch, progress: Progress) -> None:
        """One transaction: what was gathered, and the progress with it."""
        context, claim = self._context, self._claim
        # The ledger last, when all else is written: other drains share its partition, and its readers wait
        # from its first record to the commit, or after a crash to the transaction's time-out.
        writes = [*batch.writes, context.ledger.write_progress(self._producer, claim, self._partition, progress)]
        started = time.monotonic()
        try:
            with span("transaction", attributes={"messaging.batch.message_count": batch.messages}):
                await self._producer.transact(writes)
        except XferqError as error:
            took_s = time.monotonic() - started
            self._sizer.failed(took_s)
            TRANSACTIONS.labels(outcome=error_of(error)).inc()
            TRANSACTION_SECONDS.labels(outcome="failed").observe(took_s)
            raise
        took_s = time.monotonic() - started
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
