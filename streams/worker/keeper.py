"""Keeps what claims have promised: heads stay, no claim is forgotten, space comes back.

Runs in every worker, each for its share of the queue topics.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from streams.claim.claimer import Claimer
from streams.commands.commands import Commands
from streams.concurrency.ending import end
from streams.domain.claim import Claim
from streams.domain.head import freeable, heads_of, unknown_heads
from streams.domain.timestamp import parse_time
from streams.domain.topic import is_queue_topic, topic_of
from streams.errors import XferqError
from streams.ledger.ledger import Ledger
from streams.patience import is_forgotten
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.metrics import SPACE_FREED, TASKS_REPUBLISHED
from streams.worker.backlog import Backlog
from streams.worker.forgetting import Forgetting

_log = logging.getLogger(__name__)
_FORGET_S = 600.0
_LOOKS_AT_ONCE = 8
_LATE_COMMIT_S = 600.0
"""How long after a claim a dispatcher may still commit what it had polled before it."""
_LATE_LOOK_S = 5.0
_DEPTHS_S = 15.0
_SOON_S = 3.0


class Keeper:
    """The standing work of a worker; `is_mine` says whether a queue topic is this worker's to look after."""

    def __init__(
        self,
        kafka: Kafka,
        ledger: Ledger,
        claimer: Claimer,
        commands: Commands,
        settings: Settings,
        now: Callable[[], datetime],
        is_mine: Callable[[str], bool],
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._claimer = claimer
        self._commands = commands
        self._settings = settings
        self._now = now
        self._is_mine = is_mine
        self._forgetting = Forgetting(ledger, settings, now, is_mine)
        self._backlog = Backlog(kafka, ledger, settings, now)
        # By topic, with the heads for which it holds: nothing left to guard; and nothing left below them, with
        # the moment of the next look.
        self._safe: dict[str, tuple[tuple[int, int], ...]] = {}
        self._freed: dict[str, tuple[tuple[tuple[int, int], ...], float]] = {}
        self._seen: dict[tuple[str, str], tuple[tuple[int, ...], float]] = {}
        self._not_freed: dict[str, set[int]] = {}
        self._rounds: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the rounds, unless they have begun."""
        if self._rounds:
            return
        settings = self._settings
        for work, every_s in (
            (self.guard_heads, settings.guard_ms / 1000),
            (self.nudge_stalled, settings.stalled_ms / 3000),
            (self.free_space, settings.space_s),
            (self.forget_commands, _FORGET_S),
            (self.show_depths, _DEPTHS_S),
        ):
            self._rounds.append(asyncio.create_task(self._repeat(work, every_s)))

    async def stop(self) -> None:
        """End them."""
        await end(self._rounds)

    async def _repeat(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await work()
            except XferqError as error:
                _log.warning("keeper.again work=%s error=%s", getattr(work, "__name__", "?"), error)
            except Exception:  # noqa: BLE001 - a bug of ours must not end the rounds for as long as the worker lives
                _log.exception("keeper.failed work=%s", getattr(work, "__name__", "?"))
            await asyncio.sleep(every_s)

    # ---- heads

    async def guard_heads(self) -> None:
        """Look at the heads of claimed queues, until what was claimed of them is gone from their logs."""
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(topic: str) -> None:
            async with slots:
                with suppress(XferqError):  # the next round comes soon
                    await self._guard(topic)

        await asyncio.gather(*(look(topic) for topic in self._ledger.claimed_topics() if self._is_mine(topic)))

    async def _guard(self, topic: str) -> None:
        claims = self._ledger.claims(topic)
        if not claims:
            return
        # The last one in the ledger, whatever its clock said, of the topic that the heads are of.
        latest = next((c for c in reversed(claims) if self._ledger.heads(topic, c.topic_id)), claims[-1])
        heads = self._ledger.heads(topic, latest.topic_id)
        state = tuple(sorted(heads.items()))
        if self._safe.get(topic) == state:
            return
        if topic in self._freed and self._freed[topic][0] == state:
            await self._guard_freed(topic, latest, state)
            return
        there = await self._kafka.topic(topic)
        if there is None or there.id != latest.topic_id:  # as one broker says
            if await is_forgotten(self._kafka, topic, latest.topic_id):
                self._safe[topic] = state
            return
        starts = await self._kafka.log_starts(topic, heads)
        if all(starts[partition] >= head for partition, head in heads.items()):
            self._freed[topic] = (state, 0.0)
            return
        # Any claim's step 7, as a later one of an empty queue confirms nothing.
        if self._claimer.confirmation.is_overdue(topic) or await self._claimer.is_rewound(latest):
            await self._claimer.reassert(latest)

    async def _guard_freed(self, topic: str, latest: Claim, state: tuple[tuple[int, int], ...]) -> None:
        """Below the heads nothing is left: no offset, wherever it is, can bring a claimed message back.

        But a dispatcher may still be busy with what it had polled, and commit that once it is a member again: its
        group would then stand where there is no message any more. Looked at now and then, for a while.
        """
        now = time.monotonic()
        if self._age_s(latest) > _LATE_COMMIT_S:
            self._safe[topic] = state
            del self._freed[topic]
        elif now >= self._freed[topic][1]:
            self._freed[topic] = (state, now + _LATE_LOOK_S)
            if await self._claimer.is_rewound(latest):
                await self._claimer.reassert(latest, evict=False)

    # ---- tasks

    async def nudge_stalled(self) -> None:
        """Publish the tasks of claims again that are unfinished and show no progress; finish what is done."""
        now = time.monotonic()
        unfinished: dict[tuple[str, str], Claim] = {}
        for topic in self._ledger.claimed_topics():
            if not self._is_mine(topic):
                continue
            for claim in self._ledger.claims(topic):
                if not self._ledger.is_finished(claim):
                    unfinished[(topic, claim.id)] = claim
        self._backlog.show_claims(unfinished.values())
        stalled = []
        for key, claim in unfinished.items():
            progress = self._progress(claim)
            seen = self._seen.get(key)
            if seen is None or seen[0] != progress:
                self._seen[key] = (progress, now)
                # Seen for the first time: from before our start, perhaps, with its tasks lost.
                if seen is None and self._age_s(claim) * 1000 >= self._settings.stalled_ms:
                    stalled.append(claim)
            elif (now - seen[1]) * 1000 >= self._settings.stalled_ms:
                self._seen[key] = (progress, now)
                stalled.append(claim)
        for key in self._seen.keys() - unfinished.keys():
            del self._seen[key]
        for claim in stalled:
            TASKS_REPUBLISHED.inc(len(self._ledger.unfinished_partitions(claim)))
            _log.warning("claim.stalled id=%s topic=%s: its tasks are published again", claim.id, claim.topic)
        await self._commands.publish_tasks(stalled)
        await self._finish_ended()

    async def _finish_ended(self) -> None:
        """Commands whose last drain ended and whose worker was killed before it could record that."""
        for status in self._ledger.statuses():
            has_ended = status.state == "done" and len(self._ledger.claims_of(status.id)) <= (status.queues or 1)
            if not has_ended and status.queue_name and self._is_mine(topic_of(status.queue_name)):
                merged = self._ledger.status(status.id)
                if merged is not None and merged.state == "done":
                    await self._commands.finish(status.id)

    def _progress(self, claim: Claim) -> tuple[int, ...]:
        steps = (self._ledger.progress(claim.topic, partition, claim.id) for partition in sorted(claim.ranges))
        return tuple(-1 if step is None else step.offset for step in steps)

    def _age_s(self, claim: Claim) -> float:
        return (self._now() - parse_time(claim.claimed_at)).total_seconds()

    # ---- queues

    async def show_depths(self) -> None:
        """Show what the xfer queues of our share hold."""
        await self._backlog.show_depths(self._is_mine)

    # ---- space

    async def free_space(self) -> None:
        """Free what has been dispatched or drained, in all queue topics of our share."""
        for topic in await self._kafka.topics():
            if is_queue_topic(topic) and self._is_mine(topic):
                try:
                    await self.free(topic)
                except XferqError as error:  # one topic in trouble is no reason to let all behind it grow
                    _log.info("keeper.not_freed topic=%s error=%s", topic, error)

    async def free(self, topic: str) -> None:
        """Delete what lies below the head, and below the start of the lowest unfinished claim.

        The order matters; with a claim that another worker commits meanwhile:
        1. The claim moves the committed offsets and writes its record, in one transaction.
        2. We read the offsets: already moved. Only a barrier after that is sure to show the claim as well.
        3. Had we looked at the ledger before, all that was just claimed would look dispatched.
        Claims under another id of the topic count as well: a broker may tell us an id of the past, and theirs
        may be the one of today.
        Where a claim has left its stamp on an offset, the ledger knows that claim's head; a ledger that is older than
        that does not know what is still to be drained.
        """
        there = await self._kafka.topic(topic)
        if there is None:
            return
        partitions = range(there.partitions)
        group = self._settings.group_of(topic)
        committed = await self._kafka.committed(group, topic, partitions)
        # After them: a claim of another ledger's, between the two, would be seen in the offsets and not by its stamp.
        stamped = await self._kafka.stamped(group, topic, partitions)
        await self._ledger.barrier(topic)
        await self._see_progress(topic)
        if topic in self._ledger.unreadable:
            _log.error("keeper.not_freed topic=%s error='a claim of it in the ledger can't be understood'", topic)
            return
        claimed = self._ledger.heads(topic, there.id)
        undrained = [
            {partition: claim.ranges[partition][0] for partition in self._ledger.unfinished_partitions(claim)}
            for claim in self._ledger.claims(topic)
        ]
        starts, ends = await asyncio.gather(
            self._kafka.log_starts(topic, partitions), self._kafka.stable_ends(topic, partitions)
        )
        unknown = set(unknown_heads(stamped, claimed, ends))
        before = self._not_freed.pop(topic, set())
        if unknown:
            self._not_freed[topic] = unknown
        if unknown - before:
            why = "more of it was claimed than the ledger knows: was an old backup restored?"
            _log.error("keeper.not_freed topic=%s partitions=%s error=%r", topic, sorted(unknown), why)
        freed = freeable(heads_of(starts, committed, claimed), starts, ends, undrained)
        freed = {partition: bound for partition, bound in freed.items() if partition not in unknown}
        await self._kafka.delete_before(topic, freed)
        SPACE_FREED.inc(sum(offset - starts[partition] for partition, offset in freed.items()))

    async def _see_progress(self, topic: str) -> None:
        """Of what seems not to be drained, see whether it is, if that can be had quickly: else less is freed now."""
        left = {p for claim in self._ledger.claims(topic) for p in self._ledger.unfinished_partitions(claim)}
        with suppress(XferqError, TimeoutError):
            async with asyncio.timeout(_SOON_S):
                await self._ledger.progress_barrier(topic, left)

    # ---- memory

    async def forget_commands(self) -> None:
        """Remove what ended long ago."""
        await self._forgetting.forget_commands()
