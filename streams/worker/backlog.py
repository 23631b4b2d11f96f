"""What waits, shown as metrics: claims that are not drained yet, and what the xfer queues hold.

Each worker process shows its share of the queues; no message is read for it.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from datetime import datetime

from streams.domain.claim import Claim
from streams.domain.head import depth_of, heads_of
from streams.domain.queue_name import is_xfer
from streams.domain.timestamp import parse_time
from streams.domain.topic import queue_of
from streams.errors import XferqError
from streams.ledger.ledger import Ledger
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.metrics import (
    CLAIMS_UNFINISHED,
    DEPTH,
    OLDEST_CLAIM_SECONDS,
    OPEN_SECONDS,
    OTHER,
    SILENT_SECONDS,
    UNDRAINED,
    UNFINISHED_TOTAL,
)
from streams.telemetry.undecided import Undecided

_LOOKS_AT_ONCE = 8
_PAUSES = 9
"""A look at the queues is followed by a pause of so many times what it took, at least."""


class Backlog:
    """Sets the gauges of what waits."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings, now: Callable[[], datetime]) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._now = now
        self._settings = settings
        self._silent: dict[tuple[str, str], tuple[int, float]] = {}
        self._depths: dict[str, int] = {}
        self._shown: set[str] = set()
        self._ends: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self._undecided = Undecided[tuple[str, int]]()
        self._next_look = 0.0

    def show_claims(self, unfinished: Collection[Claim]) -> None:
        """Show these claims, which are all of our share that are not drained yet."""
        now = time.monotonic()
        silent: dict[tuple[str, str], tuple[int, float]] = {}
        for claim in unfinished:
            left = self._left(claim)
            seen = self._silent.get((claim.topic, claim.id))
            silent[claim.topic, claim.id] = seen if seen is not None and seen[0] == left else (left, now)
        self._silent = silent
        ages = [(self._now() - parse_time(claim.claimed_at)).total_seconds() for claim in unfinished]
        UNDRAINED.set(sum(left for left, _ in silent.values()))
        UNFINISHED_TOTAL.set(sum(claim.offsets_total for claim in unfinished))
        CLAIMS_UNFINISHED.set(len(unfinished))
        OLDEST_CLAIM_SECONDS.set(max(ages, default=0.0))
        SILENT_SECONDS.set(max((now - since for _, since in silent.values()), default=0.0))

    def _left(self, claim: Claim) -> int:
        left = 0
        for partition in self._ledger.unfinished_partitions(claim):
            start, end = claim.ranges[partition]
            step = self._ledger.progress(claim.topic, partition, claim.id)
            left += end - (start if step is None else step.offset)
        return left

    async def show_depths(self, is_mine: Callable[[str], bool]) -> None:
        """Show what the xfer queues hold whose topics are ours.

        Raises:
            Unavailable: Kafka does not say which topics there are.
        """
        began = time.monotonic()
        if not self._settings.metrics_queues or began < self._next_look:
            return
        names = {topic: self._name(topic) for topic in await self._kafka.topics() if is_mine(topic)}
        ours = {topic: name for topic, name in names.items() if name is not None and is_xfer(name)}
        for known in (self._depths, self._ends):
            for topic in known.keys() - ours.keys():
                del known[topic]
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(topic: str) -> None:
            async with slots:
                try:
                    await self._look(topic)
                except XferqError:
                    return  # as it was at the last look; who claims or drains it says what is wrong

        await asyncio.gather(*(look(topic) for topic in ours))
        self._show_depths({ours[topic]: depth for topic, depth in self._depths.items()})
        self._show_open()
        self._next_look = time.monotonic() + _PAUSES * (time.monotonic() - began)

    def _name(self, topic: str) -> str | None:
        name = queue_of(topic)
        if name is not None:
            return name
        return next((claim.queue for claim in self._ledger.claims(topic)), None)

    async def _look(self, topic: str) -> None:
        there = await self._kafka.topic(topic)
        if there is None:
            return
        partitions = range(there.partitions)
        # Heads as they are to be seen now: nobody waits here for a transaction that moves them.
        committed = await self._kafka.committed(self._settings.group_of(topic), topic, partitions, stable=False)
        starts, ends = await asyncio.gather(
            self._kafka.log_starts(topic, partitions), self._kafka.stable_ends(topic, partitions)
        )
        self._depths[topic] = depth_of(heads_of(starts, committed, self._ledger.heads(topic, there.id)), ends)
        self._ends[topic] = ends, await self._kafka.high_watermarks(topic, partitions)

    def _show_depths(self, depths: dict[str, int]) -> None:
        # In the order of their names where two are as deep, so that they don't take turns.
        most = self._settings.metrics_queues
        deepest = sorted(depths, key=lambda name: (-depths[name], name))
        shown = {name: depths[name] for name in deepest[:most]}
        shown[OTHER] = sum(depths[name] for name in deepest[most:])
        for name in self._shown - shown.keys():
            DEPTH.remove(name)
        for name, depth in shown.items():
            DEPTH.labels(queue=name).set(depth)
        self._shown = set(shown)

    def _show_open(self) -> None:
        stable: dict[tuple[str, int], int] = {}
        written: dict[tuple[str, int], int] = {}
        for topic, (ends, marks) in self._ends.items():
            stable |= {(topic, partition): end for partition, end in ends.items()}
            written |= {(topic, partition): end for partition, end in marks.items()}
        OPEN_SECONDS.labels(where="xfer_queues").set(self._undecided.look(stable, written))
