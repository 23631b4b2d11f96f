"""The two clusters that the suite runs on, and what it needs of them beside `streams.ports.Kafka`."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as aio

from streams.kafka.cluster import Cluster
from streams.ports import GroupOffsets, Kafka
from streams.settings.settings import Settings
from tests.broker.other_groups import share_member
from tests.fakes.broker import Broker
from tests.fakes.dispatcher import FakeDispatcher
from tests.fakes.groups import UnknownMember
from tests.fakes.kafka import FakeKafka
from tests.support.names import given, own_name, remove_topics
from tests.support.patience import WAIT_S, stretched_ms

_Value = TypeVar("_Value")


async def eventually(look: Callable[[], Awaitable[_Value]], wanted: _Value) -> None:
    """Wait until a look finds what is wanted."""
    found: object = None
    try:
        async with asyncio.timeout(WAIT_S):
            while (found := await look()) != wanted:
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it is {found!r} and does not become {wanted!r}") from None


class OpenTransaction(Protocol):
    async def commit(self) -> None: ...
    async def abort(self) -> None: ...


class Member(Protocol):
    async def poll(self, count: int) -> list[bytes]:
        """The keys of `count` messages."""
        ...

    async def commit(self) -> bool:
        """Whether it was accepted."""
        ...

    async def close(self) -> None: ...


class Rig(Protocol):
    kafka: Kafka

    async def topic(
        self, partitions: int = 1, max_message_bytes: int | None = None, older_ms: int | None = None
    ) -> str: ...
    async def delete(self, topic: str) -> None: ...
    async def write(self, topic: str, keys: Sequence[bytes], partition: int = 0) -> None: ...
    async def open_transaction(
        self,
        topic: str,
        keys: Sequence[bytes],
        *,
        transactional_id: str | None = None,
        offsets: GroupOffsets | None = None,
    ) -> OpenTransaction: ...
    async def member(self, group: str, topic: str) -> Member: ...
    async def share_member(self, group: str, topic: str) -> None: ...
    async def commit_without_membership(self, group: str, topic: str, offsets: Mapping[int, int]) -> bool: ...
    async def close(self) -> None: ...


# ---- the model


class FakeRig:
    """Over a `FakeKafka`."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.broker = Broker()
        self.kafka = FakeKafka(self.broker, self.settings)
        self._numbers = itertools.count()

    async def topic(
        self, partitions: int = 1, max_message_bytes: int | None = None, older_ms: int | None = None
    ) -> str:
        name = f"t{next(self._numbers)}"
        self.broker.create(name, partitions, max_message_bytes or 1_048_588)
        if older_ms is not None:
            self.broker.topics[name].timestamp_limits = (older_ms, 1 << 62)
        return name

    async def delete(self, topic: str) -> None:
        self.broker.delete(topic)

    async def write(self, topic: str, keys: Sequence[bytes], partition: int = 0) -> None:
        self.broker.topics[topic].logs[partition].append([(1, key, b"v", ()) for key in keys])

    async def open_transaction(
        self,
        topic: str,
        keys: Sequence[bytes],
        *,
        transactional_id: str | None = None,
        offsets: GroupOffsets | None = None,
    ) -> OpenTransaction:
        id = transactional_id or f"id{next(self._numbers)}"
        self.broker.take_over(id)
        transaction = self.broker.begin(id, 60)
        if keys:
            self.broker.topics[topic].logs[0].append([(1, key, b"v", ()) for key in keys], transaction)
        if offsets is not None:
            group = self.broker.group(offsets.group)
            group.commit_pending(transaction, {(offsets.topic, p): o for p, o in offsets.offsets.items()})
        broker = self.broker

        class Open:
            async def commit(self) -> None:
                broker.decide(transaction, commit=True)

            async def abort(self) -> None:
                broker.decide(transaction, commit=False)

        return Open()

    async def member(self, group: str, topic: str) -> Member:
        return _FakeMember(FakeDispatcher(self.broker, group, topic))

    async def share_member(self, group: str, topic: str) -> None:
        self.broker.group(group).kind = "share"

    async def commit_without_membership(self, group: str, topic: str, offsets: Mapping[int, int]) -> bool:
        try:
            self.broker.group(group).commit(None, -1, {(topic, p): o for p, o in offsets.items()})
        except UnknownMember:
            return False
        return True

    async def close(self) -> None:
        return


class _FakeMember:
    def __init__(self, dispatcher: FakeDispatcher) -> None:
        self._dispatcher = dispatcher
        dispatcher.join()

    async def poll(self, count: int) -> list[bytes]:
        got: list[bytes] = []
        async with asyncio.timeout(WAIT_S):
            while len(got) < count:
                if not self._dispatcher.is_member:
                    self._dispatcher.join()
                got += [message.key or b"" for message in self._dispatcher.poll(1)]
                await asyncio.sleep(0.01)
        return got

    async def commit(self) -> bool:
        return self._dispatcher.commit()

    async def close(self) -> None:
        self._dispatcher.leave()


# ---- Kafka itself


class BrokerRig:
    """Over the embedded broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.settings = Settings(bootstrap_servers=bootstrap_servers)
        self.kafka = Cluster(self.settings)
        self._servers = bootstrap_servers
        self._first_name = len(given)
        self._closing: list[Any] = []
        self._exits = ExitStack()

    async def topic(
        self, partitions: int = 1, max_message_bytes: int | None = None, older_ms: int | None = None
    ) -> str:
        name = own_name("ports.")
        config = {"max.message.bytes": str(max_message_bytes)} if max_message_bytes else {}
        config |= {"message.timestamp.before.max.ms": str(older_ms)} if older_ms else {}
        assert await self.kafka._topics.create({name: partitions}, config, 1) == {}

        async def there() -> bool:
            return await self.kafka.topic(name) is not None

        await eventually(there, True)
        return name

    async def delete(self, topic: str) -> None:
        await self.kafka._topics.delete([topic])

        async def there() -> bool:
            return await self.kafka.topic(topic) is not None

        await eventually(there, False)

    async def write(self, topic: str, keys: Sequence[bytes], partition: int = 0) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self._servers) as producer:
            for key in keys:
                await producer.send_and_wait(topic, b"v", key=key, partition=partition)

    async def open_transaction(
        self,
        topic: str,
        keys: Sequence[bytes],
        *,
        transactional_id: str | None = None,
        offsets: GroupOffsets | None = None,
    ) -> OpenTransaction:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._servers, transactional_id=transactional_id or uuid.uuid4().hex
        )
        await producer.start()
        self._closing.append(producer)
        await producer.begin_transaction()
        for key in keys:
            await producer.send_and_wait(topic, b"v", key=key, partition=0)
        if offsets is not None:
            await producer.send_offsets_to_transaction(
                {TopicPartition(offsets.topic, p): o for p, o in offsets.offsets.items()}, offsets.group
            )

        class Open:
            async def commit(self) -> None:
                await producer.commit_transaction()

            async def abort(self) -> None:
                await producer.abort_transaction()

        return Open()

    async def member(self, group: str, topic: str) -> Member:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self._servers,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            heartbeat_interval_ms=300,
            session_timeout_ms=stretched_ms(6_000, 60_000),
        )
        await consumer.start()
        self._closing.append(consumer)
        return _BrokerMember(consumer)

    async def share_member(self, group: str, topic: str) -> None:
        self._exits.enter_context(share_member(self._servers, group, topic))

    async def commit_without_membership(self, group: str, topic: str, offsets: Mapping[int, int]) -> bool:
        async with AIOKafkaConsumer(
            bootstrap_servers=self._servers, group_id=group, enable_auto_commit=False
        ) as consumer:
            consumer.assign([TopicPartition(topic, p) for p in offsets])
            try:
                await consumer.commit({TopicPartition(topic, p): o for p, o in offsets.items()})
            except aio.CommitFailedError:
                return False
        return True

    async def close(self) -> None:
        for client in self._closing:
            try:
                async with asyncio.timeout(5):
                    await client.stop()
            except Exception:  # noqa: BLE001, S110 - fenced producers end in one error or another
                pass
        await asyncio.to_thread(self._exits.close)
        await self.kafka.close()
        await asyncio.to_thread(remove_topics, self._servers, *given[self._first_name :])


class _BrokerMember:
    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def poll(self, count: int) -> list[bytes]:
        got: list[bytes] = []
        async with asyncio.timeout(WAIT_S):
            while len(got) < count:
                fetched = await self._consumer.getmany(timeout_ms=100, max_records=count - len(got))
                got += [record.key for records in fetched.values() for record in records]
        return got

    async def commit(self) -> bool:
        try:
            await self._consumer.commit()
        except (aio.CommitFailedError, aio.IllegalStateError):
            return False
        return True

    async def close(self) -> None:
        await self._consumer.stop()
