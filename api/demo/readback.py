"""Reading back what lies in Kafka, apart from the engine: another library, and nothing but topics and offsets."""

import asyncio
import time
from collections.abc import Mapping, Sequence

from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.contents import StoredRecord, read_contents
from streams.settings.topics import TopicSettings

_POLL_S = 0.02
_SETTLED_S = 60.0
Records = Sequence[StoredRecord]


class Readback:
    """Reads queues as dispatchers would, and whole topics; all that was written before is seen."""

    def __init__(self, kafka: Cluster, settings: TopicSettings) -> None:
        self._kafka = kafka
        self._settings = settings

    async def queues(self, *names: str) -> dict[str, Records]:
        """What the queues hold, by name: all from the head on, which is what their dispatchers have committed.

        Raises:
            Unavailable: Kafka is away, or a transaction does not end.
        """
        heads: dict[str, Mapping[int, int]] = {}
        for name in names:
            heads[topic_of(name)] = await self._heads(topic_of(name))
        found = await self._read(heads)
        return {name: found[topic_of(name)] for name in names}

    async def topic(self, name: str) -> Records:
        """All that is in a topic. Raises as `queues`."""
        return (await self._read({name: {}}))[name]

    async def _read(self, starts: Mapping[str, Mapping[int, int]]) -> dict[str, Records]:
        await asyncio.gather(*(self._settle(topic) for topic in starts))
        return await asyncio.to_thread(read_contents, self._kafka.connection, starts)

    async def _heads(self, topic: str) -> Mapping[int, int]:
        """The committed offsets, once no transaction that commits any is pending."""
        group, partitions = self._settings.group_of(topic), range(await self._partitions(topic))
        deadline = time.monotonic() + _SETTLED_S
        while True:
            try:
                return await self._kafka.committed(group, topic, partitions)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(_POLL_S)

    async def _settle(self, topic: str) -> None:
        """Wait until readers of committed records see all that is in the topic.

        A transaction's last step, its markers, may follow half a second after its commit was answered.
        """
        partitions = range(await self._partitions(topic))
        marks = await self._kafka.high_watermarks(topic, partitions)
        deadline = time.monotonic() + _SETTLED_S
        while any(end < marks[p] for p, end in (await self._kafka.stable_ends(topic, partitions)).items()):
            if time.monotonic() > deadline:
                raise Unavailable(f"a transaction in topic {topic} does not end")
            await asyncio.sleep(_POLL_S)

    async def _partitions(self, topic: str) -> int:
        found = await self._kafka.topic(topic)
        return found.partitions if found else 0
