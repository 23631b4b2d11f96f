"""Gives back the space of messages that were dispatched or drained."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from streams.concurrency.ending import Background
from streams.domain.head import freeable, heads_of, unknown_heads
from streams.domain.topic import is_queue_topic
from streams.errors import XferqError
from streams.ledger.ledger import Ledger
from streams.ports import Kafka
from streams.settings.topics import TopicSettings
from streams.telemetry.metrics import SPACE_FREED

_log = logging.getLogger(__name__)
_PROGRESS_S = 3.0


class SpaceReclaimer:
    """Frees queue topics; `owns_queue` says whether one is this worker's to look after."""

    def __init__(
        self, kafka: Kafka, ledger: Ledger, settings: TopicSettings, owns_queue: Callable[[str], bool]
    ) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings
        self._owns_queue = owns_queue
        self._not_freed: dict[str, set[int]] = {}
        self._background = Background()
        self._to_free: dict[str, bool] = {}
        """Topics of which something is being freed; whether more has been drained meanwhile."""

    async def free_space(self) -> None:
        """Free what has been dispatched or drained, in all queue topics of this worker's share."""
        for topic in await self._kafka.topics():
            if is_queue_topic(topic) and self._owns_queue(topic):
                try:
                    await self.free(topic)
                except XferqError as error:  # one topic in trouble is no reason to let all behind it grow
                    _log.info("maintenance.not_freed topic=%s error=%s", topic, error)

    def free_soon(self, topic: str) -> None:
        """Free what was drained, which the next round would do later: once more where that is being done."""
        if topic not in self._to_free:
            self._background.begin(self._free_until_done(topic))
        self._to_free[topic] = True

    async def _free_until_done(self, topic: str) -> None:
        try:
            while self._to_free[topic]:
                self._to_free[topic] = False
                await self.free(topic)
        except XferqError as error:
            _log.info("drain.not_freed topic=%s error=%s", topic, error)
        finally:
            del self._to_free[topic]

    async def stop(self) -> None:
        """End what `free_soon` has begun."""
        await self._background.stop()

    async def free(self, topic: str) -> None:
        """Delete what lies below the head, and below the start of the lowest unfinished claim.

        The order matters; with a claim that another worker commits meanwhile:
        1. The claim moves the committed offsets and writes its record, in one transaction.
        2. This worker reads the offsets: already moved. Only a barrier after that is sure to show the claim as well.
        3. Had it looked at the ledger before, all that was just claimed would look dispatched.
        Claims under another id of the topic count as well: a broker may tell an id of the past, and theirs may be the
        one of today.
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
            _log.error("maintenance.not_freed topic=%s error='a claim of it in the ledger can't be understood'", topic)
            return
        claimed = self._ledger.heads(topic, there.id)
        undrained = [
            {partition: claim.ranges[partition][0] for partition in self._ledger.unfinished_partitions(claim)}
            for claim in self._ledger.claims(topic)
        ]
        starts, ends = await asyncio.gather(
            self._kafka.log_starts(topic, partitions), self._kafka.stable_ends(topic, partitions)
        )
        unknown = self._say_unknown(topic, set(unknown_heads(stamped, claimed, ends)))
        freed = freeable(heads_of(starts, committed, claimed), starts, ends, undrained)
        freed = {partition: bound for partition, bound in freed.items() if partition not in unknown}
        await self._kafka.delete_before(topic, freed)
        SPACE_FREED.inc(sum(offset - starts[partition] for partition, offset in freed.items()))

    def _say_unknown(self, topic: str, unknown: set[int]) -> set[int]:
        """Log the partitions that are not freed, as more of them was claimed than the ledger knows; each once."""
        before = self._not_freed.pop(topic, set())
        if unknown:
            self._not_freed[topic] = unknown
        if unknown - before:
            why = "more of it was claimed than the ledger knows: was an old backup restored?"
            _log.error("maintenance.not_freed topic=%s partitions=%s error=%r", topic, sorted(unknown), why)
        return unknown

    async def _see_progress(self, topic: str) -> None:
        """Of what seems not to be drained, see whether it is, if that can be had quickly: else less is freed now."""
        left = {p for claim in self._ledger.claims(topic) for p in self._ledger.unfinished_partitions(claim)}
        with suppress(XferqError, TimeoutError):
            async with asyncio.timeout(_PROGRESS_S):
                await self._ledger.progress_barrier(topic, left)
