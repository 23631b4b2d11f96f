"""Where drained messages go: the destination topics, what they take, and the batches bound for them."""

import asyncio
import time
from collections.abc import Collection, Mapping

from streams.domain.envelope import ReturnReason
from streams.errors import Rejected, Unavailable
from streams.ports import Batch, Header, Kafka, Producer, Record, Write
from streams.settings import Settings
from streams.transform import Moved

_LOG_HEADERS: list[Header] = [("type", b"AdminRebind")]
_VISIBLE_S = 10.0


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

    async def prepare(self, producer: Producer, topics: Collection[str]) -> dict[str, int]:
        """The partition count of each destination, and of the log; those that can't be had are left out.

        Creates all missing ones in one request and loads their metadata in another.

        Raises:
            Unavailable: a topic that was created did not show up in time.
        """
        wanted = {*topics, self._settings.log_topic, self._source} - self.refused.keys()
        found = await producer.partitions(wanted)
        missing = wanted - found.keys() - {self._settings.log_topic, self._source}
        if missing:
            self.refused |= await self._kafka.create(missing)
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

    async def learn(self, rejected: Rejected) -> None:
        """Remember why writes were turned down, so that the next try leaves them out.

        What the source, the log or the ledger turns down for another reason than size can't be left out: the
        drain tries again until the topic takes it.
        """
        for (topic, _), why in rejected.reasons.items():
            if why == "too_large":
                limit = await self._kafka.max_message_bytes(topic)
                # Turned down although it kept to the limit: the topic counts otherwise than we do.
                self.limits[topic] = limit if self.limits.get(topic) != limit else limit * 9 // 10
            elif topic not in (self._source, self._settings.log_topic, self._settings.ledger_topic):
                self.refused[topic] = why


class Outbox:
    """The batches of one transaction, by destination partition, in the order in which they were filled."""

    def __init__(
        self,
        producer: Producer,
        settings: Settings,
        destinations: Destinations,
        source: str,
        partitions: Mapping[str, int],
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._limits = destinations.limits
        self._source = source
        self._partitions = partitions
        self._open: dict[tuple[str, int], Batch] = {}
        self.writes: list[Write] = []
        self.restored = 0
        self.returned = 0

    def move(self, record: Record, topic: str, message: Moved) -> ReturnReason | None:
        """Add a moved message and its log record; why neither can be, where that is so.

        The destination's partition is the source's modulo their count: keeps the order of the source.
        """
        count = self._partitions.get(topic)
        if count is None:
            return ReturnReason.DESTINATION_UNAVAILABLE
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
        """Add a message as it is to the tail of the partition that it came from."""
        headers = list(record.headers)
        if self._source in self._limits and not self._fits(self._source, record.key, record.value, headers):
            # It was there once, compressed by whoever wrote it.
            batch = self._producer.batch(1, compression="zstd")
            batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=headers)
            self.writes.append(Write(self._source, record.partition, batch))
            self._open.pop((self._source, record.partition), None)
            return
        self._add(self._source, record.partition, record.timestamp, record.key, record.value, headers)

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
        batch = self._open.get(where)
        if batch is not None and (batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is not None):
            return
        size = self._settings.batch_bytes
        batch = self._producer.batch(min(size, self._limits.get(topic, size)))
        batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
        self._open[where] = batch
        self.writes.append(Write(topic, partition, batch))
