"""Where drained messages go: the destination topics, what they take, and the batches bound for them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, KeysView, Mapping
from datetime import datetime

from streams.domain.envelope import ReturnReason
from streams.drain.transform import Moved
from streams.errors import Rejected, Unavailable, Unreadable
from streams.ports import Kafka, Producer
from streams.records import Batch, Header, Record, Write
from streams.settings.settings import Settings
from streams.unopened import Unopened

_log = logging.getLogger(__name__)
_LOG_HEADERS: list[Header] = [("type", b"AdminRebind")]
_VISIBLE_S = 10.0
_UNOPENED_TRIES = 3
_CLOCKS_MS = 60_000
"""How far apart the broker's clock and ours may be."""


class Destinations:
    """The topics that one drain writes to. Creates the missing ones and learns from what was turned down."""

    def __init__(self, kafka: Kafka, settings: Settings, source: str) -> None:
        self._kafka = kafka
        self._settings = settings
        self._source = source
        self.refused: dict[str, str] = {}
        """Topics that nothing can be written to, with the reason."""
        self.limits: dict[str, int] = {}
        """The largest batch in bytes, of topics that have turned one down for its size."""

        self.unopened_tries: Counter[int] = Counter()
        """How often a batch was to be written back unopened, by its offset."""

        self.times: dict[str, tuple[int, int]] = {}
        """How much older and newer than now a record may be in ms, of topics that have turned one down for that."""

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
                # Turned down although it kept to the limit: the topic counts otherwise than we do.
                self.limits[topic] = limit if self.limits.get(topic) != limit else limit * 9 // 10
            elif why == "timestamp" and topic not in self.times:
                # Not all of them: a topic may refuse what is older than a week, say.
                older, newer = await self._kafka.timestamp_limits(topic)
                self.times[topic] = max(0, older - _CLOCKS_MS), max(0, newer - _CLOCKS_MS)
            elif topic not in (self._source, self._settings.log_topic, self._settings.ledger_topic):
                _log.warning("drain.no_destination count=1 topic=%s why=%r", topic, why)
                self.refused[topic] = why


class Outbox:
    """The batches of one transaction, by destination partition, in the order in which they were filled."""

    def __init__(
        self,
        producer: Producer,
        settings: Settings,
        destinations: Destinations,
        source: str,
        now: datetime,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._limits = destinations.limits
        self._times = destinations.times
        self._unopened_tries = destinations.unopened_tries
        self._now_ms = int(now.timestamp() * 1000)
        self.opened_at = time.monotonic()
        self._source = source
        self._partitions: dict[str, int] = {}
        self._open: dict[tuple[str, int], Batch] = {}
        self.writes: list[Write] = []
        self.restored = 0
        self.returned = 0
        self.reasons: dict[str, int] = {}
        self.bytes = 0
        """Of all values, the log's too; where keys and headers weigh more, the number of messages is the bound."""

    @property
    def messages(self) -> int:
        """How many it moves or gives back."""
        return self.restored + self.returned

    @property
    def takes(self) -> KeysView[str]:
        """The topics that it knows the partitions of."""
        return self._partitions.keys()

    @property
    def topics(self) -> frozenset[str]:
        """The topics that something is written to."""
        return frozenset(topic for topic, _ in self._open)

    def add_destinations(self, partitions: Mapping[str, int]) -> None:
        """Topics that may be written to from now on, with their partition counts."""
        self._partitions.update(partitions)

    def move(self, record: Record, topic: str, message: Moved) -> ReturnReason | None:
        """Add a moved message and its log record; why neither can be, where that is so.

        The destination's partition is the source's modulo their count: keeps the order of the source.
        """
        count = self._partitions.get(topic)
        if count is None:
            return ReturnReason.DESTINATION_UNAVAILABLE
        if self._times and self._taken(topic, record.timestamp) != record.timestamp:
            return ReturnReason.TIMESTAMP
        log = self._settings.log_topic
        if self._limits and not (
            self._fits(topic, record.key, record.value, message.headers)
            and self._fits(log, record.key, message.log, _LOG_HEADERS)
        ):
            return ReturnReason.TOO_LARGE
        self._add(topic, record.partition % count, record.timestamp, record.key, record.value, message.headers)
        self._add(log, record.partition % self._partitions[log], None, record.key, message.log, _LOG_HEADERS)
        return None

    def give_back(self, record: Record) -> None:
        """Add a message as it is to the tail of the partition that it came from.

        But for its timestamp, where the topic would not take it back with that: it has lain there for longer than the
        topic lets a message be old. Then with the nearest one that it takes: or all behind it would wait for ever.
        """
        timestamp = self._taken(self._source, record.timestamp)
        headers = list(record.headers)
        if self._source in self._limits and not self._fits(self._source, record.key, record.value, headers):
            # It was there once, compressed by whoever wrote it.
            batch = self._producer.batch(1, compression="zstd")
            batch.append(timestamp=timestamp, key=record.key, value=record.value, headers=headers)
            self.writes.append(Write(self._source, record.partition, batch))
            self._open.pop((self._source, record.partition), None)
            return
        self._add(self._source, record.partition, timestamp, record.key, record.value, headers)

    def give_back_unopened(self, found: Unopened) -> None:
        """Add a batch as it is to the tail of the partition that it came from.

        Raises:
            Unreadable: the topic does not take it back as it is, or Kafka failed with it again and again: it unpacks
                such a batch, too.
        """
        self._unopened_tries[found.offset] += 1
        where = f"{self._source}/{found.partition}"
        why = ""
        if found.batch.size() > self._limits.get(self._source, found.batch.size()):
            why = "is larger than the topic takes now"
        elif self._taken(self._source, found.timestamp) != found.timestamp:
            why = "has timestamps that the topic does not take now"
        elif self._unopened_tries[found.offset] > _UNOPENED_TRIES:
            why = f"could not be written back in {_UNOPENED_TRIES} tries"
        if why:
            raise Unreadable(
                f"moving {where}: the batch that ends at offset {found.offset} would unpack to more than a worker may "
                f"hold, and {why}; it stands in the way until it is deleted (kafka-delete-records)"
            )
        self.writes.append(Write(self._source, found.partition, found.batch))
        self._open.pop((self._source, found.partition), None)
        self.bytes += found.batch.size()

    def _taken(self, topic: str, timestamp: int) -> int:
        """The timestamp in ms if the topic takes it, or else the nearest one that it takes."""
        if topic not in self._times:
            return timestamp
        older, newer = self._times[topic]
        return min(max(timestamp, self._now_ms - older), self._now_ms + newer)

    def _fits(self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]) -> bool:
        limit = self._limits.get(topic)
        if limit is None:
            return True
        alone = self._producer.batch(1)
        alone.append(timestamp=0, key=key, value=value, headers=headers)
        return alone.size() <= limit

    def _add(
        self,
        topic: str,
        partition: int,
        timestamp: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: list[Header],
    ) -> None:
        where = (topic, partition)
        self.bytes += len(value or b"")
        batch = self._open.get(where)
        if batch is not None and (batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is not None):
            return
        size = self._settings.batch_bytes
        batch = self._producer.batch(min(size, self._limits.get(topic, size)))
        batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
        self._open[where] = batch
        self.writes.append(Write(topic, partition, batch))
