"""Where a drain writes messages: the destination topics, and what they take."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection
from datetime import datetime

from streams.drain.limits import Limits
from streams.errors import Rejected, Unavailable, Unreadable
from streams.ports import Kafka, Producer
from streams.settings.topics import TopicSettings
from streams.unopened import Unopened

_log = logging.getLogger(__name__)
_VISIBLE_S = 10.0
"""A topic that was created is waited for so long."""
_UNOPENED_TRIES = 3
_CLOCKS_MS = 60_000
"""How far apart the clocks of broker and worker may be."""


class Destinations:
    """The topics that one drain writes to. Creates the missing ones and learns from what was turned down."""

    def __init__(self, kafka: Kafka, settings: TopicSettings, source: str) -> None:
        self._kafka = kafka
        self._settings = settings
        self._source = source
        self.refused: dict[str, str] = {}
        """Topics that nothing can be written to, with the reason."""
        self.limits = Limits()
        """Of topics that have turned a batch down for its size or its time."""
        self._unopened_tries: Counter[int] = Counter()
        """How often a batch was to be written back unopened, by its offset."""

    async def prepare(self, producer: Producer, topics: Collection[str]) -> dict[str, int]:
        """The partition count of each destination, and of the log; those that can't be had are left out.

        Creates all missing ones in one request and loads their metadata in another.

        Raises:
            Unavailable: a topic that was created did not show up in time.
        """
        wanted = self._wanted(topics)
        found = await producer.partitions(wanted)
        missing = wanted - found.keys() - {self._settings.log_topic, self._source}
        if missing:
            refused = await self._kafka.create(missing)
            if refused:
                topic, why = min(refused.items())
                _log.warning("drain.no_destination count=%d topic=%s why=%r", len(refused), topic, why)
            self.refused |= refused
            deadline = time.monotonic() + _VISIBLE_S
            pause_s = 0.02
            while missing := missing - found.keys() - self.refused.keys():
                if time.monotonic() > deadline:
                    raise Unavailable(f"waiting for {len(missing)} new topics, among them {min(missing)}")
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 0.5)
                found |= await producer.partitions(missing)
        if self._settings.log_topic not in found:
            raise Unavailable(f"topic {self._settings.log_topic} does not exist: create it with `xferq topics`")
        return found

    async def known(self, producer: Producer, topics: Collection[str]) -> dict[str, int]:
        """The partition counts of these topics, as far as they are there and can be written to; creates none.

        None at all without the log: nothing is moved that can't be logged.
        """
        found = await producer.partitions(self._wanted(topics))
        return found if self._settings.log_topic in found else {}

    def _wanted(self, topics: Collection[str]) -> set[str]:
        """What has to be looked up for them: what is refused is left out, log and source are always written to."""
        return {*topics, self._settings.log_topic, self._source} - self.refused.keys()

    async def learn(self, rejected: Rejected) -> None:
        """Remember why writes were turned down, so that the next try leaves them out.

        What the source, the log or the ledger turns down for another reason than size or time can't be left out: the
        drain tries again until the topic takes it.
        """
        for (topic, _), why in rejected.reasons.items():
            if why == "too_large":
                limit = await self._kafka.max_message_bytes(topic)
                # Turned down although it kept to the limit: the topic counts in another way.
                self.limits.sizes[topic] = limit if self.limits.sizes.get(topic) != limit else limit * 9 // 10
            elif why == "timestamp" and topic not in self.limits.times:
                # Not all of them: a topic may refuse what is older than a week, say.
                older, newer = await self._kafka.timestamp_limits(topic)
                self.limits.times[topic] = max(0, older - _CLOCKS_MS), max(0, newer - _CLOCKS_MS)
            elif topic not in (self._source, self._settings.log_topic, self._settings.ledger_topic):
                _log.warning("drain.no_destination count=1 topic=%s why=%r", topic, why)
                self.refused[topic] = why

    def try_unopened(self, found: Unopened, now: datetime) -> None:
        """Count one more try to write a batch back unopened, to the tail of the partition that it came from.

        Raises:
            Unreadable: the topic does not take it back as it is, or Kafka failed with it again and again: it unpacks
                such a batch, too.
        """
        self._unopened_tries[found.offset] += 1
        why = ""
        if found.batch.size() > self.limits.sizes.get(self._source, found.batch.size()):
            why = "is larger than the topic takes now"
        elif self.limits.nearest(self._source, found.timestamp, int(now.timestamp() * 1000)) != found.timestamp:
            why = "has timestamps that the topic does not take now"
        elif self._unopened_tries[found.offset] > _UNOPENED_TRIES:
            why = f"could not be written back in {_UNOPENED_TRIES} tries"
        if why:
            raise Unreadable(
                f"moving {self._source}/{found.partition}: the batch that ends at offset {found.offset} would unpack "
                f"to more than a worker may hold, and {why}; it stands in the way until it is deleted "
                "(kafka-delete-records)"
            )
