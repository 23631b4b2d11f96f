"""Moves one range of a claim, in transactions.

Each step is one transaction: the moved messages, their log records, those that go back to the tail, and the
range's progress in the ledger. So a crash anywhere leaves each message moved or not, never half.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from streams.domain.claim import Claim, Progress
from streams.domain.timestamp import format_time
from streams.drain.batch_sizer import BatchSizer
from streams.drain.context import DrainContext
from streams.drain.destinations import Destinations
from streams.drain.mover import Done, Mover, Returned, Waiting
from streams.drain.movers import mover_of
from streams.drain.pipeline import Pipeline
from streams.drain.transaction_batch import TransactionBatch
from streams.errors import OutOfRange, Revoked, Unavailable, XferqError
from streams.ports import Producer
from streams.records import Reader, Record
from streams.telemetry.metrics import LOST
from streams.unopened import Unopened

_log = logging.getLogger(__name__)
_PIECE = 1_024
"""Records after which a drain looks again at what is full, at most."""
_SLICE = 256
"""Records of one call of the mover, at most."""
_SLICE_TIMEOUT_S = 0.01
"""A call that takes half of it is too long: answers of the broker are kept waiting. The next takes half the records."""
_Item = TypeVar("_Item")


class RangeDrain:
    """One range of one claim, with one producer: good until its first error."""

    def __init__(
        self,
        context: DrainContext,
        claim: Claim,
        partition: int,
        producer: Producer,
        destinations: Destinations,
        sizer: BatchSizer,
    ) -> None:
        """`destinations` and `sizer` are the partition's, from one attempt to the next; all else is this attempt's."""
        settings = context.settings
        self._context = context
        self._claim = claim
        self._partition = partition
        self._producer = producer
        self._destinations = destinations
        self._sizer = sizer
        self._slices = BatchSizer(_SLICE, _SLICE_TIMEOUT_S)
        self._share = context.memory.share()
        self._pipeline = Pipeline(context, claim, partition, producer, sizer, self._share)
        self.moved = self._pipeline.moved
        start, self._end = claim.ranges[partition]
        progress = context.ledger.progress(claim.topic, partition, claim.id) or Progress(
            topic_id=claim.topic_id, offset=start, at=claim.claimed_at
        )
        self._progress = progress.model_copy(update={"claimed_at": claim.claimed_at})
        self._offset = progress.offset
        """Where the range goes on behind the open batch."""
        self._silent_since: float | None = None
        self._mover: Mover = mover_of(claim, settings)

    async def run(self, may_continue: Callable[[], bool]) -> None:
        """Move the range up to its end.

        Raises:
            Revoked: `may_continue` became false; all that was begun is committed.
            Unavailable: nothing comes, though all of the range was there when it was claimed; aiokafka does
                not say why.
        """
        claim, partition = self._claim, self._partition
        await self._skip_lost()
        _log.info(
            "drain.started id=%s topic=%s partition=%d offset=%d end=%d",
            claim.id, claim.topic, partition, self._offset, self._end,
        )  # fmt: skip
        reader = await self._context.kafka.reader(claim.topic, partition, self._offset, self._end)
        try:
            with self._share:
                await self._run(reader, may_continue)
        finally:
            await self._pipeline.settle()
            await reader.close()
        _log.info(
            "drain.finished id=%s topic=%s partition=%d restored=%d returned=%d",
            claim.id, claim.topic, partition, self._progress.restored, self._progress.returned,
        )  # fmt: skip

    async def _run(self, reader: Reader, may_continue: Callable[[], bool]) -> None:
        """Read, move, commit; the next transaction is built while one commits, and takes in several reads.

        What a commit costs, at the broker most of all, is by transaction and by partition written to, and the memory
        for reading ahead is needed for every drain.
        """
        while not self._progress.done:
            # 1. Read what one fetch brings. The end by position: markers and aborted records take offsets, too.
            records = await self._read(reader, may_continue)
            at_end = reader.position >= self._end
            # At the end there is a last transaction even without records: it says that the range is done.
            while not self._progress.done and (records or at_end):
                # 2. Stop at this edge if the partition was taken away: one read may fill many transactions.
                if not may_continue():
                    raise Revoked
                # 3. Take as many records as there is room for; the size may be smaller since the last look.
                batch = await self._open_batch()
                room = max(1, min(_PIECE, self._sizer.size - batch.messages))
                piece = records[:room]
                # 4. Move them into the batch, and the range's offset with them.
                moved = await self._move(piece, batch)
                records = records[moved:]
                is_last = at_end and not records
                if is_last:
                    self._offset = self._end
                elif moved:
                    self._offset = piece[moved - 1].offset + 1
                # 5. Begin to commit what is full, as soon as the transaction before it is through; or send a part.
                if is_last or moved < len(piece) or self._pipeline.is_full:
                    await self._begin_commit(is_last=is_last)
                else:
                    await self._pipeline.stream()
            # 6. What comes slowly does not wait for the rest.
            if self._pipeline.is_overdue:
                await self._begin_commit()
        # 7. Wait until the last transaction is committed.
        await self._pipeline.flush()

    async def give_up(self) -> None:
        """The topic was deleted, and perhaps created again: what was claimed of it is gone."""
        claim = self._claim
        at = format_time(self._context.now())
        self._pipeline.open(self._new_batch())
        await self._pipeline.begin_commit(self._progress.model_copy(update={"done": True, "lost": True, "at": at}))
        await self._pipeline.flush()
        LOST.inc()
        _log.error("drain.lost id=%s topic=%s partition=%d", claim.id, claim.topic, self._partition)

    async def _skip_lost(self) -> None:
        """Go on at the log's start where claimed records were removed from it: they are lost.

        Raises:
            Unavailable: the log ends within the range, so that new messages would be taken for claimed ones.
        """
        kafka, claim, partition = self._context.kafka, self._claim, self._partition
        (end,) = (await kafka.high_watermarks(claim.topic, [partition])).values()
        if end < self._end:
            raise Unavailable(
                f"truncated: {claim.topic}/{partition} ends at {end}, but was claimed up to {self._end}; "
                "messages were lost in Kafka"
            )
        (start,) = (await kafka.log_starts(claim.topic, [partition])).values()
        if start > self._offset:
            LOST.inc()
            _log.error(
                "drain.lost id=%s topic=%s partition=%d from=%d to=%d",
                claim.id, claim.topic, partition, self._offset, start,
            )  # fmt: skip
            self._offset = min(start, self._end)
            self._progress = self._progress.model_copy(update={"lost": True})

    async def _read(self, reader: Reader, may_continue: Callable[[], bool]) -> Sequence[Record]:
        """What one fetch brought, if it was this claim's. Where it fails, what was gathered before is committed:
        the next try might fail at the same place, again and again."""
        position = reader.position
        try:
            records = await reader.read()
            await self._check_topic()
            if records and isinstance(records[0], Unopened):
                self._destinations.try_unopened(records[0], self._context.now())
        except XferqError:
            await self._begin_commit()
            await self._pipeline.flush()
            raise
        if not may_continue():
            raise Revoked
        now_s = time.monotonic()
        if records or reader.position != position:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now_s
        elif now_s - self._silent_since > self._context.settings.request_timeout_ms / 1000:
            where = f"{self._claim.topic}/{self._partition}"
            raise Unavailable(f"reading {where}: nothing comes at offset {position}")
        return records

    async def _check_topic(self) -> None:
        """What was read just now was this claim's, if the topic is still the one that was claimed.

        From a topic that is gone nothing would ever come, and one created again has other messages at these
        offsets: Kafka's fetches in this version go by the topic's name.

        Raises:
            OutOfRange: it is not.
        """
        there = await self._context.kafka.topic(self._claim.topic)
        if there is None or there.id != self._claim.topic_id:
            raise OutOfRange(f"topic {self._claim.topic} was deleted while it was drained")

    async def _open_batch(self) -> TransactionBatch:
        """The open one, or an empty one that knows the topics of the one before, as far as they are still there."""
        if self._pipeline.batch is not None:
            return self._pipeline.batch
        batch = self._new_batch()
        if topics := self._pipeline.topics:
            batch.add_destinations(await self._destinations.known(self._producer, topics))
        return self._pipeline.open(batch)

    def _new_batch(self) -> TransactionBatch:
        settings, limits = self._context.settings, self._destinations.limits
        batch = TransactionBatch(
            self._producer.batch, settings.batch_bytes, self._claim.topic, settings.log_topic, limits
        )
        batch.refused = self._destinations.refused.keys()
        return batch

    async def _move(self, records: Sequence[Record], batch: TransactionBatch) -> int:
        """Move records into the batch, and give back to the tail those that can't be moved; how many it took.

        Destinations that the batch does not know are looked up, and created where they are missing, all at once. Not
        within an open transaction: it takes the records before the first that has to wait for its destination.
        """
        mover, now = self._mover, self._context.now()
        done = await self._in_slices(records, lambda some: mover.move(some, batch, now))
        moved, returned, waiting = done.consumed, [*done.returned], [*done.waiting]
        while done.unknown:
            rest = records[moved:]
            topics = await self._topics_of(rest, now)
            batch.add_destinations(await self._destinations.known(self._producer, topics))
            if done.unknown not in batch.partitions:
                break
            done = await self._in_slices(rest, lambda some: mover.move(some, batch, now))
            moved += done.consumed
            returned += done.returned
            waiting += done.waiting
        if waiting:
            topics = {item.topic for item in waiting}
            batch.add_destinations(await self._destinations.prepare(self._producer, topics))
            resumed = await self._in_slices(waiting, lambda some: mover.resume(some, batch, now))
            returned += resumed.returned
        # In the order of their offsets, also those that were turned down last.
        returned.sort(key=lambda item: item[0].offset)
        await self._in_slices(returned, lambda some: mover.give_back(some, batch, now))
        return moved

    async def _topics_of(self, records: Sequence[Record], now: datetime) -> set[str]:
        """Where records would go: all of them wait in a batch that knows no destination."""
        mover, unused = self._mover, self._new_batch()
        done = await self._in_slices(records, lambda some: mover.move(some, unused, now))
        return {waiting.topic for waiting in done.waiting}

    async def _in_slices(self, items: Sequence[_Item], call: Callable[[Sequence[_Item]], Done]) -> Done:
        """Call the mover with items, so many at a time that the event loop is not kept waiting, until it stops."""
        slices, at = self._slices, 0
        returned: list[Returned] = []
        waiting: list[Waiting] = []
        unknown = ""
        while at < len(items) and not unknown:
            if at:
                await asyncio.sleep(0)
            some = items[at : at + slices.size]
            started = time.monotonic()
            done = call(some)
            slices.ended(time.monotonic() - started, was_full=len(some) == slices.size)
            at += done.consumed
            returned += done.returned
            waiting += done.waiting
            unknown = done.unknown
        return Done(at, returned, waiting, unknown)

    async def _begin_commit(self, *, is_last: bool = False) -> None:
        """Begin to commit the open batch, if there is one, and how far the range has come with it."""
        batch, before = self._pipeline.batch, self._progress
        if batch is not None:
            self._progress = before.model_copy(
                update={
                    "offset": self._offset,
                    "restored": before.restored + batch.restored,
                    "returned": before.returned + batch.returned,
                    "reasons": dict(Counter(before.reasons) + batch.reasons),
                    "done": is_last,
                    "at": format_time(self._context.now()),
                }
            )
        await self._pipeline.begin_commit(self._progress)
