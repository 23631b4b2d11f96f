"""Looks again and again for what breaks a queue's guarantees from outside, and warns of it.

That is: settings of a queue's topic by which Kafka loses messages, or does not take one back; and groups other than the
queue's own that take messages out of it, which no claim can stop. Every worker looks at its share of the queue topics.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from streams.domain.topic import is_queue_topic
from streams.errors import XferqError
from streams.kafka.cluster import Cluster
from streams.kafka.unsafe_queues import unsafe_queues
from streams.settings.topics import TopicSettings
from streams.telemetry.metrics import FOREIGN_GROUPS, GROUP_KINDS, UNSAFE_QUEUES

_log = logging.getLogger(__name__)
_EVERY_S = 60.0
_TURN_S = 1.0
_SHARE_OF_TIME = 0.1
"""A look that takes long comes the less often: no more than this part of the time goes into them."""


class QueueWatch:
    """The looks of one worker; `owns_queue` says whether a queue topic is this worker's to look after."""

    def __init__(self, kafka: Cluster, settings: TopicSettings, owns_queue: Callable[[str], bool]) -> None:
        self._kafka = kafka
        self._settings = settings
        self._owns_queue = owns_queue
        self._said: dict[str, Mapping[str, str]] = {}

    async def run(self, shares: Callable[[], Collection[int]]) -> None:
        """Look, again and again, and at once when we are given other `shares` of the standing work."""
        seen: Collection[int] = ()
        due = 0.0
        while True:
            await asyncio.sleep(_TURN_S)
            if shares() == seen and time.monotonic() < due:
                continue
            seen, started = shares(), time.monotonic()
            for look in (self.look_at_settings, self.look_at_groups):
                try:
                    await look()
                except XferqError as error:
                    _log.warning("worker.unchecked_queues error=%s", error)
                except Exception:  # noqa: BLE001 - a bug in xferq must not end the looks while the worker lives
                    _log.exception("worker.failed work=%s", look.__name__)
            now = time.monotonic()
            due = now + max(_EVERY_S, (now - started) / _SHARE_OF_TIME)

    async def look_at_settings(self) -> dict[str, str]:
        """The queue topics of our share with settings that may lose messages, or keep some from coming back.

        Returned, said and shown, with the reason of each.

        Raises:
            XferqError: Kafka does not tell.
        """
        names = [name for name in await self._kafka.topics() if is_queue_topic(name) and self._owns_queue(name)]
        unsafe = await unsafe_queues(self._kafka.connection, names)
        UNSAFE_QUEUES.set(len(unsafe))
        if new := self._news("unsafe_queues", unsafe):
            topic, why = next(iter(new.items()))
            _log.error("worker.unsafe_queues count=%d topic=%s why=%r: see `xferq topics`", len(new), topic, why)
        return unsafe

    async def look_at_groups(self) -> dict[str, str]:
        """The groups that take messages out of queue topics whose dispatchers are others.

        Returned, said and shown: each with its kind and the first such topic, by the worker that has this in its share.

        Raises:
            XferqError: Kafka does not tell.
        """
        foreign: dict[str, str] = {}
        kinds: Counter[str] = Counter()
        for group, kind, topics in await self._kafka.subscriptions():
            has_no_place = kind in ("share", "streams")
            taken = [t for t in topics if is_queue_topic(t) and (has_no_place or self._settings.group_of(t) != group)]
            if taken and self._owns_queue(first := min(taken)):
                foreign[group] = f"{kind}: {first}"
                kinds[kind] += 1
        for name in GROUP_KINDS:
            FOREIGN_GROUPS.labels(kind=name).set(kinds[name])
        if new := self._news("foreign_groups", foreign):
            group, what = min(new.items())
            _log.error(
                "worker.foreign_groups count=%d group=%s of=%r: a cancel restores what they take out as well",
                len(new), group, what,
            )  # fmt: skip
        return foreign

    def _news(self, about: str, found: Mapping[str, str]) -> dict[str, str]:
        """What was not found by the look before; all of it is said once, and again when it has been gone."""
        before, self._said[about] = self._said.get(about, {}), found
        return {name: what for name, what in found.items() if before.get(name) != what}
