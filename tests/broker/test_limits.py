"""What Kafka turns down, and answers that come late or never: nothing of it outlasts its cause."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.errors import OutcomeUnknown, Refused, Unavailable
from streams.kafka import topics as topics_module
from streams.kafka.cluster import Cluster
from streams.kafka.connection import Connection
from streams.kafka.contents import read_contents
from streams.kafka.topics import Topics
from streams.records import Write
from streams.settings.settings import Settings
from tests.support.names import given, own_name, remove_topics
from tests.support.patience import WAIT_S, stretched_ms

pytestmark = pytest.mark.nodes


@pytest.fixture
async def kafka(broker: EmbeddedBroker) -> AsyncIterator[Cluster]:
    """The shared broker, asked with little patience."""
    settings: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap_servers,
        "request_timeout_ms": stretched_ms(3_000),
    }
    async with Cluster(Settings(**settings)) as cluster:
        first = len(given)
        yield cluster
    remove_topics(broker.bootstrap_servers, *given[first:])


@pytest.fixture
async def topic(kafka: Cluster) -> str:
    """A new topic of one partition."""
    name = own_name("limits")
    await Topics(kafka.connection).create({name: 1}, {}, 1)
    while await kafka.topic(name) is None:
        await asyncio.sleep(0.02)
    return name


async def values(connection: Connection, topic: str) -> list[bytes | None]:
    found = await asyncio.to_thread(read_contents, connection, {topic: {}})
    return [record.value for record in found[topic]]


async def test_a_record_that_is_turned_down_does_not_shut_its_partition_for_those_after_it(
    kafka: Cluster, topic: str
) -> None:
    """One transfer with a megabyte of queue names, and every command after it in that partition was lost."""
    await kafka.publish(topic, [(b"k", b"before")])
    with pytest.raises(Refused):
        await kafka.publish(topic, [(b"k", bytes(2_000_000))])
    await kafka.publish(topic, [(b"k", b"after")])
    assert await values(kafka.connection, topic) == [b"before", b"after"]


async def test_many_topics_are_created_in_several_requests(kafka: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka turns down a whole request for 10,000 partitions or more: one batch of messages can need as many."""
    monkeypatch.setattr(topics_module, "_AT_ONCE", 5)
    wanted = {own_name("limits"): partitions for partitions in (2, 2, 7, 1, 3, 1)}
    failures = await Topics(kafka.connection).create({**wanted, "not/a/name": 1}, {}, 1)
    assert list(failures) == ["not/a/name"]
    async with asyncio.timeout(WAIT_S):
        while not wanted.keys() <= set(await kafka.topics()):
            await asyncio.sleep(0.1)


async def test_a_topic_that_can_t_be_created_just_now_is_none_that_can_t_be_created() -> None:
    """Messages for it would go back to the tail, and the cancel would have done nothing for them."""
    with EmbeddedBroker() as broker:  # which makes the topic all the same, once it goes on
        settings = Settings(bootstrap_servers=broker.bootstrap_servers, request_timeout_ms=stretched_ms(3_000))
        async with Cluster(settings) as kafka:
            await kafka.topics()
            broker.pause()
            try:
                with pytest.raises(Unavailable):
                    await kafka.create([f"queue.{own_name('limits')}"])
            finally:
                broker.resume()


async def test_a_producer_whose_commit_was_answered_late_is_spent(
    kafka: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka asks again; the first request, still under way, would commit half of the next transaction."""
    producer = await kafka.producer(f"{topic}.id")
    try:
        batch = producer.batch()
        batch.append(timestamp=None, key=b"k", value=b"v", headers=[])
        commit = producer._producer.commit_transaction

        async def late() -> None:
            await commit()
            await asyncio.sleep(kafka.settings.request_timeout_ms / 1000 + 0.2)

        monkeypatch.setattr(producer._producer, "commit_transaction", late)
        with pytest.raises(OutcomeUnknown):
            await producer.transact([Write(topic, 0, batch)])
    finally:
        await producer.close()
    assert await values(kafka.connection, topic) == [b"v"]


async def test_looking_for_a_topic_does_not_create_it() -> None:
    """By default Kafka creates what it is asked for, with a retention of seven days: messages would vanish."""
    with EmbeddedBroker(settings={"auto.create.topics.enable": "true"}) as broker:
        settings: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers}
        async with Cluster(Settings(**settings)) as kafka:
            producer = await kafka.producer("id")
            assert await producer.partitions(["queue.new.example"]) == {}
            assert await kafka.create(["queue.new.example"]) == {}
            while not await producer.partitions(["queue.new.example"]):
                await asyncio.sleep(0.05)
            await producer.close()
            config = await Topics(kafka.connection).config("queue.new.example")
            assert config["retention.ms"] == "-1"


async def test_an_offset_that_is_not_told_is_no_offset(
    kafka: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka gives -1001, without an error, where a leader that just went away did not answer for a partition.
    A claim took that for the end of the log: it called the topic truncated, and refused the cancel."""
    real = type(kafka.connection.admin).list_offsets

    def with_a_gap(*args: Any, **kwargs: Any) -> Any:
        futures = real(*args, **kwargs)
        for future in futures.values():
            future.result().offset = -1001
        return futures

    assert await kafka.stable_ends(topic, [0]) == {0: 0}
    monkeypatch.setattr(type(kafka.connection.admin), "list_offsets", with_a_gap)
    for offsets_of in (kafka.stable_ends, kafka.high_watermarks, kafka.log_starts):
        with pytest.raises(Unavailable, match="partition 0"):
            await offsets_of(topic, [0])
