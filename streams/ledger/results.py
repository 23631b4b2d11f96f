"""What has become of commands, for other services: one record per command in a public topic, the last one counts.

Each record is written in the transaction that makes it true (a claim, an end), by the producer that holds the command's
fence. So no worker that stood still writes over what came later, and no reader is told of an end that is none:
1. A worker is about to write that a command is claimed, and stands still.
2. Another worker takes the fence over, which ends that transaction; it claims, drains and writes the end.
3. The first worker goes on. Its transaction fails as a whole; the end stays the last value of the command's key.
Claims and ends don't rest on the topic. Where it is missing, the workers work, and warn. Where one of its partitions
can't be written, a transaction fails once, and then goes without for a minute. Ends that were not told so, or by an
earlier version that tells none, are told ten minutes later (`streams.worker.forgetting`).
"""

import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence

from streams.domain.result import result_of
from streams.domain.status import Status
from streams.errors import Rejected, Unavailable, XferqError
from streams.ports import GroupOffsets, Kafka, Producer
from streams.records import Write
from streams.settings.topics import TopicSettings
from streams.telemetry.health import Health

_log = logging.getLogger(__name__)
_WITHOUT_S = 60.0
"""For so long transactions go without, once one has failed for the topic's sake."""


class Results:
    """Writes to the topic, where it is there; `look` finds that out."""

    def __init__(self, kafka: Kafka, settings: TopicSettings, health: Health) -> None:
        self._kafka = kafka
        self._topic = settings.results_topic
        self._health = health
        self._partitions: int | None = None
        self._without_until = -_WITHOUT_S

    async def look(self) -> None:
        """See whether the topic is there; to be called every few seconds.

        Raises:
            Unavailable: Kafka does not answer.
        """
        topic = await self._kafka.topic(self._topic)
        if topic is None and not await self._kafka.is_gone(self._topic):
            return  # a broker tells of the past
        found = 0 if topic is None else topic.partitions
        if found != self._partitions:
            _log.info("results.topic partitions=%d (XFERQ_RESULTS_TOPIC; 0: missing)", found)
        self._partitions = found
        missing = f"no results are published: topic {self._topic} (XFERQ_RESULTS_TOPIC) is missing (`xferq topics`)"
        if not found or not self._goes_without:
            self._health.notes("results", None if found else missing)

    @property
    def _goes_without(self) -> bool:
        return not self._partitions or time.monotonic() < self._without_until

    async def transact(
        self,
        producer: Producer,
        status: Status | None,
        revision: int,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`Producer.transact`, with the record of this state, if there is one to be told.

        Raises as that does. Where the topic is to blame, it need only be tried again.
        """
        result = [] if status is None else self._writes(producer, status, revision)
        try:
            await producer.transact([*result, *writes], offsets, before_commit)
        except (Rejected, Unavailable) as error:
            if result and self._topic in error.topics:
                self._go_without(error)
            raise

    def _go_without(self, error: XferqError) -> None:
        self._without_until = time.monotonic() + _WITHOUT_S
        self._health.notes("results", f"no results are published for {_WITHOUT_S:.0f} s: {error}")
        _log.warning("results.without error=%s", error)

    def _writes(self, producer: Producer, status: Status, revision: int) -> list[Write]:
        if self._goes_without:
            return []
        batch = producer.batch()
        batch.append(timestamp=None, key=status.id.encode(), value=result_of(status, revision), headers=[])
        return [Write(self._topic, self._partition_of(status.id), batch)]

    async def publish(self, status: Status, revision: int) -> None:
        """The record of an end, outside any transaction, as nothing follows it. It may fail, which is said."""
        await self._publish(status.id, result_of(status, revision))

    async def forget(self, id: str) -> None:
        """Remove the command's record. It may fail, which is said: it is then there for ever."""
        await self._publish(id, None)

    async def _publish(self, id: str, value: bytes | None) -> None:
        if self._goes_without:
            return
        try:
            await self._kafka.publish(self._topic, [(id.encode(), value)], partition=self._partition_of(id))
        except XferqError as error:
            self._go_without(error)

    def _partition_of(self, id: str) -> int:
        return zlib.crc32(id.encode()) % (self._partitions or 1)
