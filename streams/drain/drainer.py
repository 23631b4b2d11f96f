"""The drain: move what was claimed of one queue partition, exactly once; attempt after attempt (`drains`).

The transactional id belongs to the queue partition: a worker that takes it over ends the transaction of a zombie.
A drain reads its progress from the ledger only, after fencing: each transaction writes it, so no other record of it
can be nearer the truth.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from opentelemetry.trace import SpanKind

from streams.concurrency.backoff import backoff_s
from streams.domain.claim import Claim, StallReason
from streams.drain.batch_sizer import BatchSizer
from streams.drain.context import DrainContext
from streams.drain.destinations import Destinations
from streams.drain.memory import Memory
from streams.drain.range_drain import RangeDrain
from streams.errors import Fenced, Rejected, Revoked, Unavailable, XferqError
from streams.ledger.keys import waiting_key
from streams.ledger.ledger import Ledger
from streams.lookup import is_forgotten
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.health import Health
from streams.telemetry.metrics import DRAINS_RUNNING, PRODUCERS_REPLACED, error_of
from streams.telemetry.traces import COMMAND_ID, QUEUE, about_record, span

_log = logging.getLogger(__name__)
_MOST_BACKOFF_S = 5.0
_FAILURES_TO_RECORD = 3
"""So many in a row, without any progress, are recorded in the command's status."""
_RECORDED_EVERY_S = 30.0
"""How long such a record is good, while the drain is where it was."""
_REASON_CHARS = 500
_RECORD_TIMEOUT_S = 3.0
_LEAST_BARRIER_S = 3.0
_MOST_BARRIER_S = 30.0
_MISSING_GAP_S = 30.0
"""Observations of a missing topic that are further apart than this don't add up."""


@dataclass(slots=True)
class _Trouble:
    """A series of attempts that have failed, and what they have learnt."""

    destinations: Destinations
    sizer: BatchSizer
    failures: int = 0
    """In a row, without any progress."""
    first: str = ""
    recorded_at: float = -_RECORDED_EVERY_S

    def add(self, latest: str, *, has_got_on: bool) -> str:
        """One more; a reason for them all: the first says more than what comes of it, an id that can't end, say."""
        if has_got_on:
            self.failures = 0
        if has_got_on or not self.first:
            self.first = latest
        self.failures += not has_got_on
        return latest if latest == self.first else f"{self.first}; then: {latest}"


class Drainer:
    """Drains queue partitions; one call per partition at a time."""

    def __init__(
        self,
        kafka: Kafka,
        ledger: Ledger,
        settings: Settings,
        now: Callable[[], datetime],
        health: Health,
    ) -> None:
        self._context = DrainContext(kafka, ledger, settings, now, health, Memory(settings.drain_bytes))
        self._sizers: dict[tuple[str, int], BatchSizer] = {}  # of those that had to slow down
        self._troubles: dict[tuple[str, int], _Trouble] = {}
        self._missing: dict[str, tuple[float, float]] = {}
        """Since when all brokers say that there is no topic of this id, and when they said so last."""

    async def attempt(
        self, topic: str, partition: int, may_continue: Callable[[], bool], drained: list[str]
    ) -> float | None:
        """Drain all unfinished ranges of the queue partition, in the order of their offsets, until the first error.

        `drained` gets the commands of which a range was finished. Returns after how many seconds to try again, with a
        new producer; None where nothing is left.

        Raises:
            Revoked: `may_continue` became false.
        """
        where = topic, partition
        trouble = self._troubles.get(where) or self._no_trouble(topic, partition)
        sizer, before = trouble.sizer, trouble.sizer.ended_steps
        try:
            if not may_continue():
                raise Revoked
            with DRAINS_RUNNING.track_inprogress():
                await self._drain_ranges(topic, partition, trouble, may_continue, drained)
        except Revoked:
            self.leave(topic, partition)
            raise
        except XferqError as error:
            has_got_on = bool(drained) or sizer.ended_steps != before
            await self._after_failure(topic, partition, trouble, error, has_got_on=has_got_on)
            return backoff_s(trouble.failures + 1, 0.05, _MOST_BACKOFF_S)
        else:
            self._troubles.pop(where, None)
            self._context.health.goes_on(f"drain {topic}/{partition}")
            return None
        finally:
            if sizer.is_full:
                self._sizers.pop(where, None)
            else:
                self._sizers[where] = sizer

    def _no_trouble(self, topic: str, partition: int) -> _Trouble:
        settings = self._context.settings
        sizer = self._sizers.get((topic, partition)) or BatchSizer(
            settings.transaction_messages, settings.transaction_timeout_ms / 1000
        )
        return _Trouble(Destinations(self._context.kafka, settings, topic), sizer)

    async def _after_failure(
        self, topic: str, partition: int, trouble: _Trouble, error: XferqError, *, has_got_on: bool
    ) -> None:
        """Learn from a failed attempt, and show it: in metrics and log, after a while in the command's status."""
        PRODUCERS_REPLACED.labels(work="drain", error=error_of(error)).inc()
        level = logging.INFO if isinstance(error, Fenced) else logging.WARNING
        id = next((claim.id for claim in self._context.ledger.unfinished(topic, partition)), None)
        _log.log(level, "drain.again id=%s topic=%s partition=%d error=%s", id, topic, partition, error)
        if isinstance(error, Rejected):
            with suppress(XferqError):
                await trouble.destinations.learn(error)
        self._troubles[topic, partition] = trouble
        why = trouble.add(str(error), has_got_on=has_got_on)
        self._context.health.waits(f"drain {topic}/{partition}", why)
        is_due = time.monotonic() - trouble.recorded_at >= _RECORDED_EVERY_S
        if trouble.failures >= _FAILURES_TO_RECORD and is_due:
            trouble.recorded_at = time.monotonic()
            await self.record_reason(topic, partition, why)

    @property
    def troubled(self) -> Collection[tuple[str, int]]:
        """The queue partitions whose last attempt has failed."""
        return self._troubles.keys()

    def leave(self, topic: str, partition: int) -> None:
        """Forget the queue partition: this worker does not drain it any more."""
        self._troubles.pop((topic, partition), None)
        self._context.health.leaves(f"drain {topic}/{partition}")

    async def record_reason(self, topic: str, partition: int, why: str) -> None:
        """Let the status of the command whose range is next say what it waits for, if that can be had quickly."""
        for claim in self._context.ledger.unfinished(topic, partition)[:1]:
            await self.record_wait(claim, partition, why)

    async def record_wait(self, claim: Claim, partition: int, why: str) -> None:
        """The same for one claim's range."""
        ledger, topic = self._context.ledger, claim.topic
        goes_on_at, _ = ledger.undrained(claim, partition)
        wait = StallReason(why=why[:_REASON_CHARS], offset=goes_on_at)
        try:
            async with asyncio.timeout(_RECORD_TIMEOUT_S):
                await ledger.record(topic, [(waiting_key(topic, partition, claim.id), wait.to_bytes())])
        except (XferqError, TimeoutError) as error:
            _log.info("drain.unrecorded topic=%s partition=%d error=%r", topic, partition, error)

    async def _drain_ranges(
        self,
        topic: str,
        partition: int,
        trouble: _Trouble,
        may_continue: Callable[[], bool],
        drained: list[str],
    ) -> None:
        """Drain what is left in the view now, and still is behind a barrier. Not what seems left only then:

        1. Claims and progress lie in different partitions of the ledger, each of which is read in its own order.
        2. A command that ended long ago is forgotten: its claim is removed, then its progress.
        3. This view reads the second before the first: the claim looks as if it had never been drained.
        Where it looked so before the barrier, its claim had been removed before that, and is gone behind it.
        """
        context = self._context
        # Fence first, read then: the ledger may be held up by the very transaction that this ends.
        producer = await context.kafka.producer(f"xferq.drain.{topic}.{partition}")
        try:
            left = {claim.id for claim in context.ledger.unfinished(topic, partition)}
            await self._pass_barrier(topic, partition, trouble.failures)
            undecided: dict[str, Unavailable] = {}
            for claim in context.ledger.unfinished(topic, partition):
                if claim.id not in left:
                    continue  # what came since has a turn of its own
                if claim.topic_id in undecided:
                    continue  # what was claimed after it of the same topic must not overtake it
                try:
                    is_gone = await self._is_gone(topic, claim.topic_id)
                except Unavailable as error:
                    undecided[claim.topic_id] = error  # the topic that has its name now may be another claim's
                    continue
                drain = RangeDrain(context, claim, partition, producer, trouble.destinations, trouble.sizer)
                with self._span(claim, partition, drain, trouble.sizer):
                    await (drain.give_up() if is_gone else drain.run(self._while_able(claim.id, may_continue)))
                drained.append(claim.id)
            if undecided:
                raise next(iter(undecided.values()))
        finally:
            await producer.close()

    def _while_able(self, id: str, may_continue: Callable[[], bool]) -> Callable[[], bool]:
        """Until a control comes that needs what this worker can't do: another version has to go on."""
        return lambda: may_continue() and not self._context.ledger.lacking(id)

    async def _pass_barrier(self, topic: str, partition: int, failures: int) -> None:
        """Read the ledger up to a mark. Not for long with a place in hand: what holds the ledger up may be left over by
        a worker that died, in another partition, and ends when that one's drain gets a place and fences it. But longer
        after each failure: where all is slow, it may be no more than that.

        Raises:
            Unavailable: not in time.
        """
        try:
            async with asyncio.timeout(min(_MOST_BARRIER_S, _LEAST_BARRIER_S * 2 ** min(failures, 10))):
                await self._context.ledger.drain_barrier(topic, partition)
        except TimeoutError:
            raise Unavailable(f"reading what the ledger says about {topic}: a transaction is open") from None

    async def _is_gone(self, topic: str, id: str) -> bool:
        """Whether the topic that was claimed is gone for sure: what is given up can't be taken back.

        A broker that has just started, or is cut off, tells of the past. So all brokers are asked, again and again for
        as long as the setting says: each that is alive must have forgotten it, and where they know none of the name,
        the controller as well.

        Raises:
            Unavailable: it seems so, or they don't agree.
        """
        before = self._missing.pop(id, None)
        there = await self._context.kafka.topic(topic)
        if there is not None and there.id == id:
            return False
        if not await is_forgotten(self._context.kafka, topic, id):
            raise Unavailable(f"looking at topic {topic}: a broker does not know the one that was claimed, others do")
        now = time.monotonic()
        since, last = before or (now, now)
        if now - last > _MISSING_GAP_S:
            since = now
        self._missing[id] = since, now
        if (left_s := since + self._context.settings.gone_s - now) > 0:
            raise Unavailable(
                f"topic {topic} was deleted: what was claimed of it is given up as lost in {left_s:.0f} s "
                "if no broker knows of it until then"
            )
        return True

    @staticmethod
    @contextmanager
    def _span(claim: Claim, partition: int, drain: RangeDrain, sizer: BatchSizer) -> Iterator[None]:
        """A span for one try to drain a range, in the trace of its claim."""
        about = about_record(claim.topic, "drain", kind="process", partition=partition)
        about |= {COMMAND_ID: claim.id, QUEUE: claim.queue}
        before = sizer.ended_steps
        with span("drain", SpanKind.CONSUMER, about, claim.trace) as attempted:
            try:
                yield
            finally:
                attempted.set_attributes({"xferq.transactions": sizer.ended_steps - before, **drain.moved})
