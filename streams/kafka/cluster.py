"""A Kafka cluster as the engine sees it: `streams.ports.Kafka` on aiokafka and confluent-kafka."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from aiokafka import AIOKafkaProducer

from streams.domain.depth import Claimed, QueueDepth
from streams.errors import OutcomeUnknown, Unavailable, XferqError
from streams.kafka.connection import Connection
from streams.kafka.depths import Depths
from streams.kafka.groups import Groups
from streams.kafka.hold import ClassicHold, Kip848Hold, take_hold
from streams.kafka.marker import Marker
from streams.kafka.reader import RangeReader, TopicTail, open_reader, open_tail
from streams.kafka.subscriptions import Subscription
from streams.kafka.topics import KEEPS_ALL, QUEUE_CONFIG, Topics
from streams.kafka.transaction import TransactionalProducer, open_producer
from streams.kafka.translate import translating
from streams.ports import Topic
from streams.records import Header
from streams.settings.settings import Settings

_ANY_MS = 2**63 - 1


class Cluster:
    """One Kafka cluster; see `streams.ports.Kafka` for what each method promises."""

    def __init__(self, settings: Settings, bootstrap_servers: str | None = None) -> None:
        self.settings = settings
        self.connection = Connection(settings, bootstrap_servers)
        self._topics = Topics(self.connection)
        self._groups = Groups(self.connection)
        self._marker = Marker(self.connection)
        self._depths = Depths(self.connection, self._groups, self._topics)
        self._publisher: AIOKafkaProducer | None = None
        self._publisher_lock = asyncio.Lock()

    async def __aenter__(self) -> "Cluster":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def topics(self, *, everywhere: bool = False) -> list[str]:
        return await (self._topics.names_everywhere() if everywhere else self._topics.names())

    async def topic(self, name: str) -> Topic | None:
        return await self._topics.describe(name)

    async def ids(self, topic: str) -> set[str]:
        return await self._topics.ids(topic)

    async def is_gone(self, topic: str) -> bool:
        return await self._topics.is_free(topic, self.settings.replication_factor)

    async def create(self, names: Collection[str]) -> dict[str, str]:
        failures: dict[str, str] = dict.fromkeys(names, "")
        for config in (QUEUE_CONFIG, KEEPS_ALL):  # some clusters let nobody set the rest; the worker says what differs
            if failures:
                partitions = dict.fromkeys(failures, self.settings.queue_partitions)
                failures = await self._topics.create(partitions, config, self.settings.replication_factor)
        return failures

    async def high_watermarks(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        return await self._topics.ends(topic, partitions, stable=False, latest_of=latest_of)

    async def stable_ends(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        return await self._topics.ends(topic, partitions, stable=True, latest_of=latest_of)

    async def log_starts(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return await self._topics.starts(topic, partitions)

    async def delete_before(self, topic: str, offsets: Mapping[int, int]) -> None:
        await self._topics.delete_before(topic, offsets)

    async def depths(self, claimed: Claimed, is_wanted: Callable[[str], bool]) -> list[QueueDepth]:
        return await self._depths.look(claimed, is_wanted)

    async def max_message_bytes(self, topic: str) -> int:
        config = await self._topics.config(topic)
        return int(config["max.message.bytes"])

    async def timestamp_limits(self, topic: str) -> tuple[int, int]:
        config = await self._topics.config(topic)
        older, newer = (config.get(f"message.timestamp.{which}.max.ms") for which in ("before", "after"))
        return (_ANY_MS if older is None else int(older)), (_ANY_MS if newer is None else int(newer))

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, stable: bool = True
    ) -> dict[int, int]:
        return await self._groups.committed(group, topic, partitions, stable=stable)

    async def stamped(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return await self._groups.stamped(group, topic, partitions)

    async def members(self, group: str) -> set[str]:
        return await self._groups.members(group)

    async def subscriptions(self) -> list[Subscription]:
        """All groups that have members and that we may look at, with the topics that they subscribe to."""
        return await self._groups.subscriptions()

    async def may_join(self, group: str) -> bool:
        """Whether Kafka lets us be a member of the group."""
        return await self._groups.may_join(group)

    async def evict(self, group: str, members: Collection[str]) -> None:
        await self._groups.evict(group, members)

    async def hold(self, group: str) -> ClassicHold | Kip848Hold | None:
        return await take_hold(self._groups, self.connection, group)

    async def producer(self, transactional_id: str) -> TransactionalProducer:
        return await open_producer(self.connection, transactional_id)

    async def reader(self, topic: str, partition: int, start: int, end: int) -> RangeReader:
        return await open_reader(self.connection, topic, partition, start, end)

    async def tail(self, topic: str, starts: Mapping[int, int]) -> TopicTail:
        return await open_tail(self.connection, topic, starts)

    async def mark(self, topic: str, partition: int, key: bytes, headers: Sequence[Header]) -> None:
        await self._marker.write(topic, partition, key, headers)

    async def publish(
        self,
        topic: str,
        records: Sequence[tuple[bytes, bytes | None]],
        partition: int | None = None,
        headers: Sequence[Header] = (),
    ) -> None:
        connected = False
        try:
            # All of it together: a caller that waits for another one to connect has no more time than that one.
            async with asyncio.timeout(self.settings.request_timeout_ms / 1000):
                producer = await self._publishing()
                connected = True
                with translating(f"publishing to {topic}", f"Write on topic {topic}"):
                    futures = [
                        await producer.send(topic, value, key=key, partition=partition, headers=list(headers))
                        for key, value in records
                    ]
                    await asyncio.gather(*futures)
        except TimeoutError as error:
            if not connected:
                raise Unavailable(f"publishing to {topic}: Kafka can't be reached in time") from error
            await self._drop_publisher()
            raise OutcomeUnknown(f"publishing to {topic}: no answer in time") from error
        except XferqError:
            # What was turned down has used up its sequence number: Kafka would take nothing of this producer's
            # in that partition any more.
            await self._drop_publisher()
            raise

    async def _publishing(self) -> AIOKafkaProducer:
        async with self._publisher_lock:
            if self._publisher is None or self._publisher._sender.sender_task.done():
                await self._drop_publisher()
                producer = AIOKafkaProducer(
                    **self.connection.client("publish"), enable_idempotence=True, max_request_size=4 << 20
                )
                try:
                    with translating("connecting"):
                        await producer.start()
                except BaseException:
                    await TransactionalProducer(producer, self.connection).close()
                    raise
                self._publisher = producer
            return self._publisher

    async def _drop_publisher(self) -> None:
        producer, self._publisher = self._publisher, None
        if producer is not None:
            await TransactionalProducer(producer, self.connection).close()

    async def close(self) -> None:
        """Close every connection that this object keeps warm."""
        await self._drop_publisher()
        await self._marker.close()
        await self.connection.close()
