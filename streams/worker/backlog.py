"""What the xfer queues hold, shown as metrics.

Each worker process shows the queues of its share. It reads no message for that.
"""

import asyncio
import time
from collections.abc import Callable

from streams.domain.head import depth_of, heads_of
from streams.domain.queue_name import is_xfer
from streams.domain.topic import queue_of
from streams.errors import XferqError
from streams.ledger.ledger import Ledger
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.metrics import DEPTH, OPEN_SECONDS, OTHER
from streams.telemetry.open_transactions import OpenTransactionAge

_LOOKS_AT_ONCE = 8
_PAUSES = 9
"""A look at the queues is followed by a pause of so many times what it took, at least."""


class Backlog:
    """Sets the gauges of what waits in queues."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._depths: dict[str, int] = {}
        self._shown: set[str] = set()
        self._ends: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self._open_age = OpenTransactionAge[tuple[str, int]]()
        self._next_look = 0.0

    async def show_depths(self, owns_queue: Callable[[str], bool]) -> None:
        """Show what the xfer queues of this worker's share hold.

        Raises:
            Unavailable: Kafka does not say which topics there are.
        """
        began = time.monotonic()
        if not self._settings.metrics_queues or began < self._next_look:
            return
        names = {topic: self._name(topic) for topic in await self._kafka.topics() if owns_queue(topic)}
        ours = {topic: name for topic, name in names.items() if name is not None and is_xfer(name)}
        for known in (self._depths, self._ends):
            for topic in known.keys() - ours.keys():
                del known[topic]
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(topic: str) -> None:
            async with slots:
                try:
                    await self._measure(topic)
                except XferqError:
                    return  # as it was at the last look; its claim or drain says what is wrong

        await asyncio.gather(*(look(topic) for topic in ours))
        self._show_depths({ours[topic]: depth for topic, depth in self._depths.items()})
        self._show_open()
        self._next_look = time.monotonic() + _PAUSES * (time.monotonic() - began)

    def _name(self, topic: str) -> str | None:
        name = queue_of(topic)
        if name is not None:
            return name
        return next((claim.queue for claim in self._ledger.claims(topic)), None)

    async def _measure(self, topic: str) -> None:
        there = await self._kafka.topic(topic)
        if there is None:
            return
        partitions = range(there.partitions)
        # Heads as they are to be seen now: no look waits for a transaction that moves them.
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
        OPEN_SECONDS.labels(where="xfer_queues").set(self._open_age.look(stable, written))
