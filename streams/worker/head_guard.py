"""Guards the heads of claimed queues: while a group's offset below a claim does harm, the guard puts it back."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from streams.commands.context import CommandContext
from streams.domain.claim import Claim
from streams.errors import XferqError
from streams.lookup import is_forgotten

_LOOKS_AT_ONCE = 8
_LATE_COMMIT_S = 600.0
"""How long after a claim a dispatcher may still commit what it had polled before it."""
_LATE_LOOK_S = 5.0


class Danger(Enum):
    """What an offset below a queue's heads could do."""

    LIVE = auto()
    """Claimed messages are still in the log: a dispatcher could take them once more."""
    LATE = auto()
    """None of them is left. But a dispatcher that had polled some may still commit, below what is there."""
    OVER = auto()
    """Nothing: it is too late for such commits, or no broker knows the topic any more."""


@dataclass(slots=True)
class _Guarded:
    """A queue topic's heads, by partition, and what threatens them; `next_look` by the monotonic clock."""

    topic_id: str
    heads: dict[int, int]
    danger: Danger = Danger.LIVE
    next_look: float = 0.0


class HeadGuard:
    """Looks at the heads of claimed queues; `owns_queue` says whether a queue topic is this worker's to look after."""

    def __init__(self, context: CommandContext, owns_queue: Callable[[str], bool]) -> None:
        self._kafka = context.kafka
        self._ledger = context.ledger
        self._claimer = context.claimer
        self._settings = context.settings
        self._now = context.now
        self._owns_queue = owns_queue
        self._guarded: dict[str, _Guarded] = {}

    async def guard_heads(self) -> None:
        """Look at all of them once, some at a time."""
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def guard(topic: str) -> None:
            async with slots:
                with suppress(XferqError):  # the next round comes soon
                    await self._guard(topic)

        await asyncio.gather(*(guard(topic) for topic in self._ledger.claimed_topics() if self._owns_queue(topic)))

    async def _guard(self, topic: str) -> None:
        # The last one in the ledger, whatever its clock said.
        latest = self._ledger.last_claim(topic, self._settings.group_of(topic))
        if latest is None:
            return
        heads = self._ledger.heads(topic, latest.topic_id)
        guarded = self._guarded.get(topic)
        if guarded is None or (guarded.topic_id, guarded.heads) != (latest.topic_id, heads):  # claimed anew
            guarded = self._guarded[topic] = _Guarded(latest.topic_id, heads)
        if guarded.danger is Danger.LIVE:
            await self._guard_live(latest, guarded)
        elif guarded.danger is Danger.LATE:
            await self._guard_late(latest, guarded)

    async def _guard_live(self, latest: Claim, guarded: _Guarded) -> None:
        there = await self._kafka.topic(latest.topic)
        if there is None or there.id != latest.topic_id:  # as one broker says
            if await is_forgotten(self._kafka, latest.topic, latest.topic_id):
                guarded.danger = Danger.OVER
                self._claimer.confirmation.give_up(latest.topic)
            return
        starts = await self._kafka.log_starts(latest.topic, guarded.heads)
        if all(starts[partition] >= head for partition, head in guarded.heads.items()):
            guarded.danger = Danger.LATE
            self._claimer.confirmation.give_up(latest.topic)
            return
        # Any claim's step 7, as a later one of an empty queue confirms nothing.
        if self._claimer.confirmation.is_overdue(latest.topic) or await self._claimer.is_rewound(latest):
            await self._claimer.reassert(latest)

    async def _guard_late(self, latest: Claim, guarded: _Guarded) -> None:
        """Below the heads nothing is left: no offset, wherever it is, can bring a claimed message back.

        But a dispatcher may still be busy with what it had polled, and commit that once it is a member again: its
        group would then stand where there is no message any more. Looked at now and then, for a while.
        """
        now = time.monotonic()
        if latest.age_s(self._now()) > _LATE_COMMIT_S:
            guarded.danger = Danger.OVER
        elif now >= guarded.next_look:
            guarded.next_look = now + _LATE_LOOK_S
            if await self._claimer.is_rewound(latest):
                await self._claimer.reassert(latest, evict=False)
