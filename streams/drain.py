"""The drain: move what was claimed of one queue partition, exactly once.

Each step of it is one transaction: the moved messages, their log records, those that go back to the tail, and
the range's progress in the ledger. So a crash anywhere leaves each message moved or not, never half. The
transactional id belongs to the queue partition: whoever takes it over ends the transaction of a zombie.

Progress is read from the ledger only, after fencing: it is written in the transaction itself, so no other
record of it can be nearer the truth.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime

from streams.destinations import Destinations, Outbox
from streams.domain.claim import Claim, Progress
from streams.domain.envelope import NotRestorable, ReturnReason
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import Fenced, OutOfRange, Rejected, Unavailable, XferqError
from streams.ledger import Ledger, progress_key
from streams.metrics import DRAINS_RUNNING, MESSAGES, PRODUCERS_REPLACED, TRANSACTION_SECONDS, TRANSACTIONS
from streams.ports import Kafka, Producer, Record
from streams.settings import Settings
from streams.transform import Moved, Transform

_log = logging.getLogger(__name__)
_MOST_BACKOFF_S = 5.0
_YIELD_EVERY = 256
"""Messages built between two looks at the event loop, so that answers of the broker are not kept waiting."""
_LOOKS_S = (0.0, 0.5, 2.0)
"""Pauses before each look whether a topic is gone: a broker that was away for a while may not know of it yet."""


class Abandoned(Exception):
    """The drain stopped at a transaction's edge because it is not ours any more; somebody goes on with it."""


class Drainer:
    """Drains queue partitions; one call per partition at a time."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings, now: Callable[[], datetime]) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._now = now
        # Held while at work, not while waiting after an error: what fails for hours must not stop the others.
        self._slots = asyncio.Semaphore(settings.concurrent_drains)

    async def drain(self, topic: str, partition: int, is_ours: Callable[[], bool]) -> list[Claim]:
        """Drain all unfinished ranges of the queue partition, in the order of their offsets.

        Goes on through every error of Kafka's, with a new producer each time, for as long as `is_ours`.
        Returns the claims of which a range was finished.

        Raises:
            Abandoned: `is_ours` became false.
        """
        destinations = Destinations(self._kafka, self._settings, topic)
        finished: list[Claim] = []
        failures = 0
        while True:
            done_before = len(finished)
            try:
                async with self._slots:
                    if not is_ours():
                        raise Abandoned
                    with DRAINS_RUNNING.track_inprogress():
                        await self._drain_ranges(topic, partition, destinations, is_ours, finished)
            except XferqError as error:
                PRODUCERS_REPLACED.labels(error=type(error).__name__).inc()
                level = logging.INFO if isinstance(error, Fenced) else logging.WARNING
                _log.log(level, "drain.again topic=%s partition=%d error=%s", topic, partition, error)
                if isinstance(error, Rejected):
                    with suppress(XferqError):
                        await destinations.learn(error)
            else:
                return finished
            failures = 0 if len(finished) > done_before else failures + 1
            backoff = min(_MOST_BACKOFF_S, 0.05 * 2 ** min(failures, 10))
            await asyncio.sleep(random.uniform(0.5, 1) * backoff)  # noqa: S311 - no secret

    async def _drain_ranges(
        self,
        topic: str,
        partition: int,
        destinations: Destinations,
        is_ours: Callable[[], bool],
        finished: list[Claim],
    ) -> None:
        # Fence first, read then: the ledger may be held up by the very transaction that this ends.
        producer = await self._kafka.producer(f"xferq.drain.{topic}.{partition}")
        try:
            await self._ledger.barrier(topic)
            for claim in self._ledger.unfinished(topic, partition):
                drain = _RangeDrain(self, claim, partition, producer, destinations)
                if await self._is_gone(claim):
                    await drain.give_up()
                else:
                    await drain.run(is_ours)
                finished.append(claim)
        finally:
            await producer.close()

    async def _is_gone(self, claim: Claim) -> bool:
        """Whether the topic that was claimed was deleted: giving up its messages can't be taken back."""
        for pause_s in _LOOKS_S:
            await asyncio.sleep(pause_s)
            there = await self._kafka.topic(claim.topic)
            if there is not None and there.id == claim.topic_id:
                return False
        return True


class _RangeDrain:
    """One range of one claim, with one producer: good until its first error."""

    def __init__(
        self, drainer: Drainer, claim: Claim, partition: int, producer: Producer, destinations: Destinations
    ) -> None:
        self._kafka = drainer._kafka
        self._ledger = drainer._ledger
        self._settings = drainer._settings
        self._now = drainer._now
        self._claim = claim
        self._partition = partition
        self._producer = producer
        self._destinations = destinations
        self._start, self._end = claim.ranges[partition]
        self._progress = self._ledger.progress(claim.topic, partition, claim.id) or Progress(
            topic_id=claim.topic_id, offset=self._start, at=claim.claimed_at
        )
        self._transform = Transform(
            claim,
            node_id=str(self._settings.node_id),
            log_meta=self._settings.log_meta,
            log_headers=self._settings.log_headers,
        )

    async def run(self, is_ours: Callable[[], bool]) -> None:
        """Read, build, commit, up to the end of the range; the next batch is built while one commits.

        Raises:
            Abandoned: not ours any more; all that was begun is committed.
            Unavailable: nothing comes, though all of the range was there when it was claimed; aiokafka does
                not say why.
        """
        claim, partition = self._claim, self._partition
        where = f"id={claim.id} topic={claim.topic} partition={partition}"
        await self._skip_lost()
        _log.info("drain.started %s offset=%d end=%d", where, self._progress.offset, self._end)
        reader = await self._kafka.reader(claim.topic, partition, self._progress.offset, self._end)
        committing: asyncio.Task[None] | None = None
        silent_since: float | None = None
        try:
            while not self._progress.done:
                position = reader.position
                records = await reader.read()
                await self._check_topic()
                # By position, not by the last record: markers and aborted records take offsets too.
                at_end = reader.position >= self._end
                if not is_ours():
                    raise Abandoned
                if records or reader.position != position:
                    silent_since = None
                elif silent_since is None:
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since > self._settings.request_timeout_ms / 1000:
                    raise Unavailable(f"reading {claim.topic}/{partition}: nothing comes at offset {position}")
                for chunk, is_last in self._chunks(records, at_end):
                    if not is_ours():  # of small messages one read brings many transactions
                        raise Abandoned
                    outbox = await self._build(chunk, self._end if is_last else chunk[-1].offset + 1, is_last)
                    if committing is not None:
                        await committing
                        committing = None
                    committing = asyncio.create_task(self._commit(outbox, self._progress))
            if committing is not None:
                await committing
        finally:
            if committing is not None and not committing.done():
                # Something else failed meanwhile; what was sent must not be cut off half-way.
                await asyncio.wait([committing])
            if committing is not None and not committing.cancelled():
                committing.exception()
            await reader.close()
        progress = self._progress
        _log.info("drain.finished %s restored=%d returned=%d", where, progress.restored, progress.returned)

    async def _check_topic(self) -> None:
        """What was read just now was this claim's, if the topic is still the one that was claimed.

        From a topic that is gone nothing would ever come, and one created again has other messages at these
        offsets: Kafka's fetches in this version go by the topic's name.

        Raises:
            OutOfRange: it is not.
        """
        there = await self._kafka.topic(self._claim.topic)
        if there is None or there.id != self._claim.topic_id:
            raise OutOfRange(f"topic {self._claim.topic} was deleted while it was drained")

    async def _skip_lost(self) -> None:
        """Go on at the log's start where somebody removed records that were claimed: they are lost.

        Raises:
            Unavailable: the log ends within the range, so that new messages would be taken for claimed ones.
        """
        claim, partition = self._claim, self._partition
        (end,) = (await self._kafka.high_watermarks(claim.topic, [partition])).values()
        if end < self._end:
            raise Unavailable(
                f"truncated: {claim.topic}/{partition} ends at {end}, but was claimed up to {self._end}; "
                "messages were lost in Kafka"
            )
        (start,) = (await self._kafka.log_starts(claim.topic, [partition])).values()
        if start > self._progress.offset:
            _log.error(
                "drain.lost id=%s topic=%s partition=%d from=%d to=%d",
                claim.id, claim.topic, partition, self._progress.offset, start,
            )  # fmt: skip
            self._progress = self._progress.model_copy(update={"offset": min(start, self._end), "lost": True})

    def _chunks(self, records: Sequence[Record], at_end: bool) -> Iterator[tuple[Sequence[Record], bool]]:
        """The records in pieces of one transaction each, and whether a piece is the range's last.

        At the end of the range there is a last piece even without records: it says that we are done.
        """
        size = self._settings.transaction_messages
        pieces = [records[start : start + size] for start in range(0, len(records), size)]
        if at_end and not pieces:
            pieces = [[]]
        for number, piece in enumerate(pieces, 1):
            yield piece, at_end and number == len(pieces)

    async def _build(self, records: Sequence[Record], offset: int, done: bool) -> Outbox:
        """Transform the records and gather them by destination; moves the progress on to `offset`."""
        now = self._now()
        moved: list[tuple[Record, str, Moved]] = []
        returned: list[tuple[Record, ReturnReason]] = []
        transform = self._transform
        for count, record in enumerate(records, 1):
            try:
                message = transform(record, now)
            except NotRestorable as error:
                returned.append((record, error.code))
            else:
                moved.append((record, topic_of(message.queue), message))
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        partitions = await self._destinations.prepare(self._producer, {topic for _, topic, _ in moved})
        outbox = Outbox(self._producer, self._settings, self._destinations, self._claim.topic, partitions)
        restored = 0
        for count, (record, topic, message) in enumerate(moved, 1):
            refusal = outbox.move(record, topic, message)
            if refusal is None:
                restored += 1
            else:
                returned.append((record, refusal))
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        # To the tail in the order of their offsets, also those that were turned down last.
        reasons = dict(self._progress.reasons)
        for record, reason in sorted(returned, key=lambda item: item[0].offset):
            outbox.give_back(record)
            reasons[reason.value] = reasons.get(reason.value, 0) + 1
        outbox.restored, outbox.returned = restored, len(returned)
        self._progress = self._progress.model_copy(
            update={
                "offset": offset,
                "restored": self._progress.restored + restored,
                "returned": self._progress.returned + len(returned),
                "reasons": reasons,
                "done": done,
                "at": format_time(now),
            }
        )
        return outbox

    async def _commit(self, outbox: Outbox, progress: Progress) -> None:
        """One transaction: what was gathered, and the progress with it."""
        claim = self._claim
        key = progress_key(claim.topic, self._partition, claim.id)
        # The ledger last, when all else is written: other queues share its partition, and its readers wait
        # from its first record to the commit, or after a crash to the transaction's time-out.
        writes = [*outbox.writes, self._ledger.write(self._producer, claim.topic, [(key, progress.to_bytes())])]
        started = time.monotonic()
        try:
            await self._producer.transact(writes)
        except XferqError as error:
            TRANSACTIONS.labels(outcome=type(error).__name__).inc()
            raise
        TRANSACTIONS.labels(outcome="committed").inc()
        TRANSACTION_SECONDS.observe(time.monotonic() - started)
        MESSAGES.labels(kind=claim.kind, outcome="moved").inc(outbox.restored)
        MESSAGES.labels(kind=claim.kind, outcome="returned").inc(outbox.returned)

    async def give_up(self) -> None:
        """The topic was deleted, and perhaps created again: what was claimed of it is gone."""
        claim = self._claim
        progress = self._progress.model_copy(update={"done": True, "lost": True, "at": format_time(self._now())})
        await self._commit(Outbox(self._producer, self._settings, self._destinations, claim.topic, {}), progress)
        _log.error("drain.lost id=%s topic=%s partition=%d", claim.id, claim.topic, self._partition)
