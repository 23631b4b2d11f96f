"""What the xfer queues hold, shown as metrics: each worker process shows the queues of its share."""

import time
from collections.abc import Callable

from streams.domain.depth import QueueDepth
from streams.domain.queue_name import is_xfer
from streams.domain.topic import queue_of
from streams.ledger.ledger import Ledger
from streams.ports import Kafka
from streams.records import TopicPartition
from streams.settings.settings import Settings
from streams.telemetry.metrics import DEPTH, HELD, OPEN_SECONDS, OTHER, UNCOUNTED
from streams.telemetry.open_transactions import OpenTransactionAge

_PAUSES = 9
"""A look at the queues is followed by a pause of so many times what it took, at least."""


class Backlog:
    """Sets the gauges of what waits in queues."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._last: dict[str, QueueDepth] = {}
        self._shown: set[str] = set()
        self._open_age = OpenTransactionAge[TopicPartition]()
        self._next_look = 0.0

    async def show_depths(self, owns_queue: Callable[[str], bool]) -> None:
        """Show what the xfer queues of this worker's share hold.

        Raises:
            Unavailable: Kafka does not say which topics there are.
        """
        began = time.monotonic()
        if not self._settings.metrics_queues or began < self._next_look:
            return
        names: dict[str, str] = {}

        def is_wanted(topic: str) -> bool:
            name = self._name(topic) if owns_queue(topic) else None
            if name is None or not is_xfer(name):
                return False
            names[topic] = name
            return True

        found = {queue.topic: queue for queue in await self._kafka.depths(self._ledger.all_claimed(), is_wanted)}
        # Without a leader, as it was at the last look; its claim or drain says what is wrong.
        known = {
            topic: self._last.get(topic, queue) if queue.depth is None else queue for topic, queue in found.items()
        }
        self._last = known
        self._show({names[topic]: queue for topic, queue in known.items() if queue.depth is not None})
        self._show_open()
        self._next_look = time.monotonic() + _PAUSES * (time.monotonic() - began)

    def _name(self, topic: str) -> str | None:
        name = queue_of(topic)
        if name is not None:
            return name
        return next((claim.queue for claim in self._ledger.claims(topic)), None)

    def _show(self, queues: dict[str, QueueDepth]) -> None:
        depths = {name: queue.depth for name, queue in queues.items() if queue.depth is not None}
        held = {name: queue.held for name, queue in queues.items() if queue.held is not None}
        # In the order of their names where two are as deep, so that they don't take turns.
        most = self._settings.metrics_queues
        deepest = sorted(depths, key=lambda name: (-depths[name].at_most, name))
        for name in self._shown - set(deepest[:most]):
            DEPTH.remove(name)
            HELD.remove(name)
        self._shown = set(deepest[:most])
        for name in deepest[:most]:
            DEPTH.labels(queue=name).set(depths[name].at_most)
            HELD.labels(queue=name).set(held[name].at_most)
        DEPTH.labels(queue=OTHER).set(sum(depths[name].at_most for name in deepest[most:]))
        HELD.labels(queue=OTHER).set(sum(held[name].at_most for name in deepest[most:]))
        UNCOUNTED.set(sum(not (depths[name].exact and held[name].exact) for name in deepest))

    def _show_open(self) -> None:
        last = self._last.items()
        stable = {(topic, p): end for topic, queue in last for p, end in queue.stable.items()}
        written = {(topic, p): end for topic, queue in last for p, end in queue.written.items()}
        OPEN_SECONDS.labels(where="xfer_queues").set(self._open_age.look(stable, written))
