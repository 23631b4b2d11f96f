"""One range of a claim, moved in transactions.

Each step is one transaction: the moved messages, their log records, those that go back to the tail, and the
range's progress in the ledger. So a crash anywhere leaves each message moved or not, never half.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from streams.domain.claim import Claim, Progress
from streams.domain.envelope import NotRestorable, ReturnReason
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.drain.destinations import Destinations, Outbox
from streams.drain.pace import Pace
from streams.drain.transform import Moved, Transform
from streams.errors import Abandoned, OutOfRange, Unavailable, XferqError
from streams.ledger.ledger import Ledger
from streams.ports import Kafka, Producer
from streams.records import Reader, Record
from streams.settings.settings import Settings
from streams.telemetry.health import Health
from streams.telemetry.metrics import LOST, MESSAGES, RETURNED, TRANSACTION_SECONDS, TRANSACTIONS, error_of
from streams.telemetry.traces import span
from streams.unopened import Unopened

_log = logging.getLogger(__name__)
_YIELD_EVERY = 256
"""Messages built between two looks at the event loop, so that answers of the broker are not kept waiting."""
_OPEN_S = 1.0
"""A transaction that is gathered for so long is committed, however little is in it."""


class RangeDrain:
    """One range of one claim, with one producer: good until its first error."""

    def __init__(
        self,
        kafka: Kafka,
        ledger: Ledger,
        settings: Settings,
        now: Callable[[], datetime],
        health: Health,
        claim: Claim,
        partition: int,
        producer: Producer,
        destinations: Destinations,
        pace: Pace,
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._now = now
        self._health = health
        self._pace = pace
        self.moved = {"xferq.restored": 0, "xferq.returned": 0}
        """Messages whose transactions were committed, as the span of this drain has it."""
        self._claim = claim
        self._partition = partition
        self._producer = producer
        self._destinations = destinations
        self._start, self._end = claim.ranges[partition]
        self._gathered: Outbox | None = None
        self._topics: frozenset[str] = frozenset()
        self._committing: asyncio.Task[None] | None = None
        progress = self._ledger.progress(claim.topic, partition, claim.id) or Progress(
            topic_id=claim.topic_id, offset=self._start, at=claim.claimed_at
        )
        self._progress = progress.model_copy(update={"claimed_at": claim.claimed_at})
        self._transform = Transform(
            claim,
            node_id=str(self._settings.node_id),
            log_meta=self._settings.log_meta,
            log_headers=self._settings.log_headers,
        )

    async def run(self, is_ours: Callable[[], bool]) -> None:
        """Read, build, commit, up to the end of the range; the next transaction is built while one commits.

        One takes in several reads: what a commit costs, at the broker most of all, is by transaction and by
        partition written to, and the memory for reading ahead is needed for every drain.

        Raises:
            Abandoned: not ours any more; all that was begun is committed.
            Unavailable: nothing comes, though all of the range was there when it was claimed; aiokafka does
                not say why.
        """
        claim, partition = self._claim, self._partition
        await self._skip_lost()
        _log.info(
            "drain.started id=%s topic=%s partition=%d offset=%d end=%d",
            claim.id, claim.topic, partition, self._progress.offset, self._end,
        )  # fmt: skip
        reader = await self._kafka.reader(claim.topic, partition, self._progress.offset, self._end)
        silent_since: float | None = None
        try:
            while not self._progress.done:
                position = reader.position
                records = await self._read(reader)
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
                await self._gather(records, at_end, is_ours)
            await self._committed()
        finally:
            if self._committing is not None:
                # Something else failed meanwhile; what was sent must not be cut off half-way.
                await asyncio.wait([self._committing])
                if not self._committing.cancelled():
                    self._committing.exception()
            await reader.close()
        progress = self._progress
        _log.info(
            "drain.finished id=%s topic=%s partition=%d restored=%d returned=%d",
            claim.id, claim.topic, partition, progress.restored, progress.returned,
        )  # fmt: skip

    async def _read(self, reader: Reader) -> Sequence[Record]:
        """What one fetch brought, if it was this claim's. Where it fails, what was gathered before is committed:
        the next try might fail at the same place, again and again."""
        try:
            records = await reader.read()
            await self._check_topic()
        except XferqError:
            await self._commit_gathered()
            await self._committed()
            raise
        return records

    async def _gather(self, records: Sequence[Record], at_end: bool, is_ours: Callable[[], bool]) -> None:
        """Build what was read into transactions, and commit each that is full; at the end also the last one.

        At the end of the range there is a last one even without records: it says that we are done.
        """
        while records or at_end:
            if not is_ours():  # of small messages one read brings many transactions
                raise Abandoned
            if self._gathered is None:
                self._gathered = await self._next_outbox()
            outbox = self._gathered
            room = max(1, self._pace.size - outbox.messages)  # smaller perhaps since the last look
            piece, records = records[:room], records[room:]
            is_last = at_end and not records
            await self._build(outbox, piece, self._end if is_last else piece[-1].offset + 1, is_last)
            if is_last:
                await self._commit_gathered()
                return
            if outbox.messages >= self._pace.size or outbox.bytes >= self._settings.transaction_bytes:
                await self._commit_gathered()
        if self._gathered is not None and time.monotonic() - self._gathered.opened_at >= _OPEN_S:
            await self._commit_gathered()

    async def _next_outbox(self) -> Outbox:
        """An empty one that knows the topics of the one before, as far as they are still there."""
        outbox = self._empty_outbox()
        if self._topics:
            outbox.add_destinations(await self._destinations.known(self._producer, self._topics))
        return outbox

    def _empty_outbox(self) -> Outbox:
        return Outbox(self._producer, self._settings, self._destinations, self._claim.topic, self._now())

    async def _commit_gathered(self) -> None:
        """Begin to commit what was gathered, once the transaction before is through."""
        await self._committed()
        if self._gathered is not None:
            self._topics = self._gathered.topics
            self._committing = asyncio.create_task(self._commit(self._gathered, self._progress))
            self._gathered = None

    async def _committed(self) -> None:
        """Wait until the transaction under way is committed, if there is one."""
        if self._committing is not None:
            await self._committing
            self._committing = None

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
            LOST.inc()
            _log.error(
                "drain.lost id=%s topic=%s partition=%d from=%d to=%d",
                claim.id, claim.topic, partition, self._progress.offset, start,
            )  # fmt: skip
            self._progress = self._progress.model_copy(update={"offset": min(start, self._end), "lost": True})

    async def _build(self, outbox: Outbox, records: Sequence[Record], offset: int, done: bool) -> None:
        """Transform the records and gather them by destination; moves the progress on to `offset`.

        Each goes into its batch at once: a few thousand messages that lie between the one and the other are new
        memory for every transaction, which costs as much as the transform itself.
        """
        if records and isinstance(records[0], Unopened):
            outbox.give_back_unopened(records[0])
            self._advance(outbox, offset, done, 0, {ReturnReason.BATCH_TOO_LARGE: records[0].count})
            return
        now = self._now()
        transform = self._transform
        takes = outbox.takes
        move = outbox.move
        returned: list[tuple[Record, ReturnReason]] = []
        waiting: list[tuple[Record, str, Moved]] = []  # for topics that have to be looked up first, or made
        for count, record in enumerate(records, 1):
            try:
                message = transform(record, now)
            except NotRestorable as error:
                returned.append((record, error.code))
            else:
                topic = topic_of(message.queue)
                if topic not in takes:
                    waiting.append((record, topic, message))
                elif (refusal := move(record, topic, message)) is not None:
                    returned.append((record, refusal))
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        if waiting:
            outbox.add_destinations(
                await self._destinations.prepare(self._producer, {topic for _, topic, _ in waiting})
            )
            for count, (record, topic, message) in enumerate(waiting, 1):
                if (refusal := move(record, topic, message)) is not None:
                    returned.append((record, refusal))
                if count % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
        # To the tail in the order of their offsets, also those that were turned down last.
        for record, _ in sorted(returned, key=lambda item: item[0].offset):
            outbox.give_back(record)
        reasons = Counter(reason for _, reason in returned)
        self._advance(outbox, offset, done, len(records) - len(returned), reasons)

    def _advance(
        self, outbox: Outbox, offset: int, done: bool, restored: int, returned: Mapping[ReturnReason, int]
    ) -> None:
        """Count what went into the outbox, and move the progress on to `offset`."""
        reasons = dict(self._progress.reasons)
        for reason, number in returned.items():
            for counts in (reasons, outbox.reasons):
                counts[reason.value] = counts.get(reason.value, 0) + number
        outbox.restored += restored
        outbox.returned += sum(returned.values())
        self._progress = self._progress.model_copy(
            update={
                "offset": offset,
                "restored": self._progress.restored + restored,
                "returned": self._progress.returned + sum(returned.values()),
                "reasons": reasons,
                "done": done,
                "at": format_time(self._now()),
            }
        )

    async def _commit(self, outbox: Outbox, progress: Progress) -> None:
        """One transaction: what was gathered, and the progress with it."""
        claim = self._claim
        # The ledger last, when all else is written: other drains share its partition, and its readers wait
        # from its first record to the commit, or after a crash to the transaction's time-out.
        writes = [*outbox.writes, self._ledger.write_progress(self._producer, claim, self._partition, progress)]
        started = time.monotonic()
        try:
            with span("transaction", attributes={"messaging.batch.message_count": outbox.messages}):
                await self._producer.transact(writes)
        except XferqError as error:
            took_s = time.monotonic() - started
            self._pace.failed(took_s)
            TRANSACTIONS.labels(outcome=error_of(error)).inc()
            TRANSACTION_SECONDS.labels(outcome="failed").observe(took_s)
            raise
        took_s = time.monotonic() - started
        self._pace.ended(took_s)
        self._health.goes_on(f"drain {claim.topic}/{self._partition}")
        TRANSACTIONS.labels(outcome="committed").inc()
        TRANSACTION_SECONDS.labels(outcome="committed").observe(took_s)
        MESSAGES.labels(kind=claim.kind, outcome="moved").inc(outbox.restored)
        MESSAGES.labels(kind=claim.kind, outcome="returned").inc(outbox.returned)
        self.moved["xferq.restored"] += outbox.restored
        self.moved["xferq.returned"] += outbox.returned
        for reason, count in outbox.reasons.items():
            RETURNED.labels(reason=reason).inc(count)

    async def give_up(self) -> None:
        """The topic was deleted, and perhaps created again: what was claimed of it is gone."""
        claim = self._claim
        progress = self._progress.model_copy(update={"done": True, "lost": True, "at": format_time(self._now())})
        await self._commit(self._empty_outbox(), progress)
        LOST.inc()
        _log.error("drain.lost id=%s topic=%s partition=%d", claim.id, claim.topic, self._partition)
