"""The ledger: the one truth about claims, progress, heads and commands, as a view of a compacted topic.

What its records say is in `streams.ledger.view`, where they lie in `streams.domain.ledger_partitions`.
Every process that needs the ledger follows all of it and keeps it in memory.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from streams.concurrency.ending import end
from streams.domain.claim import Claim, Progress
from streams.domain.ledger_partitions import ledger_width, partition_of, progress_partition
from streams.domain.status import Status
from streams.errors import Refused, Unavailable, XferqError
from streams.ledger.barrier import Marks
from streams.ledger.keys import claim_key, command_key, earlier_progress_key, progress_key, waiting_key
from streams.ledger.reader import LedgerReader, read_again
from streams.ledger.view import LedgerView
from streams.lookup import LogEnds
from streams.ports import Kafka, Producer
from streams.records import Record, Write
from streams.settings.settings import Settings
from streams.telemetry.metrics import LEDGER_LAG, OPEN_SECONDS
from streams.telemetry.open_transactions import OpenTransactionAge

_log = logging.getLogger(__name__)
_RETRY_S = 5.0
_SAID_AFTER_S = 4.0
"""Transactions that end within this time are nobody's business."""
_BATCH_BYTES = 900_000
"""Under Kafka's default limit of a record batch, 1 MiB."""


class Ledger(LedgerView):
    """A view of the ledger that follows it. `start` it, and `barrier` before trusting an absence."""

    def __init__(self, kafka: Kafka, settings: Settings) -> None:
        super().__init__()
        self._kafka = kafka
        self._settings = settings
        self._partitions = range(ledger_width(settings.ledger_partitions))
        # A transaction left open by a crash ends at its time-out, for which the broker looks every 10 s.
        self._limit_s = (settings.transaction_timeout_ms + 15_000) / 1000
        self._marks = Marks(kafka, settings.ledger_topic)
        self._reader = self._new_reader(self.apply)
        self._rereading: asyncio.Task[None] | None = None
        self._topic_id: str | None = None
        self._stuck: dict[int, tuple[int, float]] = {}
        self._ends = LogEnds(kafka, settings.ledger_topic, self._partitions)
        self._open_age = OpenTransactionAge[int]()

    def _new_reader(self, apply: Callable[[Record], None]) -> LedgerReader:
        topic, count = self._settings.ledger_topic, len(self._partitions)
        return LedgerReader(self._kafka, topic, count, self._marks, apply, self._on_lost)

    async def start(self) -> None:
        """Begin to follow; returns once all that was committed before is known, as far as the brokers asked say.

        Not behind a barrier, where a worker that died may have left a transaction open: what ends it before
        its time-out is only the work that begins after this. That work asks for a barrier by itself.

        Raises:
            Unavailable: it could not be read to its end; call again.
        """
        if self._topic_id is None:
            topic = await self._kafka.topic(self._settings.ledger_topic)
            self._topic_id = None if topic is None else topic.id
        self._reader.start()
        ends = await self._kafka.stable_ends(self._settings.ledger_topic, self._partitions)
        await self._within_limit(self._reach(ends), self._partitions)

    async def _reach(self, marks: Mapping[int, int]) -> None:
        for partition, mark in marks.items():
            await self._reader.reach(partition, mark)

    async def look(self) -> None:
        """See that Kafka answers and that the view follows; a reader that stands still is replaced.

        To be called every few seconds. A library's reader may die, or wait for ever, without a word: it has then
        not come up to what was committed, look after look, although Kafka says that there is more.

        Raises:
            Unavailable: Kafka does not answer, or the view does not follow.
        """
        await self._ends.look()
        ends = self._ends.stable
        OPEN_SECONDS.labels(where="ledger").set(self._open_age.look(ends, self._ends.written))
        if not self._reader.is_open:
            raise Unavailable("reading the ledger: it is being opened")
        positions = await self._reader.positions(self._partitions)
        behind = {partition: at for partition, at in positions.items() if at < ends[partition]}
        LEDGER_LAG.set(sum(ends[partition] - at for partition, at in behind.items()))
        now = time.monotonic()
        before = self._stuck
        self._stuck = {p: before[p] if p in before and before[p][0] == at else (at, now) for p, at in behind.items()}
        still = [p for p, (_, since) in self._stuck.items() if now - since > self._settings.request_timeout_ms / 1000]
        if still:
            for partition in still:
                del self._stuck[partition]
            self._reader.replace(still)
            raise Unavailable("reading the ledger: nothing comes, though there is more")

    @property
    def held_up(self) -> str | None:
        """What to say where a transaction has been open for long, by the last look; None where none has."""
        partitions = sorted(self._open_age.open_for(_SAID_AFTER_S))
        if not partitions:
            return None
        of_drains = partitions[0] >= self._settings.ledger_partitions
        who = "drains whose progress lies" if of_drains else "whoever asks about a queue or an id that lies"
        return (
            f"a transaction is open in {self._settings.ledger_topic}, partitions {partitions}: {who} there "
            'waits for its end (docs/runbook.md, "A transaction hangs")'
        )

    async def stop(self) -> None:
        """Stop following."""
        await self._marks.stop()
        if self._rereading is not None:
            await end([self._rereading])
        await self._reader.stop()

    # ---- reading

    @property
    def is_open(self) -> bool:
        """Whether it follows all of the ledger now."""
        return self._reader.is_open

    def partition_of(self, name: str) -> int:
        """The ledger partition for a queue's topic (or for the id of a command that names no queue)."""
        return partition_of(name, self._settings.ledger_partitions)

    def progress_partition(self, topic: str, partition: int) -> int:
        """The ledger partition for the progress of drains of one queue partition."""
        return progress_partition(topic, partition, self._settings.ledger_partitions)

    async def barrier(self, name: str) -> None:
        """Wait until all that was written to the ledger partition of `name` before this call is known, for sure.

        By writing into it: see `streams.ledger.barrier`. Callers that ask for the same partition meanwhile share the
        next. It waits for transactions that are open there, as the broker may have told their producers that they are
        committed.

        Raises:
            Unavailable: it could not be written, or took too long to come.
        """
        await self._pass(self.partition_of(name))

    async def drain_barrier(self, topic: str, partition: int) -> None:
        """The same for all that a drain of the queue partition goes by: the queue's claims, and its own progress."""
        await asyncio.gather(self.barrier(topic), self.progress_barrier(topic, [partition]))

    async def progress_barrier(self, topic: str, partitions: Iterable[int]) -> None:
        """The same for the progress of drains of these queue partitions."""
        await asyncio.gather(*map(self._pass, {self.progress_partition(topic, p) for p in partitions}))

    async def barrier_all(self) -> None:
        """The same for all of the ledger."""
        await asyncio.gather(*(self._pass(partition) for partition in self._partitions))

    def broker_s(self, name: str) -> float:
        """When the last `barrier` for this name was written, in seconds since the epoch; 0 where there was none.

        By the broker's clock, as `xferq topics` sets the ledger up (LogAppendTime): a worker's own may be wrong by
        months. On a topic of CreateTime it is our own.
        """
        return self._reader.marked_ms[self.partition_of(name)] / 1000

    async def catch_up(self) -> None:
        """Wait until all is known that a broker says was written: only to show it, as that may be an old story.

        Raises:
            Unavailable: it took too long.
        """
        ends = await self._kafka.high_watermarks(self._settings.ledger_topic, self._partitions)
        await self._within_limit(self._reach(ends), self._partitions)

    async def _pass(self, partition: int) -> None:
        number = await self._marks.write(partition)
        await self._within_limit(self._deliver(partition, number), [partition])

    async def _deliver(self, partition: int, number: int) -> None:
        while not self._reader.has_delivered(partition, number):  # whichever reader it is by then
            await self._reader.look_for(partition, number)

    async def _within_limit(self, reading: Awaitable[None], partitions: Collection[int]) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await reading
        except TimeoutError:
            # Perhaps the reader itself has died, which a library's task may do without a word.
            self._reader.replace(partitions)
            raise Unavailable("reading the ledger: it can't be read to its end") from None

    # ---- writing

    def write(self, producer: Producer, name: str, values: Iterable[tuple[str, bytes | None]]) -> Write:
        """Ledger records as part of a transaction, in the partition of `name`; a null removes.

        Raises:
            Refused: they don't fit into one batch.
        """
        batch = producer.batch(_BATCH_BYTES)
        for key, value in values:
            if batch.append(timestamp=None, key=key.encode(), value=value, headers=[]) is None:
                raise Refused(f"{name} has more partitions than one claim can take")
        return Write(self._settings.ledger_topic, self.partition_of(name), batch)

    def write_progress(self, producer: Producer, claim: Claim, partition: int, progress: Progress) -> Write:
        """How far a range has been drained, as part of a transaction."""
        batch = producer.batch(_BATCH_BYTES)
        key = progress_key(claim.topic, partition, claim.id).encode()
        batch.append(timestamp=None, key=key, value=progress.to_bytes(), headers=[])
        return Write(self._settings.ledger_topic, self.progress_partition(claim.topic, partition), batch)

    async def record_status(self, name: str, status: Status) -> None:
        """Write a status outside any transaction, durably before this returns."""
        await self.record(name, [(command_key(status.id), status.to_bytes())])

    async def record(self, name: str, values: Iterable[tuple[str, bytes | None]]) -> None:
        """Write ledger records outside any transaction, in the partition of `name`; a null removes."""
        await self._publish(self.partition_of(name), values)

    async def remove(self, name: str, *keys: str) -> None:
        """Remove ledger records outside any transaction, in the partition of `name`."""
        await self.record(name, [(key, None) for key in keys])

    async def forget_claim(self, claim: Claim) -> None:
        """Remove a claim, with what it waits for, and then how far its ranges have been drained.

        In this order: without its progress it would look like one that was never drained.
        """
        topic, id = claim.topic, claim.id
        earlier = [p for p in claim.ranges if self.has_earlier_progress(topic, p, id)]
        # One batch, so that no earlier version's progress is left, of which nothing tells whose it was.
        keys = [claim_key(topic, id), *(earlier_progress_key(topic, p, id) for p in earlier)]
        keys += [waiting_key(topic, where, id) for where in self.waiting(topic, id)]
        await self.remove(topic, *keys)
        await asyncio.gather(*(self.forget_progress(topic, p, id) for p in claim.ranges))

    async def forget_progress(self, topic: str, partition: int, id: str) -> None:
        """Remove how far a range has been drained, of a claim that is not there any more, for sure."""
        await self._publish(self.progress_partition(topic, partition), [(progress_key(topic, partition, id), None)])

    async def _publish(self, partition: int, values: Iterable[tuple[str, bytes | None]]) -> None:
        records = [(key.encode(), value) for key, value in values]
        if records:
            await self._kafka.publish(self._settings.ledger_topic, records, partition=partition)

    # ---- reading it again

    def _on_lost(self) -> None:
        if self._rereading is None or self._rereading.done():
            self._rereading = asyncio.create_task(self._read_again())

    async def _read_again(self) -> None:
        """Read the ledger from its beginning, where its log does not hold what comes next for us.

        Into a view of its own, which takes this one's place once it is no older, for sure: meanwhile this view stays
        as it is, and what is asked of it behind a barrier waits in the partitions concerned only.
        """
        while self._reader.lost:
            view = LedgerView()
            new = self._new_reader(view.apply)
            try:
                await self._require_same_topic()
                _log.warning("ledger.read_again partitions=%s", sorted(self._reader.lost))
                await read_again(self._reader, new, self._marks, self._partitions, self._limit_s)
            except BaseException as error:
                await new.stop()
                if not isinstance(error, XferqError):
                    raise
                _log.error("ledger.not_read_again error=%s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                # No await before this ledger has the new reader: records that it reads now belong here.
                self.become(view)
                new.apply = self.apply
                old, self._reader = self._reader, new
                await old.stop()

    async def _require_same_topic(self) -> None:
        topic = await self._kafka.topic(self._settings.ledger_topic)
        if topic is None or self._topic_id not in (None, topic.id):
            raise Unavailable(
                f"topic {self._settings.ledger_topic} (XFERQ_LEDGER_TOPIC) is gone, or another one than when this "
                "process started: what it knows is not taken from it"
            )
