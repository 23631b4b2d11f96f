"""The claim: take everything that is in a queue at this instant, in milliseconds and at any depth.

A queue's head is the committed offset of its dispatchers' consumer group. A claim moves the head past all that is
there and writes the ranges it passed over into the ledger, in one transaction. Each step requires the one before
it. A crash anywhere leaves either no claim (before 6) or a whole one (from 6 on). The command is acknowledged
after 8 only, so after a crash it comes again and goes on.

1. Fence: take over `xferq.claim.<topic>`. An earlier claimer's transaction is over, its claim known or gone.
2. Read the ledger up to a mark of our own (`streams.ledger.barrier`). A command that has claimed already goes on at 7.
3. Beside 1 and 2, settle: give transactions that were open on entry a moment; the claim leaves out what is still
   open then. And see that the queue's group can be evicted: behind a group of another kind no head is true.
4. Hold and evict, if the group had members in 3: no dispatcher has a partition until the hold is released.
5. Read the ends (last stable offsets) and the heads.
6. Commit: group offsets to the ends, the claim and its heads to the ledger; one transaction. Before its end,
   look whether the heads are still those of 5: a claimer that stood still in between starts again.
7. (`streams.claim.confirmation`) Look again: once the commit is visible, evict the members that came meanwhile; at
   once the offsets must be right. Drains have begun by then: since 6, workers restore what is claimed, even if 7 fails.
8. (`streams.commands.commands`) Publish the drain tasks, then acknowledge the command.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from streams.claim.confirmation import Confirmation
from streams.claim.heads import Heads, Snapshot
from streams.claim.hold import GroupHold
from streams.claim.records import claimed_status, new_claim, records_of
from streams.claim.request import ClaimRequest
from streams.concurrency.backoff import backoff_s
from streams.concurrency.deadline import comes_true
from streams.concurrency.ending import Background
from streams.concurrency.keyed_locks import KeyedLocks
from streams.concurrency.places import Places
from streams.domain.claim import Claim
from streams.domain.selection import Passed
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import Conflict, Fenced, NotAQueue, OutcomeUnknown, Refused, Unavailable, XferqError
from streams.ledger.keys import passed_key
from streams.ledger.ledger import Ledger
from streams.ledger.results import Results
from streams.lookup import find_topic, require_gone
from streams.ports import GroupOffsets, Kafka, Producer, Topic
from streams.settings.settings import Settings
from streams.telemetry.metrics import CLAIM_SECONDS, CLAIMS, PRODUCERS_REPLACED, error_of
from streams.telemetry.traces import current_trace

_log = logging.getLogger(__name__)
_POLL_S = 0.005
_ATTEMPTS = 20
_MOST_PAUSE_S = 10.0
_PLACE = "a place: this worker claims as many queues as it may at a time (XFERQ_CONCURRENT_CLAIMS)"
_FENCE = "taking over the queue's transactional id: the transaction of an earlier claim is ending, or Kafka is slow"
_BARRIER = "reading what the ledger says: a transaction is open in its partition, or Kafka is slow"
_HEADS = (
    "the heads of the queue: members of group {0} are being evicted, a transaction that commits its offsets is open "
    "(somebody has to end it), or Kafka is slow"
)


def fence_of(topic: str) -> str:
    """The transactional id under which a queue is claimed: who takes it over ends an earlier claim's transaction."""
    return f"xferq.claim.{topic}"


class Claimer:
    """Claims queues, and stands by what was claimed."""

    def __init__(
        self, kafka: Kafka, ledger: Ledger, results: Results, settings: Settings, now: Callable[[], datetime]
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._results = results
        self._settings = settings
        self._now = now
        self._heads = Heads(kafka, ledger, settings)
        # By transactional id: two claims of one queue in this very process would only fence each other.
        self._locks = KeyedLocks()
        self._places = Places(settings.concurrent_claims)
        self.confirmation = Confirmation(ledger, settings, self._heads)
        self._background = Background()
        self._closing = Background()

    async def claim(self, request: ClaimRequest) -> Claim:
        """Claim what is in the queue now, or go on with what this command has claimed of it before.

        Returns the claim; one without ranges where there was nothing.

        Raises:
            Refused: the queue does not exist, its topic was truncated, or its group can't be held.
            Unavailable: Kafka did not let it happen in time; it may have claimed. Call again.
        """
        started = time.monotonic()
        try:
            claim, is_new = await self._until_claimed(request)
        except XferqError as error:
            _count("refused" if isinstance(error, Refused) else "failed", started)
            raise
        _count("resumed" if not is_new else "claimed" if claim.ranges else "empty", started)
        return claim

    async def _until_claimed(self, request: ClaimRequest) -> tuple[Claim, bool]:
        """The claim, and whether it was made here: not by this command before."""
        may_be_ours = False
        for attempt in range(_ATTEMPTS):
            began = time.monotonic()
            try:
                is_again = request.is_again or attempt > 0
                request.on_step(_PLACE)
                async with self._places.place(is_again=is_again), self._locks.held(fence_of(request.topic)):
                    claim, is_new = await self._attempt(request)
            except (Fenced, OutcomeUnknown, Conflict) as error:
                # Another claimer or a dispatcher was here: let one of us finish, then look what is there. Claimers
                # that each need longer than they pause would fence each other for ever: so by what it took.
                _log.info("claim.again id=%s topic=%s error=%s", request.id, request.topic, error)
                PRODUCERS_REPLACED.labels(work="claim", error=error_of(error)).inc()
                may_be_ours = may_be_ours or isinstance(error, OutcomeUnknown)
                took_s = max(0.01, time.monotonic() - began)
                await asyncio.sleep(backoff_s(min(attempt, 6) + 1, took_s, _MOST_PAUSE_S))
                continue
            return claim, is_new or may_be_ours
        raise Unavailable(f"claiming {request.queue}: other claims of it came in between again and again")

    async def _attempt(self, request: ClaimRequest) -> tuple[Claim, bool]:
        topic = await find_topic(self._kafka, request.topic)
        if topic is None:
            return await self._claimed_before(request), False
        hold = GroupHold(self._kafka, self._settings.group_of(topic.name))
        entry = asyncio.gather(hold.is_needed(), self._settle(topic))  # 3
        producer = None
        try:
            request.on_step(_FENCE)
            producer = await self._kafka.producer(fence_of(topic.name))  # 1
            request.on_step(_BARRIER)
            claim, status = await self._known(request)  # 2
            is_new = claim is None
            if claim is None:
                request.on_step(_HEADS.format(hold.group))
                is_needed, _ = await entry
                snapshot = await self._heads.snapshot(topic)  # 5
                if is_needed and snapshot.ranges:
                    await hold.evict()  # 4, if the group has members; for no messages, none is evicted
                    snapshot = await self._heads.snapshot(topic)
                claim = await self._commit(request, status, snapshot, producer)  # 6
            is_due = is_new or self.confirmation.is_due(claim) or not self._ledger.is_finished(claim)
            if is_due and claim.ranges and claim.topic_id == topic.id:
                await self.confirmation.confirm(claim, producer, hold)  # 7
            return claim, is_new
        finally:
            entry.cancel()
            if producer is not None:
                self._closing.begin(producer.close())
            self._background.begin(hold.release(self._settings.hold_ms))
            await asyncio.gather(entry, return_exceptions=True)

    async def _known(self, request: ClaimRequest) -> tuple[Claim | None, Status | None]:
        """What the command has claimed of the queue before, and its status, by all that the ledger says.

        Of the command as well, whose claims are forgotten soon after its end.
        """
        await asyncio.gather(*map(self._ledger.barrier, dict.fromkeys([request.topic, topic_of(request.xfer_queue)])))
        claim = self._ledger.claim(request.topic, request.id)
        if claim is not None and self.confirmation.is_due(claim):
            return claim, None  # step 7 comes also where the drains were quicker, and the command has ended
        return claim, request.admit()

    @asynccontextmanager
    async def fence(self, id: str) -> AsyncIterator[Producer]:
        """A transactional id: its last holder's transaction is over, and no claim of this process has it meanwhile."""
        async with self._locks.held(id):
            producer = await self._kafka.producer(id)
            try:
                yield producer
            finally:
                self._closing.begin(producer.close())

    async def pass_by(self, request: ClaimRequest, passed: Passed) -> Claim | None:
        """Record that the command is done with a queue that it can't claim; its claim, where it has one after all.

        Under the fence: no claimer that stood still claims the queue for the command afterwards.
        """
        async with self.fence(fence_of(request.topic)) as producer:
            claim, _ = await self._known(request)
            if claim is None:
                values = [(passed_key(request.topic, request.id), passed.to_bytes())]
                await producer.transact([self._ledger.write(producer, request.topic, values)])
            return claim

    async def _claimed_before(self, request: ClaimRequest) -> Claim:
        """The claim of a queue whose topic has been deleted since."""
        claim, _ = await self._known(request)
        if claim is None:
            await require_gone(self._kafka, request.topic)
            raise NotAQueue(f"{request.queue} is not a current scheduled queue")
        return claim

    async def _settle(self, topic: Topic) -> None:
        """Wait until all that was in the log on entry is decided, or the time for it has passed."""
        entered = await self._kafka.high_watermarks(topic.name, range(topic.partitions))

        async def is_decided() -> bool:
            ends = await self._kafka.stable_ends(topic.name, entered)
            return all(ends[p] >= mark for p, mark in entered.items())

        await comes_true(is_decided, self._settings.settle_ms / 1000, _POLL_S)

    async def _commit(
        self, request: ClaimRequest, status: Status | None, snapshot: Snapshot, producer: Producer
    ) -> Claim:
        topic = snapshot.topic
        group, at = self._settings.group_of(topic.name), format_time(self._now())
        claim = new_claim(request, topic.id, group, snapshot.ranges, at, current_trace())
        offsets = None
        if claim.ranges:
            # Never back: where a head lies beyond the end, the head it stays.
            ends = {p: max(head, snapshot.ends[p]) for p, head in snapshot.heads.items()}
            earlier = self._ledger.heads(topic.name, topic.id)
            stamped = claim.ranges.keys() | {p for p, end in ends.items() if end == earlier.get(p)}
            offsets = GroupOffsets(claim.group, topic.name, ends, snapshot.committed, stamped)
        status = status and claimed_status(claim, status)
        await self._results.transact(
            producer,
            status,
            1,
            [self._ledger.write(producer, topic.name, records_of(claim, status))],
            offsets,
            None if offsets is None else partial(self._heads.hold_to, topic),
        )
        if claim.ranges or status is not None:
            _log.info(
                "claim.committed id=%s topic=%s partitions=%d offsets=%d",
                claim.id, topic.name, len(claim.ranges), claim.offsets_total,
            )  # fmt: skip
        return claim

    async def is_rewound(self, claim: Claim) -> bool:
        """Whether the group's committed offsets lie below a claim of its queue somewhere.

        Offsets that have expired count as well: a dispatcher would start from the log's beginning.
        """
        return bool((await self._heads.rewound(claim)).heads)

    async def reassert(self, claim: Claim, *, evict: bool = True) -> None:
        """Go back to 4 and 7: evict the group's members and put its heads back where the claims left them.

        For the guard. Fences a claimer that is claiming the queue just now; it starts again. Without `evict`
        only the heads are put back: where none of the claimed messages is there to be dispatched any more.
        """
        async with self.fence(fence_of(claim.topic)) as producer:
            await self._reassert(claim, producer, evict)

    async def _reassert(self, claim: Claim, producer: Producer, evict: bool) -> None:
        hold = GroupHold(self._kafka, claim.group)
        try:
            await self._ledger.barrier(claim.topic)
            topic = await self._kafka.topic(claim.topic)
            if topic is None or topic.id != claim.topic_id:
                return  # heads of a topic that is gone: written for a new one they would hide its messages
            if not evict:
                rewound = await self._heads.rewound(claim)
                if rewound.heads:
                    await self._heads.put_back(claim, rewound, producer)
                return
            # Or it was being done while this waited for its turn.
            if self.confirmation.is_overdue(claim.topic) or await self.is_rewound(claim):
                await hold.evict()
                await self.confirmation.confirm(claim, producer, hold)
        finally:
            self._background.begin(hold.release(self._settings.hold_ms))

    async def stop(self) -> None:
        """Release all holds and close what is open."""
        # What closes within its own time is left to do so: cut off, a producer leaves its connections to be collected.
        await asyncio.gather(self._background.stop(), self.confirmation.stop(), self._closing.ended())


def _count(outcome: str, started: float) -> None:
    CLAIMS.labels(outcome=outcome).inc()
    CLAIM_SECONDS.labels(outcome=outcome).observe(time.monotonic() - started)
