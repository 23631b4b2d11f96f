"""What has become of commands, for other services: one record per command in a public topic, the last one counts.

Each record is written in the transaction that makes it true (a claim, an end), by the producer that holds the command's
fence. So no worker that stood still writes over what came later, and no reader is told of an end that is none:
1. A worker is about to write that a command is claimed, and stands still.
2. Another worker takes the fence over, which ends that transaction; it claims, drains and writes the end.
3. The first worker goes on. Its transaction fails as a whole; the end stays the last value of the command's key.
The topic may be missing: the workers work, and warn.
"""

import logging
import zlib

from streams.domain.result import result_of
from streams.domain.status import Status
from streams.ports import Kafka, Producer
from streams.records import Write
from streams.settings.topics import TopicSettings
from streams.telemetry.health import Health

_log = logging.getLogger(__name__)


class Results:
    """Writes to the topic, where it is there; `look` finds that out."""

    def __init__(self, kafka: Kafka, settings: TopicSettings, health: Health) -> None:
        self._kafka = kafka
        self._topic = settings.results_topic
        self._health = health
        self._partitions: int | None = None

    async def look(self) -> None:
        """See whether the topic is there; to be called every few seconds.

        Raises:
            Unavailable: Kafka does not answer.
        """
        topic = await self._kafka.topic(self._topic)
        found = 0 if topic is None else topic.partitions
        if found != self._partitions:
            _log.info("results.topic partitions=%d (XFERQ_RESULTS_TOPIC; 0: missing)", found)
        self._partitions = found
        missing = f"no results are published: topic {self._topic} (XFERQ_RESULTS_TOPIC) is missing (`xferq topics`)"
        self._health.notes("results", None if found else missing)

    def writes(self, producer: Producer, status: Status, revision: int) -> list[Write]:
        """The record of this state, as part of a transaction; none where the topic is missing."""
        if not self._partitions:
            return []
        batch = producer.batch()
        batch.append(timestamp=None, key=status.id.encode(), value=result_of(status, revision), headers=[])
        return [Write(self._topic, self._partition_of(status.id), batch)]

    async def publish(self, status: Status, revision: int) -> None:
        """The record of this state, outside any transaction: where no other process can write of the command.

        Raises:
            XferqError: it could not be written; it may have been.
        """
        await self._publish(status.id, result_of(status, revision))

    async def forget(self, id: str) -> None:
        """Remove the command's record. Raises as `publish`."""
        await self._publish(id, None)

    async def _publish(self, id: str, value: bytes | None) -> None:
        if self._partitions:
            await self._kafka.publish(self._topic, [(id.encode(), value)], partition=self._partition_of(id))

    def _partition_of(self, id: str) -> int:
        return zlib.crc32(id.encode()) % (self._partitions or 1)
