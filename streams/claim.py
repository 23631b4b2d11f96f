"""The claim: take everything that is in a queue at this instant, in milliseconds and at any depth.

A queue's head is the committed offset of its dispatchers' consumer group. A claim moves it past all that is
there and writes the ranges it passed over into the ledger, in one transaction. Precondition of every step is
the one before it; a crash anywhere leaves either no claim (before 6) or a whole one (from 6 on), and the
command, which is acknowledged after 8, comes again and goes on.

1. Fence: take over `xferq.claim.<topic>`. An earlier claimer's transaction is over, its claim known or gone.
2. Read the ledger up to its high watermark. A command that has claimed already goes on at 7.
3. Settle: give transactions that were open on entry a moment; what is still open then is not considered.
4. Hold and evict: nobody in the queue's group has a partition until the hold is released.
5. Read the ends (last stable offsets) and the heads.
6. Commit: group offsets to the ends, the claim and its heads to the ledger; one transaction.
7. Look again: once the commit is visible, evict whoever came meanwhile, and read the offsets again.
8. (`streams.commands`) Publish the drain tasks, then acknowledge the command.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime

from streams.domain.claim import Claim, Head, Kind
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.errors import Fenced, NotAQueue, OutcomeUnknown, Refused, Unavailable, XferqError
from streams.lanes import Lanes
from streams.ledger import Ledger, claim_key, command_key, head_key
from streams.metrics import CLAIM_SECONDS, CLAIMS, EVICTIONS, HEADS_RESTORED
from streams.ports import GroupOffsets, Hold, Kafka, Producer, Topic
from streams.settings import Settings

_log = logging.getLogger(__name__)
_POLL_S = 0.005
_ATTEMPTS = 20
_LOOKS_S = (0.0, 0.1, 0.5)
"""Pauses before each look for a topic that seems not to exist."""
_GUEST_MS = 20_000
"""A seat that delays nobody is kept longer than the longest heartbeat interval of such groups, 15 s by default."""


@dataclass(frozen=True, slots=True)
class Request:
    """One queue to claim, for one command.

    `status` is the command's, written in the same transaction as the claim where the command is about this
    one queue only; None where it claims many. Of those, the ledger keeps nothing about empty ones.
    """

    id: str
    kind: Kind
    queue: str
    topic: str
    xfer_queue: str
    reason: str
    status: Status | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a queue holds at an instant: by partition, the head and the end (excluded)."""

    topic: Topic
    heads: dict[int, int]
    ends: dict[int, int]

    @property
    def ranges(self) -> dict[int, tuple[int, int]]:
        """The partitions that hold something."""
        return {p: (head, self.ends[p]) for p, head in self.heads.items() if head < self.ends[p]}


class Claimer:
    """Claims queues, and stands by what was claimed."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings, now: Callable[[], datetime]) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._now = now
        # Two claims of one queue in this very process would only fence each other.
        self._lanes = Lanes(settings.concurrent_claims)
        self._background: set[asyncio.Task[None]] = set()
        self.unconfirmed: dict[tuple[str, str], Claim] = {}
        """Claims that stand but whose step 7 ran out of time; the guard goes on with them."""

    async def claim(self, request: Request) -> Claim:
        """Claim what is in the queue now, or go on with what this command has claimed of it before.

        Returns the claim; one without ranges where there was nothing.

        Raises:
            Refused: the queue does not exist, its topic was truncated, or its group can't be held.
            Unavailable: Kafka did not let it happen in time; it may have claimed. Call again.
        """
        started = time.monotonic()
        for attempt in range(_ATTEMPTS):
            try:
                async with self._lanes.lane(request.topic):
                    claim = await self._attempt(request)
            except (Fenced, OutcomeUnknown) as error:
                # Another claimer of this queue was here: let one of us finish, then look what is there.
                _log.info("claim.again id=%s topic=%s error=%s", request.id, request.topic, error)
                await asyncio.sleep(random.uniform(0.01, 0.05) * 2 ** min(attempt, 5))  # noqa: S311 - no secret
                continue
            CLAIM_SECONDS.observe(time.monotonic() - started)
            return claim
        raise Unavailable(f"claiming {request.queue}: other claims of it came in between again and again")

    async def _attempt(self, request: Request) -> Claim:
        topic = await self._topic(request.topic)
        if topic is None:
            return await self._claimed_before(request)
        entered = await self._kafka.high_watermarks(topic.name, range(topic.partitions))
        producer = await self._kafka.producer(f"xferq.claim.{topic.name}")  # 1
        seat = _Seat(self._kafka, self._settings.group_of(topic.name))
        try:
            await self._ledger.barrier(topic.name)  # 2
            claim = self._ledger.claim(topic.name, request.id)
            if claim is None:
                await self._settle(topic, entered)  # 3
                snapshot = await self._snapshot(topic)
                if snapshot.ranges:
                    await seat.evict()  # 4
                    snapshot = await self._snapshot(topic)  # 5
                if await self._kafka.topic(topic.name) != topic:
                    # These would be another topic's offsets under the old one's id: given up as lost later.
                    raise Unavailable(f"claiming {request.queue}: its topic was changed or deleted meanwhile")
                claim = await self._commit(request, snapshot, producer)  # 6
                if not claim.ranges:
                    return claim
            if claim.topic_id == topic.id and not self._ledger.is_finished(claim):
                await self._confirm(claim, producer, seat)  # 7
            return claim
        finally:
            self._spawn(producer.close())
            self._spawn(seat.release(self._settings.hold_ms))

    async def _topic(self, name: str) -> Topic | None:
        """The topic, if it exists: a broker may not know yet of one that was created a moment ago."""
        for pause_s in _LOOKS_S:
            await asyncio.sleep(pause_s)
            topic = await self._kafka.topic(name)
            if topic is not None:
                return topic
        return None

    async def _claimed_before(self, request: Request) -> Claim:
        """The claim of a queue whose topic has been deleted since."""
        await self._ledger.barrier(request.topic)
        claim = self._ledger.claim(request.topic, request.id)
        if claim is None:
            raise NotAQueue(f"{request.queue} is not a current scheduled queue")
        return claim

    async def _settle(self, topic: Topic, entered: dict[int, int]) -> None:
        """Wait until all that was in the log on entry is decided, or the time for it has passed."""
        deadline = time.monotonic() + self._settings.settle_ms / 1000
        while True:
            ends = await self._kafka.stable_ends(topic.name, entered)
            if all(ends[p] >= mark for p, mark in entered.items()) or time.monotonic() >= deadline:
                return
            await asyncio.sleep(_POLL_S)

    async def _snapshot(self, topic: Topic) -> Snapshot:
        """Heads and ends. The ends come first: a head read later is never below what was dispatched then."""
        partitions = range(topic.partitions)
        ends, starts = await asyncio.gather(
            self._kafka.stable_ends(topic.name, partitions), self._kafka.log_starts(topic.name, partitions)
        )
        committed = await self._stable_offsets(self._settings.group_of(topic.name), topic.name, topic.partitions)
        claimed = self._ledger.heads(topic.name, topic.id)
        for partition, head in claimed.items():
            if partition in ends and ends[partition] < head:
                raise Refused(
                    f"truncated: partition {partition} of topic {topic.name} ends at {ends[partition]}, "
                    f"but {head} was claimed before; messages were lost in Kafka"
                )
        heads = {p: max(committed.get(p, 0), starts[p], claimed.get(p, 0)) for p in partitions}
        return Snapshot(topic, heads, ends)

    async def _stable_offsets(self, group: str, topic: str, partitions: int) -> dict[int, int]:
        """The group's offsets once no transaction that commits any is pending.

        Raises:
            Unavailable: one is pending beyond the bound.
        """
        deadline = time.monotonic() + self._settings.confirm_ms / 1000
        while True:
            try:
                return await self._kafka.committed(group, topic, range(partitions))
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    async def _commit(self, request: Request, snapshot: Snapshot, producer: Producer) -> Claim:
        topic = snapshot.topic
        claim = Claim(
            id=request.id,
            kind=request.kind,
            topic=topic.name,
            topic_id=topic.id,
            queue=request.queue,
            xfer_queue=request.xfer_queue,
            reason=request.reason,
            group=self._settings.group_of(topic.name),
            ranges=snapshot.ranges,
            claimed_at=format_time(self._now()),
        )
        if not claim.ranges and request.status is None:
            return claim  # nothing to remember: one of many queues, and an empty one
        values: list[tuple[str, bytes | None]] = [(claim_key(topic.name, claim.id), claim.to_bytes())]
        values += [
            (head_key(topic.name, p), Head(topic_id=topic.id, offset=end).to_bytes())
            for p, (_, end) in claim.ranges.items()
        ]
        if request.status is not None:
            status = request.status.model_copy(
                update={"state": "claimed", "queues": 1, "claimed_at": claim.claimed_at, "detail": None}
            ).with_progress([(claim, {})])
            values.append((command_key(claim.id), status.to_bytes()))
        offsets = None
        if claim.ranges:
            # Never back: where a head lies beyond the end, the head it stays.
            ends = {p: max(head, snapshot.ends[p]) for p, head in snapshot.heads.items()}
            offsets = GroupOffsets(claim.group, topic.name, ends)
        await producer.transact([self._ledger.write(producer, topic.name, values)], offsets)
        CLAIMS.labels(outcome="claimed" if claim.ranges else "empty").inc()
        _log.info(
            "claim.committed id=%s topic=%s partitions=%d offsets=%d",
            claim.id, topic.name, len(claim.ranges), claim.offsets_total,
        )  # fmt: skip
        return claim

    async def _confirm(self, claim: Claim, producer: Producer, seat: "_Seat") -> None:
        """Step 7. Why the second look, with a dispatcher D:

        1. D joins after 4 (nobody held the group, as it was empty) and gets the old head.
        2. Our commit becomes pending; D commits plainly, its record lies behind ours.
        3. Our marker arrives and makes our offsets the group's - but a plain commit behind a pending one
           wins over it. The head is back below the claim, and D goes on dispatching what we drain.
        So: wait for the marker, evict, read again; write the ends again where an offset lies lower, and
        repeat only then, never because somebody has joined again.
        """
        deadline = time.monotonic() + self._settings.confirm_ms / 1000
        try:
            await self._write_heads(claim, producer)
            while True:
                await seat.evict()
                if not await self._write_heads(claim, producer):
                    self.unconfirmed.pop((claim.topic, claim.id), None)
                    return
                if time.monotonic() >= deadline:
                    raise Unavailable("commits of its dispatchers came in between again and again")
        except (Unavailable, Refused) as error:
            # Refused as well: what is committed can't be refused any more.
            self.unconfirmed[(claim.topic, claim.id)] = claim
            _log.warning("claim.unconfirmed id=%s topic=%s error=%s", claim.id, claim.topic, error)

    async def _rewound(self, claim: Claim) -> dict[int, int]:
        """The partitions whose committed offset lies below a claim, with the offset that it should have."""
        heads = self._ledger.heads(claim.topic, claim.topic_id)
        for partition, (_, end) in claim.ranges.items():
            heads[partition] = max(heads.get(partition, 0), end)
        if not heads:
            return {}
        committed = await self._stable_offsets(claim.group, claim.topic, max(heads) + 1)
        return {p: head for p, head in heads.items() if committed.get(p, -1) < head}

    async def _write_heads(self, claim: Claim, producer: Producer) -> bool:
        """Put back the heads that lie below a claim; whether there were any."""
        heads = await self._rewound(claim)
        if heads:
            await producer.transact([], GroupOffsets(claim.group, claim.topic, heads))
            HEADS_RESTORED.inc(len(heads))
            _log.warning("claim.head_restored id=%s topic=%s partitions=%s", claim.id, claim.topic, sorted(heads))
        return bool(heads)

    async def is_rewound(self, claim: Claim) -> bool:
        """Whether the group's committed offsets lie below a claim of its queue somewhere.

        Offsets that have expired count as well: a dispatcher would start from the log's beginning.
        """
        return bool(await self._rewound(claim))

    async def reassert(self, claim: Claim, *, evict: bool = True) -> None:
        """Go back to 4 and 7: evict the group's members and put its heads back where the claims left them.

        For the guard. Fences whoever is claiming the queue just now; that claimer starts again. Without `evict`
        only the heads are put back: where none of the claimed messages is there to be dispatched any more.
        """
        async with self._lanes.lane(claim.topic):
            await self._reassert(claim, evict)

    async def _reassert(self, claim: Claim, evict: bool) -> None:
        producer = await self._kafka.producer(f"xferq.claim.{claim.topic}")
        seat = _Seat(self._kafka, claim.group)
        try:
            await self._ledger.barrier(claim.topic)
            topic = await self._kafka.topic(claim.topic)
            if topic is None or topic.id != claim.topic_id:
                return  # heads of a topic that is gone: written for a new one they would hide its messages
            if not evict:
                await self._write_heads(claim, producer)
                return
            await seat.evict()
            await self._confirm(claim, producer, seat)
        finally:
            self._spawn(producer.close())
            self._spawn(seat.release(self._settings.hold_ms))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def stop(self) -> None:
        """Release all holds and close what is open."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


class _Seat:
    """The claim's seat in the queue's group, where the group needs one: nobody else gets a partition."""

    def __init__(self, kafka: Kafka, group: str) -> None:
        self._kafka = kafka
        self._group = group
        self._hold: Hold | None = None

    async def evict(self) -> None:
        """Evict everybody else, whenever they came; take the seat if there is somebody to keep out."""
        if self._hold is not None:
            others = await self._kafka.members(self._group) - {self._hold.member_id}
            await self._kafka.evict(self._group, others)
            return
        self._hold = await self._kafka.hold(self._group)
        if self._hold is not None:
            EVICTIONS.inc(len(self._hold.evicted))

    async def release(self, within_ms: int) -> None:
        """Give the group back once as many members as were evicted are there again, or after the time."""
        if self._hold is None:
            return
        if not self._hold.delays_members:
            within_ms = max(within_ms, _GUEST_MS)
        deadline = time.monotonic() + within_ms / 1000
        try:
            while time.monotonic() < deadline:
                try:
                    if len(await self._kafka.members(self._group) - {self._hold.member_id}) >= len(self._hold.evicted):
                        break
                except XferqError as error:
                    # Not a reason to leave early: into an empty group the evicted may commit what they like.
                    _log.info("claim.release group=%s error=%s", self._group, error)
                await asyncio.sleep(0.1)
        finally:
            await self._hold.release()
